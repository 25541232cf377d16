// Memory for numbers: 64-byte aligned, owned, never copied implicitly.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace rnnfast::core {

constexpr size_t alignment = 64;  // a cache line, and the widest vector

// The program's own memory, in place of the system's; without functions, the system's again. Throws std::logic_error
// while there are blocks, because a block must go back to where it came from.
struct MemorySource {
    void* (*allocate)(void* user, size_t bytes, size_t alignment) = nullptr;
    void (*release)(void* user, void* memory) = nullptr;
    void* user = nullptr;
};
void set_memory_source(const MemorySource& source);

// Allocates aligned memory or throws std::bad_alloc; release() frees it. Large blocks of the system request huge pages.
void* allocate(size_t bytes);
void release(void* memory) noexcept;

class Buffer {
public:
    Buffer() = default;
    explicit Buffer(size_t size) : Buffer(size, Uninitialised{}) { zero(); }

    struct Uninitialised {};
    // For memory that is written before it is read, because zeroing a large buffer costs a pass over it.
    Buffer(size_t size, Uninitialised) : size_(size) {
        if (size == 0) return;
        if (size > static_cast<size_t>(-1) / (2 * sizeof(float))) throw std::bad_alloc();
        data_.reset(static_cast<float*>(allocate(size * sizeof(float))));
    }

    float* data() { return data_.get(); }
    const float* data() const { return data_.get(); }
    size_t size() const { return size_; }
    void zero() {
        if (size_) std::memset(data_.get(), 0, size_ * sizeof(float));
    }
    // At least `size` floats; the contents are lost if the buffer grows.
    void reserve(size_t size) {
        if (size > size_) *this = Buffer(size, Uninitialised{});
    }

private:
    struct Free {
        void operator()(float* p) const { release(p); }
    };
    std::unique_ptr<float, Free> data_;
    size_t size_ = 0;
};

constexpr size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace rnnfast::core
