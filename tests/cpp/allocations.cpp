// Counts every allocation of the library: containers and functions through new, Buffer through aligned_alloc,
// which the linker redirects (--wrap).
#include "allocations.h"

#include <cstdlib>
#include <new>

std::atomic<long> rnnfast::tests::allocations{0};

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RNNFAST_TESTS_TSAN
#endif
#endif

#ifdef RNNFAST_TESTS_TSAN  // its runtime defines new itself, and calls this for any memory that anybody asks for
extern "C" void __sanitizer_malloc_hook(const volatile void*, size_t) { ++rnnfast::tests::allocations; }
#else
void* operator new(size_t size) {
    ++rnnfast::tests::allocations;
    if (void* memory = std::malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
    ++rnnfast::tests::allocations;
    return std::malloc(size ? size : 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif

extern "C" {
void* __real_aligned_alloc(size_t alignment, size_t size);
void* __wrap_aligned_alloc(size_t alignment, size_t size) {
    ++rnnfast::tests::allocations;
    return __real_aligned_alloc(alignment, size);
}
}
