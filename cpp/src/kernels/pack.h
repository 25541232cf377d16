// Packing: the columns of a panel lie far apart in memory, and are read a cache line at a time.
#pragma once

#include "kernels/table.h"
#include "simd/vec.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// out[i * width + j] = columns[j][k + i] for four k and a vector of columns
inline void transpose_quads(const float* const* columns, size_t k, float* out, size_t width) {
    const Vec a = load_quads(columns, k), b = load_quads(columns + 1, k);
    const Vec c = load_quads(columns + 2, k), d = load_quads(columns + 3, k);
    const Vec ac = unpack_low(a, c), bd = unpack_low(b, d), ac_high = unpack_high(a, c), bd_high = unpack_high(b, d);
    store(out, unpack_low(ac, bd));
    store(out + width, unpack_high(ac, bd));
    store(out + 2 * width, unpack_low(ac_high, bd_high));
    store(out + 3 * width, unpack_high(ac_high, bd_high));
}

void pack_panel(const PackPanel& p) {
    constexpr size_t line = 16;  // floats of a cache line: a line of every column, read whole before it is evicted
    for (size_t k = 0; k < p.depth; k += line) {
        const size_t end = p.depth - k < line ? p.depth : k + line;
        for (size_t j = 0; j < p.width; j += lanes) {
            // The hardware does not guess where so many columns continue.
            if (k + 3 * line <= p.depth)
                for (size_t i = j; i < j + lanes; ++i) __builtin_prefetch(p.columns[i] + k + 2 * line);
            size_t at = k;
            for (; at + 4 <= end; at += 4) transpose_quads(p.columns + j, at, p.out + at * p.width + j, p.width);
            for (; at < end; ++at)
                for (size_t i = j; i < j + lanes; ++i) p.out[at * p.width + i] = p.columns[i][at];
        }
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
