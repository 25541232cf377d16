// Pairs of bf16 in 32-bit words, the input of bf16 products.
#pragma once

#include "kernels/table.h"
#include "simd/vec.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// Nearest bf16, ties to even, in the low half. A NaN stays NaN; a number below 1.2e-38 becomes zero, as in the product.
inline uint32_t to_bf16(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    const uint32_t exponent = bits & 0x7f800000u;
    const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    const uint32_t nan = bits >> 16 | 0x40u;
    const bool is_nan = exponent == 0x7f800000u && (bits & 0x7fffffu) != 0;
    return exponent == 0 ? bits >> 16 & 0x8000u : is_nan ? nan : rounded;
}

inline float word_of(uint32_t low, uint32_t high) {
    const uint32_t bits = low | high << 16;
    float word;
    __builtin_memcpy(&word, &bits, sizeof word);
    return word;
}
inline float bf16_word(float low, float high) { return word_of(to_bf16(low), to_bf16(high)); }

void bf16_along(size_t size, const float* x, float* words) {
    size_t i = 0;
    for (; i + lanes <= size; i += lanes) store_halves(words + i / 2, to_bf16(load(x + i)));
    for (; i + 2 <= size; i += 2) words[i / 2] = bf16_word(x[i], x[i + 1]);
    if (i < size) words[i / 2] = word_of(to_bf16(x[i]), 0);
}

void bf16_across(size_t size, const float* even, const float* odd, float* words) {
    size_t i = 0;
    for (; i + lanes <= size; i += lanes) {
        const UnsignedIntVec low = to_bf16(load(even + i));
        store(words + i, as_float((IntVec)(odd ? low | to_bf16(load(odd + i)) << 16 : low)));
    }
    for (; i < size; ++i) words[i] = word_of(to_bf16(even[i]), odd ? to_bf16(odd[i]) : 0);
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
