// What a C++ library for WebAssembly without threads and exceptions lacks. An error ends the program with its sentence.
// All are weak: a C++ library that has them is preferred.
#if defined(__wasi__) && !defined(__WASM_EXCEPTIONS__)

#include <cstdio>
#include <cstdlib>
#include <exception>

extern "C" {

int __cxa_atexit(void (*function)(void*), void* object, void* library) noexcept;

// The only thread ends with the program.
__attribute__((weak)) int __cxa_thread_atexit(void (*function)(void*), void* object, void* library) noexcept {
    return __cxa_atexit(function, object, library);
}

__attribute__((weak)) void* __cxa_allocate_exception(size_t bytes) noexcept { return std::malloc(bytes); }

// All that this library throws begins with a std::exception.
[[noreturn]] __attribute__((weak)) void __cxa_throw(void* thrown, void*, void (*)(void*)) {
    std::fprintf(stderr, "%s\n", static_cast<const std::exception*>(thrown)->what());
    std::abort();
}

}  // extern "C"

#endif
