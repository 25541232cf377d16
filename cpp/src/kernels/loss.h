// Softmax cross-entropy on panels of logits: rows are lanes, so every sum runs down the vocabulary in one fixed order.
#pragma once

#include "kernels/bf16.h"
#include "kernels/table.h"
#include "simd/math.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// loss of a row = log(sum e^(z - max)) - (z_target - max); its gradient = softmax(z) - one_hot(target)
void softmax_loss(const SoftmaxLoss& s) {
    constexpr size_t partial = 64;  // terms per partial sum: limits the rounding error of a long sum
    float* z = s.logits;
    Vec top = broadcast(-3.4e38f);
    for (size_t v = 0; v < s.vocabulary; ++v) {
        Vec logit = load(z + v * s.stride);
        if (s.bias) logit += broadcast(s.bias[v]);
        store(z + v * s.stride, logit);
        top = max(top, logit);
    }
    store(s.maximum, top);
    for (size_t i = 0; i < lanes; ++i)
        s.target_logit[i] = s.targets[i] < 0 ? 0.0f : z[static_cast<size_t>(s.targets[i]) * s.stride + i];

    Vec total = broadcast(0.0f);
    for (size_t v = 0; v < s.vocabulary;) {
        Vec sum = broadcast(0.0f);
        for (const size_t end = v + partial < s.vocabulary ? v + partial : s.vocabulary; v < end; ++v) {
            const Vec e = exp(load(z + v * s.stride) - top);
            if (s.gradient) store(z + v * s.stride, e);
            sum += e;
        }
        total += sum;
    }
    store(s.sum, total);
    if (!s.gradient) return;

    float weights[lanes];
    for (size_t i = 0; i < lanes; ++i) weights[i] = s.targets[i] < 0 ? 0.0f : s.weight;
    const Vec factor = load(weights) / total;
    if (s.factor) return store(s.factor, factor);
    for (size_t v = 0; v < s.vocabulary; ++v) store(z + v * s.stride, load(z + v * s.stride) * factor);
    for (size_t i = 0; i < lanes; ++i)
        if (s.targets[i] >= 0) z[static_cast<size_t>(s.targets[i]) * s.stride + i] -= s.weight;
}

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

// maximum = max(x), sum = sum of e^(x - maximum), in sixteen partial sums for every vector width, added in order.
void exp_sum(size_t size, const float* x, float* maximum, float* sum) {
    constexpr size_t vectors = unit_block / lanes;
    const size_t whole = size / unit_block * unit_block;
    float tail[unit_block];  // padded with numbers that add nothing to a sum of at least 1
    for (size_t i = 0; i < unit_block; ++i) tail[i] = whole + i < size ? x[whole + i] : -3.4e38f;
    Vec top[vectors], part[vectors] = {};
    for (size_t i = 0; i < vectors; ++i) top[i] = load(tail + i * lanes);
    for (size_t j = 0; j < whole; j += unit_block)
        for (size_t i = 0; i < vectors; ++i) top[i] = max(load(x + j + i * lanes), top[i]);
    float largest = top[0][0];
    for (size_t i = 1; i < unit_block; ++i) {
        const float other = top[i / lanes][i % lanes];
        largest = other > largest ? other : largest;
    }
    const Vec shift = broadcast(largest);
    for (size_t j = 0; j < whole; j += unit_block)
        for (size_t i = 0; i < vectors; ++i) part[i] += exp(load(x + j + i * lanes) - shift);
    for (size_t i = 0; i < vectors; ++i) part[i] += exp(load(tail + i * lanes) - shift);
    float total = 0.0f;
    for (size_t i = 0; i < unit_block; ++i) total += part[i / lanes][i % lanes];
    *maximum = largest;
    *sum = total;
}

void panel_row_sums(size_t rows, size_t columns, size_t panel_stride, size_t width, const float* x, float* sums) {
    constexpr size_t vectors = unit_block / lanes;
    for (size_t v = 0; v < rows; ++v) {
        Vec part[vectors] = {};
        for (size_t j = 0; j < columns; j += unit_block) {
            const float* block = x + j / width * panel_stride + v * width + j % width;
            for (size_t i = 0; i < vectors; ++i) part[i] += load(block + i * lanes);
        }
        sums[v] += total_of(part);
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
