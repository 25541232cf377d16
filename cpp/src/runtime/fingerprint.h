// Whether floats that another program owns are still those that were packed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace rnnfast::core {

// A number that changes, but for a chance of 2^-64, if any of these floats does.
inline uint64_t fingerprint_of(uint64_t start, const float* x, size_t size) {
    constexpr uint64_t odd = 0x9e3779b97f4a7c15;  // 2^64 divided by the golden ratio
    constexpr size_t chains = 8;                  // hide the latency of a multiplication
    uint64_t sums[chains];
    for (size_t i = 0; i < chains; ++i) sums[i] = start + i * odd;
    // The rotation carries the upper bits, the signs of the floats, to where a multiplication spreads them.
    const auto mix = [](uint64_t sum, uint64_t word) {
        sum = (sum ^ word) * odd;
        return sum << 29 | sum >> 35;
    };
    size_t at = 0;
    for (; at + 2 * chains <= size; at += 2 * chains)
        for (size_t i = 0; i < chains; ++i) {
            uint64_t word;
            std::memcpy(&word, x + at + 2 * i, sizeof word);
            sums[i] = mix(sums[i], word);
        }
    for (; at < size; ++at) {
        uint32_t bits;
        std::memcpy(&bits, x + at, sizeof bits);
        sums[at % chains] = mix(sums[at % chains], bits);
    }
    uint64_t all = size;
    for (const uint64_t sum : sums) all = mix(all, sum);
    return all;
}

}  // namespace rnnfast::core
