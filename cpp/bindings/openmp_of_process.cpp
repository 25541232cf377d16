#include "bindings/openmp_of_process.h"

#include <atomic>
#include <cstring>
#include <mutex>

#include "runtime/fork.h"

#if defined(__linux__) && __has_include(<link.h>)
#include <dlfcn.h>
#include <link.h>
#define RNNFAST_HAS_LINK_MAP
#endif

namespace rnnfast::bindings {

#ifdef RNNFAST_HAS_LINK_MAP

namespace {

struct Runtime {
    void* library;
    std::string file;
};

bool is_openmp(const char* file) {
    const char* slash = std::strrchr(file, '/');
    const char* name = slash ? slash + 1 : file;
    for (const char* start : {"libgomp", "libiomp5", "libomp"})
        if (std::strncmp(name, start, std::strlen(start)) == 0) return true;
    return false;
}

// The first that was loaded, or null. It stays loaded: other modules are never unloaded either.
const Runtime* search() {
    std::string file;
    dl_iterate_phdr(
        [](dl_phdr_info* object, size_t, void* found) {
            if (!object->dlpi_name || !is_openmp(object->dlpi_name)) return 0;
            *static_cast<std::string*>(found) = object->dlpi_name;
            return 1;
        },
        &file);
    void* const library = file.empty() ? nullptr : dlopen(file.c_str(), RTLD_NOLOAD | RTLD_NOW | RTLD_LOCAL);
    if (!library) return nullptr;
    static Runtime runtime;
    runtime = {library, file};
    return &runtime;
}

// How many libraries this process has loaded so far.
unsigned long long loaded_libraries() {
    unsigned long long count = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* object, size_t, void* to) {
            *static_cast<unsigned long long*>(to) = object->dlpi_adds;
            return 1;
        },
        &count);
    return count;
}

// Searched for again when libraries have been loaded since, until it is found.
const Runtime* runtime_of_process() {
    static std::atomic<const Runtime*> found{nullptr};
    static std::atomic<unsigned long long> searched{0};
    static core::ForkSafeMutex mutex;
    if (const Runtime* runtime = found.load(std::memory_order_acquire)) return runtime;
    const unsigned long long loaded = loaded_libraries();
    if (searched.load(std::memory_order_relaxed) == loaded) return nullptr;
    const std::lock_guard<core::ForkSafeMutex> lock(mutex);
    if (const Runtime* runtime = found.load(std::memory_order_acquire)) return runtime;
    found.store(search(), std::memory_order_release);
    searched.store(loaded, std::memory_order_relaxed);
    return found.load(std::memory_order_relaxed);
}

}  // namespace

void* function_of_openmp(const char* name) {
    const Runtime* const runtime = runtime_of_process();
    return runtime ? dlsym(runtime->library, name) : nullptr;
}

std::string openmp_of_process() {
    const Runtime* const runtime = runtime_of_process();
    return runtime ? runtime->file : "";
}

#else

void* function_of_openmp(const char*) { return nullptr; }
std::string openmp_of_process() { return {}; }

#endif

}  // namespace rnnfast::bindings
