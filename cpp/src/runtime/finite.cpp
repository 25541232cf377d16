#include "runtime/finite.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace rnnfast::core {

namespace {

// Nonzero if the exponent is all ones: only then does the addition reach the sign bit.
uint32_t not_finite(const float* x) {
    uint32_t bits;
    std::memcpy(&bits, x, sizeof bits);
    return ((bits & 0x7f800000u) + 0x00800000u) & 0x80000000u;
}

}  // namespace

size_t first_not_finite(const float* x, size_t size) {
    constexpr size_t block = 4096;
    for (size_t first = 0; first < size; first += block) {
        const size_t end = std::min(size, first + block);
        uint32_t found = 0;
        for (size_t i = first; i < end; ++i) found |= not_finite(x + i);
        for (size_t i = first; found && i < end; ++i)
            if (not_finite(x + i)) return i;
    }
    return size;
}

}  // namespace rnnfast::core
