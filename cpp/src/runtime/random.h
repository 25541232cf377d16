// Counter-based random numbers: number i of a stream is a function of (key, i), so results do not depend on threads.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace rnnfast::core {

// splitmix64's finaliser (Steele, Lea & Flood 2014): every bit of the input reaches every bit of the output.
inline uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// The key of a separate stream for every (seed, a, b).
inline uint64_t random_key(uint64_t seed, uint64_t a, uint64_t b = 0) {
    return mix(mix(mix(seed + 0x9e3779b97f4a7c15u) + a) + b);
}

inline uint64_t random_bits(uint64_t key, uint64_t i) { return mix(key + (i + 1) * 0x9e3779b97f4a7c15u); }

// Uniform in [0, 1), 53 bits
inline double random_uniform(uint64_t key, uint64_t i) {
    return static_cast<double>(random_bits(key, i) >> 11) * 0x1.0p-53;
}

// Standard normal, by Box and Muller from numbers 2i and 2i + 1
inline double random_normal(uint64_t key, uint64_t i) {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random_uniform(key, 2 * i)));
    return radius * std::cos(6.283185307179586 * random_uniform(key, 2 * i + 1));
}

}  // namespace rnnfast::core
