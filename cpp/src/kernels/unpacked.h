// Products of one row with a matrix in the caller's order: packing a matrix that is read once costs more than the
// product.
#pragma once

#include "kernels/pack.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// Sums over all k of a few vectors of columns, which are transposed in registers.
template <size_t Vectors>
inline void accumulate_columns(const UnpackedProduct& p, const float* const* lines, Vec (&sums)[Vectors]) {
    size_t k = 0;
    for (; k + 4 <= p.depth; k += 4) {
#pragma GCC unroll 16
        for (size_t v = 0; v < Vectors; ++v) {
            Vec rows[4];
            transpose_quads(lines + v * lanes, k, rows);
#pragma GCC unroll 4
            for (size_t i = 0; i < 4; ++i) sums[v] = fma(broadcast(p.a[k + i]), rows[i], sums[v]);
        }
    }
    for (; k < p.depth; ++k)
        for (size_t v = 0; v < Vectors; ++v) {
            float row[lanes];
            for (size_t j = 0; j < lanes; ++j) row[j] = lines[v * lanes + j][k];
            sums[v] = fma(broadcast(p.a[k]), load(row), sums[v]);
        }
}

void product_with_columns(const UnpackedProduct& p) {
    constexpr size_t vectors = unit_block < lanes ? 1 : unit_block / lanes;
    for (size_t j = 0; j < p.columns; j += vectors * lanes) {
        const float* from = p.start ? p.start + j : p.c + j;
        Vec sums[vectors];
        for (size_t v = 0; v < vectors; ++v) sums[v] = load(from + v * lanes);
        accumulate_columns(p, p.lines + j, sums);
        for (size_t v = 0; v < vectors; ++v) store(p.c + j + v * lanes, sums[v]);
    }
}

// C[j] = from[j] + sum over Count terms from k on
template <size_t Count>
inline void add_rows(const UnpackedProduct& p, size_t k, const float* from) {
    Vec a[Count];
    const float* lines[Count];
    for (size_t i = 0; i < Count; ++i) {
        a[i] = broadcast(p.a[k + i]);
        lines[i] = p.lines[k + i] + p.offset;
    }
    size_t j = 0;
    for (; j + lanes <= p.columns; j += lanes) {
        Vec sum = load(from + j);
#pragma GCC unroll 8
        for (size_t i = 0; i < Count; ++i) sum = fma(a[i], load(lines[i] + j), sum);
        store(p.c + j, sum);
    }
    if (j == p.columns) return;
    const size_t left = p.columns - j;
    Vec sum = load_partial(from + j, left);
    for (size_t i = 0; i < Count; ++i) sum = fma(a[i], load_partial(lines[i] + j, left), sum);
    store_partial(p.c + j, sum, left);
}

void product_with_rows(const UnpackedProduct& p) {
    constexpr size_t together = 8;
    const float* from = p.start ? p.start : p.c;
    size_t k = 0;
    for (; k + together <= p.depth; k += together, from = p.c) add_rows<together>(p, k, from);
    for (; k < p.depth; ++k, from = p.c) add_rows<1>(p, k, from);
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
