// The product of one row with a matrix most of whose blocks are zeros. Sums go over the other blocks in Gemm's order.
// A block of zeros adds zeros to a sum, which change it only if it is -0, or if the row is not finite.
#pragma once

#include "kernels/int8.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

constexpr size_t strip_vectors = unit_block / lanes;
constexpr size_t strips_at_once = lanes == 4 ? 2 : 4;  // whose accumulators fit the registers

template <class Word>
struct SparseTerms;  // how the terms of a word lie in a row, and which words are not finite
template <>
struct SparseTerms<F32> {
    static constexpr size_t count = 1;
    static constexpr int32_t exponents[] = {0x7f800000};
};
template <>
struct SparseTerms<Bf16> {
    static constexpr size_t count = 2;
    static constexpr int32_t exponents[] = {0x7f800000, 0x7f80};
};
template <>
struct SparseTerms<Int8> {
    static constexpr size_t count = 4;
};

template <size_t Terms>
inline Vec sparse_left(const float* a, const uint16_t* places) {
    if constexpr (Terms == 1) return broadcast(a[*places]);
    typedef uint16_t Half __attribute__((may_alias));
    uint32_t word;
    if constexpr (Terms == 2) {
        const auto* halves = reinterpret_cast<const Half*>(a);
        word = static_cast<uint32_t>(halves[places[0]]) | static_cast<uint32_t>(halves[places[1]]) << 16;
    } else {
        const auto* bytes = reinterpret_cast<const uint8_t*>(a);
        word = static_cast<uint32_t>(bytes[places[0]]) | static_cast<uint32_t>(bytes[places[1]]) << 8 |
               static_cast<uint32_t>(bytes[places[2]]) << 16 | static_cast<uint32_t>(bytes[places[3]]) << 24;
    }
    return broadcast(float_of(static_cast<int32_t>(word)));
}

template <class Word, size_t Terms, size_t Strips>
inline void add_blocks(const SparseProduct& s, const size_t* strips, size_t from, size_t to,
                       Vec (*__restrict sums)[strip_vectors]) {
    const float* blocks[Strips];
    const uint16_t* places[Strips];
    Vec acc[Strips][strip_vectors];
#pragma GCC unroll 16
    for (size_t i = 0; i < Strips; ++i) {
        blocks[i] = s.blocks + s.first[strips[i]] * unit_block;
        places[i] = s.places + s.first[strips[i]] * Terms;
#pragma GCC unroll 16
        for (size_t v = 0; v < strip_vectors; ++v) acc[i][v] = sums[i][v];
    }
    for (size_t k = from; k < to; ++k)
#pragma GCC unroll 16
        for (size_t i = 0; i < Strips; ++i) {
            const Vec x = sparse_left<Terms>(s.a, places[i] + k * Terms);
#pragma GCC unroll 16
            for (size_t v = 0; v < strip_vectors; ++v)
                acc[i][v] = Word::multiply_add(x, load(blocks[i] + k * unit_block + v * lanes), acc[i][v]);
        }
#pragma GCC unroll 16
    for (size_t i = 0; i < Strips; ++i)
#pragma GCC unroll 16
        for (size_t v = 0; v < strip_vectors; ++v) sums[i][v] = acc[i][v];
}

template <class Word>
inline bool sparse_row_is_finite(const SparseProduct& s) {
    IntVec bad{};
    for (size_t k = 0; k < s.depth; k += lanes) {
        const Vec a = s.depth - k >= lanes ? load(s.a + k) : load_partial(s.a + k, s.depth - k);
        for (const int32_t exponent : SparseTerms<Word>::exponents) bad |= (as_int(a) & exponent) == exponent;
    }
    int32_t any = 0;
    for (size_t i = 0; i < lanes; ++i) any |= bad[i];
    return any == 0;
}

// Some strips together: the blocks that all of them have, then the rest of each. The lanes whose sums are -0.
template <class Word, size_t Terms>
inline IntVec multiply_strips(const SparseProduct& s, const size_t* strips, size_t count) {
    Vec sums[strips_at_once][strip_vectors];
    const auto blocks_of = [&](size_t i) -> size_t { return s.first[strips[i] + 1] - s.first[strips[i]]; };
    size_t together = count == strips_at_once ? blocks_of(0) : 0;
    for (size_t i = 0; i < count; ++i) {
        if (blocks_of(i) < together) together = blocks_of(i);
        const float* from = s.start + (strips[i] - s.begin) * unit_block;
        for (size_t v = 0; v < strip_vectors; ++v) sums[i][v] = load(from + v * lanes);
    }
    if (together) add_blocks<Word, Terms, strips_at_once>(s, strips, 0, together, sums);
    IntVec negative_zeros{};
    for (size_t i = 0; i < count; ++i) {
        if (together < blocks_of(i)) add_blocks<Word, Terms, 1>(s, strips + i, together, blocks_of(i), sums + i);
        for (size_t v = 0; v < strip_vectors; ++v) {
            negative_zeros |= as_int(sums[i][v]) == INT32_MIN;
            store(s.c + (strips[i] - s.begin) * unit_block + v * lanes, sums[i][v]);
        }
    }
    return negative_zeros;
}

template <class Word, size_t Terms>
bool sparse_product(const SparseProduct& s) {
    constexpr bool floats = SparseTerms<Word>::count < 4;
    if constexpr (floats)
        if (!sparse_row_is_finite<Word>(s)) return false;
    IntVec negative_zeros{};
    for (size_t window = s.begin / sparse_window * sparse_window; window < s.end; window += sparse_window) {
        size_t strips[sparse_window], count = 0;
        for (size_t i = window; i < window + sparse_window && i < s.strips; ++i)
            if (s.order[i] >= s.begin && s.order[i] < s.end) strips[count++] = s.order[i];
        for (size_t i = 0; i < count; i += strips_at_once)
            negative_zeros |=
                multiply_strips<Word, Terms>(s, strips + i, count - i < strips_at_once ? count - i : strips_at_once);
    }
    int32_t any = 0;
    for (size_t i = 0; i < lanes; ++i) any |= negative_zeros[i];
    return !floats || any == 0;
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
