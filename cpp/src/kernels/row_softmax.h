// Softmax over the last axis and its logarithm, each row on its own. Sums have one fixed order on every ISA.
#pragma once

#include "kernels/loss.h"
#include "kernels/norm.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// y = e^(x - m) / sum of e^(x - m), m the largest x; its logarithm x - m - log(sum)
void row_softmax(const RowSoftmax& s) {
    for (size_t r = 0; r < s.rows; ++r) {
        const float* x = s.x + r * s.size;
        float* y = s.y + r * s.size;
        float largest, sum;
        exp_sum(s.size, x, &largest, &sum);
        const Vec shift = broadcast(largest);
        const Vec total = s.logarithm ? log(broadcast(sum)) : broadcast(1.0f) / broadcast(sum);
        for_each_vector_of(s.size, [&](size_t j, size_t n) {
            const Vec d = load_some(x + j, n) - shift;
            store_some(y + j, s.logarithm ? d - total : exp(d) * total, n);
        });
    }
}

// dx = y (dy - sum of y dy); of the logarithm dx = dy - e^y sum of dy
void row_softmax_gradient(const RowSoftmax& s) {
    for (size_t r = 0; r < s.rows; ++r) {
        const float *y = s.y + r * s.size, *dy = s.dy + r * s.size;
        const Vec sum = broadcast(sum_of_row(s.size, [&](size_t j, size_t n, Vec part) {
            const Vec d = load_some(dy + j, n);
            return s.logarithm ? part + d : fma(load_some(y + j, n), d, part);
        }));
        for_each_vector_of(s.size, [&](size_t j, size_t n) {
            const Vec d = load_some(dy + j, n), value = load_some(y + j, n);
            store_some(s.dx + r * s.size + j, s.logarithm ? fma(-exp(value), sum, d) : value * (d - sum), n);
        });
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
