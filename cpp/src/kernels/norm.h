// Layer and RMS normalization: every row is normalized on its own. Sums over a row have one fixed order on every ISA.
#pragma once

#include "kernels/update.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// Adds up a row in 32 partial sums, whatever the vector's width, joined pairwise. term(j, n, sum) adds elements j to
// j + n - 1 to a vector of sums, and zeros in the lanes beyond.
template <class Term>
inline float sum_of_row(size_t size, Term term) {
    constexpr size_t partial_sums = 32, vectors = partial_sums / lanes;
    Vec part[vectors] = {};
    size_t j = 0;
    for (; j + partial_sums <= size; j += partial_sums)
        for (size_t i = 0; i < vectors; ++i) part[i] = term(j + i * lanes, lanes, part[i]);
    for (size_t i = 0; j < size; ++i, j += lanes) part[i] = term(j, size - j < lanes ? size - j : lanes, part[i]);
    float sums[partial_sums];
    for (size_t i = 0; i < vectors; ++i) store(sums + i * lanes, part[i]);
    for (size_t half = partial_sums / 2; half; half /= 2)
        for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
    return sums[0];
}

struct RowStatistics {
    float mean, inverse;  // 1 / sqrt(variance + epsilon)
};

inline RowStatistics row_statistics(size_t size, const float* x, float epsilon, bool centered) {
    const auto count = static_cast<float>(size);
    float mean = 0;
    if (centered)
        mean = sum_of_row(size, [&](size_t j, size_t n, Vec sum) { return sum + load_some(x + j, n); }) / count;
    const float squares = sum_of_row(size, [&](size_t j, size_t n, Vec sum) {
        Vec d = load_some(x + j, n) - broadcast(mean);
        for (size_t i = n; i < lanes; ++i) d[i] = 0.0f;
        return fma(d, d, sum);
    });
    return {mean, (broadcast(1.0f) / sqrt(broadcast(squares / count + epsilon)))[0]};
}

// y = (x - mean) / sqrt(variance + epsilon) * weight + bias   (Ba, Kiros and Hinton, arXiv:1607.06450); not centered,
// the mean is 0 and the variance that of x itself   (Zhang and Sennrich, arXiv:1910.07467)
void layer_norm(const LayerNormForward& f) {
    for (size_t r = 0; r < f.rows; ++r) {
        const float* x = f.x + r * f.size;
        const RowStatistics row = row_statistics(f.size, x, f.epsilon, f.centered);
        const Vec mean = broadcast(row.mean), inverse = broadcast(row.inverse);
        for_each_vector_of(f.size, [&](size_t j, size_t n) {
            Vec y = (load_some(x + j, n) - mean) * inverse;
            if (f.weight) y = fma(y, load_some(f.weight + j, n), f.bias ? load_some(f.bias + j, n) : Vec{});
            store_some(f.y + r * f.size + j, y, n);
        });
    }
}

// With x^ = (x - mean) * inverse and g = dy * weight: dx = inverse * (g - mean of g, if centered, - x^ * mean of g x^)
void layer_norm_gradient(const LayerNormBackward& b) {
    for (size_t r = 0; r < b.rows; ++r) {
        const float *x = b.x + r * b.size, *dy = b.dy + r * b.size;
        const RowStatistics row = row_statistics(b.size, x, b.epsilon, b.centered);
        const Vec mean = broadcast(row.mean), inverse = broadcast(row.inverse);
        b.mean[r] = row.mean;
        b.inverse[r] = row.inverse;
        if (!b.dx) continue;
        const auto g = [&](size_t j, size_t n) {
            const Vec d = load_some(dy + j, n);
            return b.weight ? d * load_some(b.weight + j, n) : d;
        };
        const auto normalized = [&](size_t j, size_t n) { return (load_some(x + j, n) - mean) * inverse; };
        float sum = 0;
        if (b.centered) sum = sum_of_row(b.size, [&](size_t j, size_t n, Vec s) { return s + g(j, n); });
        const float products =
            sum_of_row(b.size, [&](size_t j, size_t n, Vec s) { return fma(g(j, n), normalized(j, n), s); });
        const auto count = static_cast<float>(b.size);
        const Vec offset = broadcast(sum / count), slope = broadcast(-(products / count));
        for_each_vector_of(b.size, [&](size_t j, size_t n) {
            store_some(b.dx + r * b.size + j, fma(normalized(j, n), slope, g(j, n) - offset) * inverse, n);
        });
    }
}

template <size_t Vectors>
inline void add_normalized(const LayerNormBackward& b, size_t j, size_t n, float* dweight) {
    Vec sum[Vectors];
    for (size_t i = 0; i < Vectors; ++i) sum[i] = load_some(dweight + j + i * lanes, n);
    for (size_t r = 0; r < b.rows; ++r) {
        const Vec mean = broadcast(b.mean[r]), inverse = broadcast(b.inverse[r]);
        for (size_t i = 0; i < Vectors; ++i) {
            const size_t at = r * b.size + j + i * lanes;
            sum[i] = fma(load_some(b.dy + at, n), (load_some(b.x + at, n) - mean) * inverse, sum[i]);
        }
    }
    for (size_t i = 0; i < Vectors; ++i) store_some(dweight + j + i * lanes, sum[i], n);
}

// dweight[j] += sum over rows of dy * x^, rows in order, for the columns from `first` to `last`
void layer_norm_weight_gradient(const LayerNormBackward& b, size_t first, size_t last, float* dweight) {
    constexpr size_t at_a_time = 4;  // vectors: whole cache lines of a row
    size_t j = first;
    for (; j + at_a_time * lanes <= last; j += at_a_time * lanes) add_normalized<at_a_time>(b, j, lanes, dweight);
    for_each_vector_of(last - j, [&](size_t i, size_t n) { add_normalized<1>(b, j + i, n, dweight); });
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
