// Optimizer steps and small elementwise helpers. Elements are independent of one another, except in column_sums.
#pragma once

#include "kernels/table.h"
#include "simd/vec.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// Calls body(i, n) for whole vectors (n = lanes) and once for the rest.
template <class Body>
inline void for_each_vector_of(size_t size, Body body) {
    size_t i = 0;
    for (; i + lanes <= size; i += lanes) body(i, lanes);
    if (i < size) body(i, size - i);
}

inline Vec load_some(const float* p, size_t n) { return n == lanes ? load(p) : load_partial(p, n); }
inline void store_some(float* p, Vec v, size_t n) { n == lanes ? store(p, v) : store_partial(p, v, n); }

// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= lr * (m / c1) / (sqrt(v) / sqrt(c2) + eps)   (Kingma & Ba 2015)
void adam(const AdamStep& s) {
    const Vec b1 = broadcast(s.beta1), rest1 = broadcast(s.rest1);
    const Vec b2 = broadcast(s.beta2), rest2 = broadcast(s.rest2);
    const Vec rate = broadcast(s.learning_rate / s.correction1), root = broadcast(s.correction2_sqrt);
    for_each_vector_of(s.size, [&](size_t i, size_t n) {
        Vec w = load_some(s.weight + i, n);
        const Vec g = fma(w, broadcast(s.weight_decay), load_some(s.grad + i, n));
        w = fma(w, broadcast(-s.decoupled_decay), w);
        const Vec m = fma(load_some(s.first + i, n), b1, g * rest1);
        const Vec v = fma(load_some(s.second + i, n), b2, g * g * rest2);
        store_some(s.first + i, m, n);
        store_some(s.second + i, v, n);
        store_some(s.weight + i, w - rate * m / (sqrt(v) / root + broadcast(s.epsilon)), n);
    });
}

// v = momentum v + (1 - dampening) g; w -= lr v   (without momentum v = g; Nesterov: w -= lr (g + momentum v))
void sgd(const SgdStep& s) {
    const Vec rate = broadcast(-s.learning_rate), momentum = broadcast(s.momentum);
    for_each_vector_of(s.size, [&](size_t i, size_t n) {
        const Vec w = load_some(s.weight + i, n);
        Vec g = fma(w, broadcast(s.weight_decay), load_some(s.grad + i, n));
        if (s.velocity) {
            const Vec v = fma(load_some(s.velocity + i, n), momentum, g * broadcast(s.dampening_scale));
            store_some(s.velocity + i, v, n);
            g = s.nesterov ? fma(v, momentum, g) : v;
        }
        store_some(s.weight + i, fma(g, rate, w), n);
    });
}

void add(size_t size, const float* x, float* y) {
    for_each_vector_of(size,
                       [&](size_t i, size_t n) { store_some(y + i, load_some(y + i, n) + load_some(x + i, n), n); });
}

void multiply(size_t size, const float* a, const float* b, float* y) {
    for_each_vector_of(size,
                       [&](size_t i, size_t n) { store_some(y + i, load_some(a + i, n) * load_some(b + i, n), n); });
}

void scale(size_t size, float factor, float* x) {
    for_each_vector_of(size,
                       [&](size_t i, size_t n) { store_some(x + i, load_some(x + i, n) * broadcast(factor), n); });
}

void clip(size_t size, float limit, float* x) {
    for_each_vector_of(size, [&](size_t i, size_t n) {
        store_some(x + i, min(broadcast(limit), max(broadcast(-limit), load_some(x + i, n))), n);
    });
}

// sums[j..] += the columns j.. of all rows; keeps `Vectors` vectors of sums in registers
template <size_t Vectors>
inline void sum_columns(size_t rows, const float* x, size_t stride, float* sums) {
    Vec sum[Vectors];
    for (size_t i = 0; i < Vectors; ++i) sum[i] = load(sums + i * lanes);
    for (size_t r = 0; r < rows; ++r)
        for (size_t i = 0; i < Vectors; ++i) sum[i] += load(x + r * stride + i * lanes);
    for (size_t i = 0; i < Vectors; ++i) store(sums + i * lanes, sum[i]);
}

void column_sums(size_t rows, size_t columns, const float* x, size_t stride, float* sums) {
    constexpr size_t at_once = 8;  // vectors: whole cache lines of a row, and few passes over distant rows
    size_t j = 0;
    for (; j + at_once * lanes <= columns; j += at_once * lanes) sum_columns<at_once>(rows, x + j, stride, sums + j);
    for_each_vector_of(columns - j, [&](size_t i, size_t n) {
        Vec sum = load_some(sums + j + i, n);
        for (size_t r = 0; r < rows; ++r) sum += load_some(x + r * stride + j + i, n);
        store_some(sums + j + i, sum, n);
    });
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
