// Softmax cross-entropy on panels of logits: rows are lanes, so every sum runs down the vocabulary in one fixed order.
#pragma once

#include "kernels/loss_words.h"
#include "kernels/table.h"
#include "simd/math.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// loss of a row = log(sum e^(z - max)) - (z_target - max); its gradient = softmax(z) - one_hot(target)
void softmax_loss(const SoftmaxLoss& s) {
    constexpr size_t partial = 64;  // terms per partial sum: limits the rounding error of a long sum
    float* z = s.logits;
    const auto logit = [&](size_t v) {  // added twice, which costs less than a pass that stores the sums
        const Vec product = load(z + v * s.stride);
        return s.bias ? product + broadcast(s.bias[v]) : product;
    };
    Vec top = broadcast(-3.4e38f);
    for (size_t v = 0; v < s.vocabulary; ++v) top = max(top, logit(v));
    store(s.maximum, top);
    for (size_t i = 0; i < lanes; ++i)
        s.target_logit[i] = s.targets[i] < 0 ? 0.0f : logit(static_cast<size_t>(s.targets[i]))[i];

    Vec total = broadcast(0.0f);
    for (size_t v = 0; v < s.vocabulary;) {
        Vec sum = broadcast(0.0f);
        for (const size_t end = v + partial < s.vocabulary ? v + partial : s.vocabulary; v < end; ++v) {
            const Vec e = exp(logit(v) - top);
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
