// Four bytes in a 32-bit word: the input of int8 products, and the conversion of their sums to floats.
// A number x is q * scale, where q is an integer from -127 to 127 and each row has one scale. Left rows hold q + 128,
// unsigned, as the instruction requires; right columns hold q, signed. The column's offset corrects for the 128.
#pragma once

#include "kernels/gemm.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

inline float float_of(int32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}
inline int32_t bits_of(float x) {
    int32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

// The largest magnitude over 127, rounded up to 16 bits of mantissa: then q * scale is exact, and a quantized row
// does not change if it is quantized again. 0 for a row of zeros (or below 1e-30), NaN if a number is not finite.
inline float int8_scale(int32_t largest_bits) {
    if (largest_bits >= 0x7f800000) return float_of(0x7fc00000);
    const float largest = float_of(largest_bits);
    return largest < 1e-30f ? 0.0f : float_of((bits_of(largest / 127.0f) + 0xff) & ~0xff);
}

// words: [ceil(size / 4)], then the scale; bytes beyond size count as zeros.
void int8_along(size_t size, const float* x, float* words) {
    constexpr size_t terms = 4;
    const auto at = [&](size_t i) { return size - i >= lanes ? load(x + i) : load_partial(x + i, size - i); };
    IntVec top{};
    for (size_t i = 0; i < size; i += lanes) {
        const IntVec magnitude = as_int(at(i)) & 0x7fffffff;  // as integers, so that NaN is the largest
        top = magnitude > top ? magnitude : top;
    }
    int32_t largest = 0;
    for (size_t i = 0; i < lanes; ++i) largest = top[i] > largest ? top[i] : largest;
    const float scale = int8_scale(largest);
    const Vec inverse = broadcast(scale > 0.0f ? 1.0f / scale : 0.0f);
    const Vec magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
    const size_t count = (size + terms - 1) / terms;
    auto* bytes = reinterpret_cast<uint8_t*>(words);
    for (size_t i = 0; i < size; i += lanes) {
        const IntVec q = as_int(fma(at(i), inverse, magic)) - as_int(magic) + 128;
        const size_t room = count * terms - i;
        if (room >= lanes) {
            store_bytes(bytes + i, q);
            continue;
        }
        for (size_t j = 0; j < room; ++j) bytes[i + j] = static_cast<uint8_t>(q[j]);
    }
    words[count] = scale;
}

// c = sum * (row's scale * column's scale) + start
void int8_rescale(const Rescale& s) {
    RowWalk<float> rows(s.c);
    for (size_t r = 0; r < s.rows; ++r) {
        float* c = rows.next();
        const Vec row_scale = broadcast(s.row_scales[r * s.row_scale_stride]);
        for (size_t j = 0; j < s.columns; j += lanes) {
            const size_t left = s.columns - j;
            const Vec sums = to_float(as_int(left >= lanes ? load(c + j) : load_partial(c + j, left)));
            const Vec y = fma(sums, row_scale * load(s.column_scales + j), load(s.start + j));
            left >= lanes ? store(c + j, y) : store_partial(c + j, y, left);
        }
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
