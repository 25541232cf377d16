// Batch normalization: every column of rows is normalized over all rows. Sums over rows have one fixed order.
#pragma once

#include "kernels/update.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// sums[i] = sum over rows of term(row, i), in blocks of rows, so that rounding grows with the block and not with the
// rows. Vector i of the columns; the order does not depend on how many there are.
template <size_t Vectors, class Term>
inline void sum_over_rows(const BatchNorm& b, Vec* sums, Term term) {
    constexpr size_t block = 64;
    for (size_t i = 0; i < Vectors; ++i) sums[i] = Vec{};
    for (size_t r = 0; r < b.rows;) {
        Vec part[Vectors] = {};
        for (const size_t last = r + block < b.rows ? r + block : b.rows; r < last; ++r) {
            const size_t at = (b.places ? b.places[r] : r) * b.size;
            for (size_t i = 0; i < Vectors; ++i) part[i] += term(at + i * lanes, i);
        }
        for (size_t i = 0; i < Vectors; ++i) sums[i] += part[i];
    }
}

template <size_t Vectors>
struct Strip {
    static constexpr size_t vectors = Vectors;
};
// Calls body(Strip, column, numbers of a vector) for the columns from `first` to `last`.
template <class Body>
inline void for_each_strip(size_t first, size_t last, Body body) {
    constexpr size_t wide = 4;  // vectors: whole cache lines of a row
    size_t j = first;
    for (; j + wide * lanes <= last; j += wide * lanes) body(Strip<wide>(), j, lanes);
    for_each_vector_of(last - j, [&](size_t i, size_t n) { body(Strip<1>(), j + i, n); });
}

// mean and biased variance of the columns from `first` to `last`
void batch_statistics(const BatchNorm& b, size_t first, size_t last) {
    const Vec count = broadcast(static_cast<float>(b.rows));
    for_each_strip(first, last, [&](auto strip, size_t j, size_t n) {
        constexpr size_t vectors = decltype(strip)::vectors;
        Vec mean[vectors], sums[vectors];
        sum_over_rows<vectors>(b, mean, [&](size_t at, size_t) { return load_some(b.x + at + j, n); });
        for (size_t i = 0; i < vectors; ++i) mean[i] = mean[i] / count;
        sum_over_rows<vectors>(b, sums, [&](size_t at, size_t i) {
            const Vec d = load_some(b.x + at + j, n) - mean[i];
            return d * d;
        });
        for (size_t i = 0; i < vectors; ++i) {
            store_some(b.mean + j + i * lanes, mean[i], n);
            store_some(b.variance + j + i * lanes, sums[i] / count, n);
        }
    });
}

// y = (x - mean) * scale + bias
void batch_norm(const BatchNorm& b) {
    for (size_t r = 0; r < b.rows; ++r) {
        const size_t at = (b.places ? b.places[r] : r) * b.size;
        for_each_vector_of(b.size, [&](size_t j, size_t n) {
            const Vec bias = b.bias ? load_some(b.bias + j, n) : Vec{};
            const Vec d = load_some(b.x + at + j, n) - load_some(b.mean + j, n);
            store_some(b.y + at + j, fma(d, load_some(b.scale + j, n), bias), n);
        });
    }
}

// sum_dy = sum over rows of dy, sum_dy_x = that of dy (x - mean), of the columns from `first` to `last`
void batch_norm_sums(const BatchNorm& b, size_t first, size_t last) {
    for_each_strip(first, last, [&](auto strip, size_t j, size_t n) {
        constexpr size_t vectors = decltype(strip)::vectors;
        Vec sums[vectors], products[vectors];
        sum_over_rows<vectors>(b, sums, [&](size_t at, size_t) { return load_some(b.dy + at + j, n); });
        sum_over_rows<vectors>(b, products, [&](size_t at, size_t i) {
            return load_some(b.dy + at + j, n) * (load_some(b.x + at + j, n) - load_some(b.mean + j + i * lanes, n));
        });
        for (size_t i = 0; i < vectors; ++i) {
            store_some(b.sum_dy + j + i * lanes, sums[i], n);
            store_some(b.sum_dy_x + j + i * lanes, products[i], n);
        }
    });
}

// dx = scale (dy - offset - (x - mean) slope), offset the mean of dy and slope that of dy (x - mean) over the variance
void batch_norm_gradient(const BatchNorm& b) {
    for (size_t r = 0; r < b.rows; ++r) {
        const size_t at = (b.places ? b.places[r] : r) * b.size;
        for_each_vector_of(b.size, [&](size_t j, size_t n) {
            const Vec d = load_some(b.x + at + j, n) - load_some(b.mean + j, n);
            const Vec g = load_some(b.dy + at + j, n) - load_some(b.offset + j, n);
            store_some(b.dx + at + j, fma(-d, load_some(b.slope + j, n), g) * load_some(b.scale + j, n), n);
        });
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
