// Attention over the steps of a row, with one learned query: y = sum over t of softmax_t(w . x_t) x_t.
#pragma once

#include "kernels/norm.h"
#include "simd/math.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

inline float dot_of_row(size_t size, const float* a, const float* b) {
    return sum_of_row(size,
                      [&](size_t j, size_t n, Vec sum) { return fma(load_some(a + j, n), load_some(b + j, n), sum); });
}

// Step by step with a running maximum, so that a stream gives the same bits. state: [width] the weighted sum, then the
// sum of the weights (0: no step so far) and the largest score.
void attention_pool(const AttentionPool& p) {
    float &sum = p.state[p.width], &largest = p.state[p.width + 1];
    for (size_t t = 0; t < p.steps; ++t) {
        const float* x = p.x + t * p.stride;
        const float score = dot_of_row(p.width, p.weight, x), before = largest;
        if (sum == 0.0f || score > largest) largest = score;
        const Vec keep = sum == 0.0f ? Vec{} : exp(broadcast(before - largest)), add = exp(broadcast(score - largest));
        sum = fma(broadcast(sum), keep, add)[0];
        for_each_vector_of(p.width, [&](size_t j, size_t n) {
            store_some(p.state + j, fma(load_some(x + j, n), add, load_some(p.state + j, n) * keep), n);
        });
    }
    for_each_vector_of(p.width,
                       [&](size_t j, size_t n) { store_some(p.y + j, load_some(p.state + j, n) / broadcast(sum), n); });
}

// With a_t the softmax: dscore_t = a_t (dy . x_t - dy . y), dx_t = a_t dy + dscore_t w. state: that after the last
// step.
void attention_pool_gradient(const AttentionPool& p) {
    const float sum = p.state[p.width], largest = p.state[p.width + 1];
    const float mean = dot_of_row(p.width, p.dy, p.y);
    for (size_t t = 0; t < p.steps; ++t) {
        const float* x = p.x + t * p.stride;
        const Vec a = exp(broadcast(dot_of_row(p.width, p.weight, x) - largest)) / broadcast(sum);
        const Vec dscore = a * broadcast(dot_of_row(p.width, p.dy, x) - mean);
        p.dscores[t * p.score_stride] = dscore[0];
        if (!p.dx) continue;
        for_each_vector_of(p.width, [&](size_t j, size_t n) {
            const Vec direct = a * load_some(p.dy + j, n);
            store_some(p.dx + t * p.stride + j, fma(dscore, load_some(p.weight + j, n), direct), n);
        });
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
