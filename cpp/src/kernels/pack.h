// Packing: the columns of a panel lie far apart in memory, and are read a cache line at a time.
#pragma once

#include "kernels/table.h"
#include "simd/vec.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// rows[i][j] = columns[j][k + i] for four k and a vector of columns
inline void transpose_quads(const float* const* columns, size_t k, Vec (&rows)[4]) {
    const Vec a = load_quads(columns, k), b = load_quads(columns + 1, k);
    const Vec c = load_quads(columns + 2, k), d = load_quads(columns + 3, k);
    const Vec ac = unpack_low(a, c), bd = unpack_low(b, d), ac_high = unpack_high(a, c), bd_high = unpack_high(b, d);
    rows[0] = unpack_low(ac, bd);
    rows[1] = unpack_high(ac, bd);
    rows[2] = unpack_low(ac_high, bd_high);
    rows[3] = unpack_high(ac_high, bd_high);
}

void pack_panel(const PackPanel& p) {
    constexpr size_t line = 16;  // floats of a cache line: a line of every column, read whole before it is evicted
    const size_t stride = p.stride ? p.stride : p.width;
    for (size_t k = 0; k < p.depth; k += line) {
        const size_t end = p.depth - k < line ? p.depth : k + line;
        for (size_t j = 0; j < p.width; j += lanes) {
            // The hardware does not guess where so many columns continue.
            if (k + 3 * line <= p.depth)
                for (size_t i = j; i < j + lanes; ++i) __builtin_prefetch(p.columns[i] + k + 2 * line);
            size_t at = k;
            for (; at + 4 <= end; at += 4) {
                Vec rows[4];
                transpose_quads(p.columns + j, at, rows);
                for (size_t i = 0; i < 4; ++i) store(p.out + (at + i) * stride + j, rows[i]);
            }
            for (; at < end; ++at)
                for (size_t i = j; i < j + lanes; ++i) p.out[at * stride + i] = p.columns[i][at];
        }
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
