// The product of one row with a matrix most of whose blocks are zeros. Sums go over the other blocks in Gemm's order.
// A block of zeros adds zeros to a sum, which change it only if it is -0, or if the row is not finite.
#pragma once

#include "kernels/int8.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

constexpr size_t strip_vectors = unit_block / lanes;
// Whose accumulators fit the registers, and are enough to hide the time of a multiplication: half a group, one or two.
constexpr size_t strips_at_once = lanes == 4 ? 2 : lanes == 8 ? 4 : 8;
constexpr size_t groups_at_once = strips_at_once < sparse_group ? 1 : strips_at_once / sparse_group;
constexpr size_t strips_of_group = strips_at_once / groups_at_once;

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

// A word of the row: of the terms whose places are those from number n on.
template <size_t Terms>
inline Vec sparse_left(const float* a, const uint64_t* places, size_t n) {
    const auto place = [&](size_t term) { return places[(n + term) / 4] >> (n + term) % 4 * 16 & 0xffff; };
    if constexpr (Terms == 1) return broadcast(a[place(0)]);
    typedef uint16_t Half __attribute__((may_alias));
    uint32_t word;
    if constexpr (Terms == 2) {
        const auto* halves = reinterpret_cast<const Half*>(a);
        word = static_cast<uint32_t>(halves[place(0)]) | static_cast<uint32_t>(halves[place(1)]) << 16;
    } else {
        const auto* bytes = reinterpret_cast<const uint8_t*>(a);
        word = static_cast<uint32_t>(bytes[place(0)]) | static_cast<uint32_t>(bytes[place(1)]) << 8 |
               static_cast<uint32_t>(bytes[place(2)]) << 16 | static_cast<uint32_t>(bytes[place(3)]) << 24;
    }
    return broadcast(float_of(static_cast<int32_t>(word)));
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

// The strips from number Strip on of each of some neighboring groups, the first of which has the most blocks. The lanes
// whose sums are -0. Strips that are not asked for, another thread's, are multiplied too, but from zeros, and left.
template <class Word, size_t Terms, size_t Groups, size_t Strip>
inline IntVec multiply_groups(const SparseProduct& s, size_t group) {
    constexpr size_t strips = Groups * strips_of_group;
    const float* blocks[Groups];
    const uint64_t* places[Groups];
    size_t count[Groups], numbers[strips];
    Vec acc[strips][strip_vectors];
#pragma GCC unroll 16
    for (size_t g = 0; g < Groups; ++g) {
        const size_t first = s.first[group + g];
        count[g] = s.first[group + g + 1] - first;
        blocks[g] = s.blocks + (first * sparse_group + Strip) * unit_block;
        places[g] = s.places + first * Terms;
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < strips; ++i) {
        numbers[i] = s.strips[(group + i / strips_of_group) * sparse_group + Strip + i % strips_of_group] - s.begin;
        const bool asked = numbers[i] < s.end - s.begin;
#pragma GCC unroll 16
        for (size_t v = 0; v < strip_vectors; ++v)
            acc[i][v] = asked ? load(s.start + numbers[i] * unit_block + v * lanes) : Vec{};
    }
    const auto add = [&](size_t i, size_t k) {
        const size_t g = i / strips_of_group, at = k * sparse_group + i % strips_of_group;
        const Vec x = sparse_left<Terms>(s.a, places[g] + k * Terms, (Strip + i % strips_of_group) * Terms);
#pragma GCC unroll 16
        for (size_t v = 0; v < strip_vectors; ++v)
            acc[i][v] = Word::multiply_add(x, load(blocks[g] + at * unit_block + v * lanes), acc[i][v]);
    };
    size_t k = 0;
    for (; k < count[Groups - 1]; ++k)
#pragma GCC unroll 16
        for (size_t i = 0; i < strips; ++i) add(i, k);
    for (; k < count[0]; ++k)
#pragma GCC unroll 16
        for (size_t i = 0; i < strips_of_group; ++i) add(i, k);
    IntVec negative_zeros{};
#pragma GCC unroll 16
    for (size_t i = 0; i < strips; ++i) {
        if (numbers[i] >= s.end - s.begin) continue;
#pragma GCC unroll 16
        for (size_t v = 0; v < strip_vectors; ++v) {
            negative_zeros |= as_int(acc[i][v]) == INT32_MIN;
            store(s.c + numbers[i] * unit_block + v * lanes, acc[i][v]);
        }
    }
    return negative_zeros;
}

template <class Word, size_t Terms>
bool sparse_product(const SparseProduct& s) {
    constexpr bool floats = SparseTerms<Word>::count < 4;
    constexpr size_t window = sparse_window / sparse_group;  // in groups
    if constexpr (floats)
        if (!sparse_row_is_finite<Word>(s)) return false;
    IntVec negative_zeros{};
    const size_t end = (s.end + sparse_window - 1) / sparse_window * window;
    for (size_t group = s.begin / sparse_window * window; group < end && group < s.groups; group += groups_at_once) {
        if (s.groups - group < groups_at_once) {
            negative_zeros |= multiply_groups<Word, Terms, 1, 0>(s, group);
            continue;
        }
        negative_zeros |= multiply_groups<Word, Terms, groups_at_once, 0>(s, group);
        if constexpr (strips_of_group < sparse_group)
            negative_zeros |= multiply_groups<Word, Terms, groups_at_once, strips_of_group>(s, group);
    }
    int32_t any = 0;
    for (size_t i = 0; i < lanes; ++i) any |= negative_zeros[i];
    return !floats || any == 0;
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
