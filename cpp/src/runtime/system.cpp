#include "runtime/system.h"

#include <algorithm>
#include <cstdlib>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>

#include <csignal>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#elif defined(_WIN32)
#include <malloc.h>
#endif

namespace rnnfast::core {

#if defined(_WIN32)
void* allocate_aligned(size_t bytes, size_t alignment) { return _aligned_malloc(bytes, alignment); }
void free_aligned(void* memory) noexcept { _aligned_free(memory); }
#else
void* allocate_aligned(size_t bytes, size_t alignment) { return std::aligned_alloc(alignment, bytes); }
void free_aligned(void* memory) noexcept { std::free(memory); }
#endif

#if defined(__linux__)
bool advise_huge_pages(void* memory, size_t bytes) { return madvise(memory, bytes, MADV_HUGEPAGE) == 0; }

int cores_of_affinity() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, static_cast<int>(CPU_COUNT(&set))) : 0;
}
#else
bool advise_huge_pages(void*, size_t) { return true; }

int cores_of_affinity() { return 0; }
#endif

#if defined(__unix__) || defined(__APPLE__)
struct SignalsBlocked::Before {
    sigset_t mask;
};

SignalsBlocked::SignalsBlocked() : before_(std::make_unique<Before>()) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_->mask);
}

SignalsBlocked::~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_->mask, nullptr); }
#else
struct SignalsBlocked::Before {};

SignalsBlocked::SignalsBlocked() = default;
SignalsBlocked::~SignalsBlocked() = default;
#endif

#if (defined(__unix__) || defined(__APPLE__)) && !defined(__EMSCRIPTEN__)
void at_fork_in_child(void (*function)()) { pthread_atfork(nullptr, nullptr, function); }
#else
void at_fork_in_child(void (*)()) {}
#endif

}  // namespace rnnfast::core
