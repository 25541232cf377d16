// Gradients of logits as bf16 words, the input of the products that follow.
#pragma once

#include "kernels/bf16.h"
#include "kernels/table.h"
#include "simd/vec.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// The gradient of row r's logit of class v, counted from the first.
inline float loss_gradient(const LossWords& s, size_t v, size_t r) {
    const float e = s.exponentials[r / s.width * s.plane + v * s.width + r % s.width];
    return s.targets[r] == static_cast<int32_t>(s.first + v) ? e * s.factor[r] - s.weight : e * s.factor[r];
}

// Sixteen partial sums for every vector width, added in order: the same bits everywhere.
inline float total_of(const Vec (&part)[unit_block / lanes]) {
    float sum = 0.0f;
    for (size_t i = 0; i < unit_block; ++i) sum += part[i / lanes][i % lanes];
    return sum;
}

// All words as if no class were a target, then those that contain one again.
void loss_words(const LossWords& s) {
    constexpr size_t vectors = unit_block / lanes;
    for (size_t v = 0; v < s.classes; v += 2) {
        const bool two = v + 1 < s.classes;
        float *along_even = s.along + v * s.along_stride, *along_odd = along_even + (two ? s.along_stride : 0);
        Vec sum_even[vectors] = {}, sum_odd[vectors] = {};
        for (size_t j = 0; j < s.rows; j += unit_block) {
            const float* even = s.exponentials + j / s.width * s.plane + v * s.width + j % s.width;
            const float* odd = even + (two ? s.width : 0);
            float* across = s.across + j / s.width * s.across_plane + v / 2 * s.width + j % s.width;
            for (size_t i = 0; i < vectors; ++i) {
                const size_t at = i * lanes;
                const Vec factor = load(s.factor + j + at);
                const Vec a = load(even + at) * factor, b = load(odd + at) * factor;
                const UnsignedIntVec low = to_bf16(a), high = to_bf16(b);
                store(across + at, as_float((IntVec)(two ? low | high << 16 : low)));
                store_halves(along_odd + (j + at) / 2, high);
                store_halves(along_even + (j + at) / 2, low);
                sum_even[i] += a;
                sum_odd[i] += b;
            }
        }
        s.sums[v] += total_of(sum_even);
        if (two) s.sums[v + 1] += total_of(sum_odd);
    }
    for (size_t r = 0; r < s.rows; ++r) {
        const size_t v = static_cast<size_t>(s.targets[r]) - s.first;  // wraps around below the first, and for -1
        if (v >= s.classes) continue;
        const size_t even_class = v / 2 * 2, even_row = r / 2 * 2;
        const float high = even_class + 1 < s.classes ? loss_gradient(s, even_class + 1, r) : 0.0f;
        s.across[r / s.width * s.across_plane + v / 2 * s.width + r % s.width] =
            bf16_word(loss_gradient(s, even_class, r), high);
        s.along[v * s.along_stride + r / 2] =
            bf16_word(loss_gradient(s, v, even_row), loss_gradient(s, v, even_row + 1));
        s.sums[v] -= s.weight;
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
