#include "runtime/buffer.h"

#include <atomic>
#include <stdexcept>
#include <string>

#include "runtime/log.h"
#include "runtime/system.h"

namespace rnnfast::core {

namespace {

MemorySource source;
std::atomic<size_t> blocks{0};

void* allocate_from_system(size_t bytes) {
    // With 4 KB pages, weights and gates of several MB overflow the TLB; huge pages make LSTM training at H = 650 4%
    // faster.
    constexpr size_t huge_page = 2u << 20;
    const bool huge = bytes >= 2 * huge_page;
    const size_t multiple = huge ? huge_page : alignment;
    void* memory = allocate_aligned(round_up(bytes, multiple), multiple);
    if (memory && huge && !advise_huge_pages(memory, round_up(bytes, multiple)))
        if (static std::atomic<bool> reported{false}; !reported.exchange(true))
            report(LogLevel::warning, {"large models are slower than they could be: the system refuses huge pages"});
    return memory;
}

}  // namespace

void set_memory_source(const MemorySource& given) {
    if (const size_t held = blocks.load())
        throw std::logic_error("set_allocator: the library holds " + std::to_string(held) +
                               (held == 1 ? " block" : " blocks") +
                               " of memory; set it before anything else is called");
    source = given;
}

void* allocate(size_t bytes) {
    void* memory = source.allocate ? source.allocate(source.user, round_up(bytes, alignment), alignment)
                                   : allocate_from_system(bytes);
    if (!memory) throw std::bad_alloc();
    blocks.fetch_add(1, std::memory_order_relaxed);
    return memory;
}

void release(void* memory) noexcept {
    if (!memory) return;
    source.release ? source.release(source.user, memory) : free_aligned(memory);
    blocks.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace rnnfast::core
