#include "runtime/buffer.h"

#if defined(__linux__)
#include <sys/mman.h>
#elif defined(_WIN32)
#include <malloc.h>
#endif

namespace rnnfast::core {

void* allocate(size_t bytes) {
    // With 4 KB pages, weights and gates of several MB overflow the TLB; huge pages make LSTM training at H = 650 4%
    // faster.
    constexpr size_t huge_page = 2u << 20;
    const bool huge = bytes >= 2 * huge_page;
    const size_t multiple = huge ? huge_page : alignment;
#if defined(_WIN32)
    void* memory = _aligned_malloc(round_up(bytes, multiple), multiple);
#else
    void* memory = std::aligned_alloc(multiple, round_up(bytes, multiple));
#endif
    if (!memory) throw std::bad_alloc();
#if defined(__linux__)
    if (huge)
        madvise(memory, round_up(bytes, multiple), MADV_HUGEPAGE);  // only a hint: if it fails, the pages stay small
#endif
    return memory;
}

void release(void* memory) noexcept {
#if defined(_WIN32)
    _aligned_free(memory);
#else
    std::free(memory);
#endif
}

}  // namespace rnnfast::core
