#include "runtime/buffer.h"

#include "runtime/system.h"

namespace rnnfast::core {

void* allocate(size_t bytes) {
    // With 4 KB pages, weights and gates of several MB overflow the TLB; huge pages make LSTM training at H = 650 4%
    // faster.
    constexpr size_t huge_page = 2u << 20;
    const bool huge = bytes >= 2 * huge_page;
    const size_t multiple = huge ? huge_page : alignment;
    void* memory = allocate_aligned(round_up(bytes, multiple), multiple);
    if (!memory) throw std::bad_alloc();
    if (huge) advise_huge_pages(memory, round_up(bytes, multiple));
    return memory;
}

void release(void* memory) noexcept { free_aligned(memory); }

}  // namespace rnnfast::core
