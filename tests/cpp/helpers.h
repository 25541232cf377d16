// Random numbers and comparisons for tests.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/dispatch.h"
#include "runtime/random.h"

namespace rnnfast {
using namespace core;  // tests look inside
}

namespace rnnfast::tests {

inline std::vector<float> random_vector(size_t size, uint64_t seed, double scale = 1.0) {
    std::vector<float> values(size);
    for (size_t i = 0; i < size; ++i)
        values[i] = static_cast<float>(scale * (2.0 * random_uniform(random_key(seed, 7), i) - 1.0));
    return values;
}

// |a - b| at most `tolerance` of the largest |b|
inline void check_close(const float* a, const double* b, size_t size, double tolerance) {
    double largest = 1e-6, worst = 0;
    for (size_t i = 0; i < size; ++i) {
        largest = std::max(largest, std::abs(b[i]));
        worst = std::max(worst, std::isfinite(a[i]) ? std::abs(static_cast<double>(a[i]) - b[i]) : INFINITY);
    }
    CHECK(worst <= tolerance * largest);
}

// FNV-1a over the bits of floats
inline uint64_t hash_bits(const float* values, size_t size, uint64_t hash = 0xcbf29ce484222325u) {
    for (size_t i = 0; i < size; ++i) {
        uint32_t bits;
        std::memcpy(&bits, values + i, sizeof bits);
        for (int b = 0; b < 4; ++b) hash = (hash ^ (bits >> (8 * b) & 0xff)) * 0x100000001b3u;
    }
    return hash;
}

}  // namespace rnnfast::tests
