// One query with the keys of its row. Vectors run along the units, so the results of a row depend only on that row.
#pragma once

#include "kernels/attention.h"
#include "kernels/table.h"
#include "kernels/update.h"
#include "simd/math.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// Keeps `Vectors` vectors of y in registers for all rows
template <size_t Vectors>
inline void weigh_columns(const WeightedRows& w, size_t column) {
    Vec sum[Vectors];
    for (size_t i = 0; i < Vectors; ++i) sum[i] = w.add ? load(w.y + column + i * lanes) : broadcast(0.0f);
    for (size_t r = 0; r < w.rows; ++r) {
        const Vec weight = broadcast(w.weights[r]);
        const float* x = w.x + r * w.x_stride + column;
        for (size_t i = 0; i < Vectors; ++i) sum[i] = fma(weight, load(x + i * lanes), sum[i]);
    }
    for (size_t i = 0; i < Vectors; ++i) store(w.y + column + i * lanes, sum[i]);
}

void weighted_rows(const WeightedRows& w) {
    constexpr size_t at_once = 8;
    size_t column = 0;
    for (; column + at_once * lanes <= w.columns; column += at_once * lanes) weigh_columns<at_once>(w, column);
    for (; column + lanes <= w.columns; column += lanes) weigh_columns<1>(w, column);
    if (column == w.columns) return;
    const size_t left = w.columns - column;
    Vec sum = w.add ? load_partial(w.y + column, left) : broadcast(0.0f);
    for (size_t r = 0; r < w.rows; ++r)
        sum = fma(broadcast(w.weights[r]), load_partial(w.x + r * w.x_stride + column, left), sum);
    store_partial(w.y + column, sum, left);
}

// Sixteen partial sums for every vector width, added in order, as in row_dots.
void additive_scores(const AdditiveScores& s) {
    constexpr size_t vectors = unit_block / lanes;
    for (size_t j = 0; j < s.keys; ++j) {
        const float* key = s.key + j * s.key_stride;
        Vec part[vectors] = {};
        size_t u = 0;
        for (; u + unit_block <= s.units; u += unit_block)
            for (size_t i = 0; i < vectors; ++i) {
                const size_t at = u + i * lanes;
                part[i] = fma(load(s.v + at), tanh(load(s.query + at) + load(key + at)), part[i]);
            }
        for (size_t i = 0; u < s.units; ++i, u += lanes) {
            const size_t n = s.units - u < lanes ? s.units - u : lanes;
            const Vec activated = tanh(load_some(s.query + u, n) + load_some(key + u, n));
            part[i] = fma(load_some(s.v + u, n), activated, part[i]);
        }
        float sum = 0.0f;
        for (size_t i = 0; i < unit_block; ++i) sum += part[i / lanes][i % lanes];
        s.scores[j] = sum;
    }
}

// With a = tanh(query + key_j): dkey_j += d, dquery = sum over j of d, where d = dscore_j v (1 - a^2); dv += dscore_j a
void additive_gradient(const AdditiveGradient& g) {
    const Vec one = broadcast(1.0f);
    for_each_vector_of(g.units, [&](size_t u, size_t n) { store_some(g.dquery + u, broadcast(0.0f), n); });
    for (size_t j = 0; j < g.keys; ++j) {
        const float* key = g.key + j * g.key_stride;
        float* dkey = g.dkey + j * g.key_stride;
        const Vec dscore = broadcast(g.dscores[j]);
        for_each_vector_of(g.units, [&](size_t u, size_t n) {
            const Vec a = tanh(load_some(g.query + u, n) + load_some(key + u, n));
            const Vec d = dscore * load_some(g.v + u, n) * (one - a * a);
            store_some(dkey + u, load_some(dkey + u, n) + d, n);
            store_some(g.dquery + u, load_some(g.dquery + u, n) + d, n);
            store_some(g.dv + u, fma(dscore, a, load_some(g.dv + u, n)), n);
        });
    }
}

// dscore = weight * (dweight - sum over keys of weight * dweight)
void softmax_gradient(size_t keys, const float* weights, float* dweights) {
    float dot = 0.0f;
    RowDots d;
    d.rows = 1;
    d.columns = keys;
    d.panels = weights;
    d.width = (keys + unit_block - 1) / unit_block * unit_block;
    d.y = dweights;
    d.sums = &dot;
    row_dots(d);
    for_each_vector_of(keys, [&](size_t j, size_t n) {
        store_some(dweights + j, load_some(weights + j, n) * (load_some(dweights + j, n) - broadcast(dot)), n);
    });
}

void tanh_in_place(size_t size, float* x) {
    for_each_vector_of(size, [&](size_t i, size_t n) { store_some(x + i, tanh(load_some(x + i, n)), n); });
}

void tanh_gradient(size_t size, const float* y, float* dy) {
    for_each_vector_of(size, [&](size_t i, size_t n) {
        const Vec a = load_some(y + i, n);
        store_some(dy + i, load_some(dy + i, n) * (broadcast(1.0f) - a * a), n);
    });
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
