// The matrix product: row tiles times packed panels, with accumulators in registers.
#pragma once

#include "kernels/table.h"
#include "simd/vec.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// A tile of `tile_rows` x `panel_vectors` accumulators, its panel row and one broadcast must fit the registers. With
// few rows, the kernel processes several panels together, until `wanted_chains` accumulators hide the latency of an FMA
// and of the cache.
#if defined(__AVX512F__) || defined(RNNFAST_WIDE)
constexpr size_t tile_rows = 6, panel_vectors = 4, wanted_chains = 16;
#elif defined(__AVX2__)
constexpr size_t tile_rows = 6, panel_vectors = 2, wanted_chains = 8;
#elif defined(__ARM_NEON)
constexpr size_t tile_rows = 6, panel_vectors = 4, wanted_chains = 16;
#else
constexpr size_t tile_rows = 2, panel_vectors = 4, wanted_chains = 8;
#endif
static_assert(panel_vectors * lanes % unit_block == 0, "a panel holds whole blocks of 16");

// A block of a panel stays in L2 while all row tiles use it. 512, which would fit L1, made LSTM training 5% slower.
constexpr size_t depth_block = 1024;

// Iterates over the rows of a Rows pattern without division.
template <class Float>
struct RowWalk {
    Float* at;
    size_t stride, run, left;
    ptrdiff_t hop;

    template <class Pattern>
    explicit RowWalk(const Pattern& rows)
        : at(rows.base),
          stride(rows.stride),
          run(rows.run),
          left(rows.run),
          hop(static_cast<ptrdiff_t>(rows.jump) - static_cast<ptrdiff_t>(rows.run * rows.stride)) {}
    Float* next() {
        Float* row = at;
        at += stride;
        if (run && --left == 0) {
            at += hop;
            left = run;
        }
        return row;
    }
};

// How one 32-bit word of A is multiplied with one of B. Products for which the CPU has no instructions have no narrow
// tiles for the last columns: their code is long (a fifth of the AVX-512 table), and they are slow there anyway.
struct F32 {
    static constexpr bool narrow_tiles = true;
    static Vec multiply_add(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }
};
struct Bf16 {
    static constexpr bool narrow_tiles = has_dot_bf16;
    static Vec multiply_add(Vec a, Vec b, Vec sum) { return dot_bf16(a, b, sum); }
};

struct Int8 {  // sums are integers
    static constexpr bool narrow_tiles = has_dot_int8;
    static Vec multiply_add(Vec a, Vec b, Vec sum) { return dot_int8(a, b, sum); }
};

// A chunk of the depth: where A and the panels continue.
struct Depth {
    size_t begin, end;
};

// acc[i][j] += A[i, k] * B[k, j] for k in the chunk, in order
template <class Word, size_t Rows_, size_t Vectors>
inline void accumulate(Vec (&acc)[Rows_][Vectors], const float* const (&a)[Rows_], size_t step,
                       const float* const (&b)[Vectors], size_t width, size_t count) {
    size_t at = 0;
    for (size_t k = 0, row = 0; k < count; ++k, row += width, at += step) {
        Vec panel[Vectors];
#pragma GCC unroll 16
        for (size_t j = 0; j < Vectors; ++j) panel[j] = load(b[j] + row);
#pragma GCC unroll 16
        for (size_t i = 0; i < Rows_; ++i) {
            const Vec x = broadcast(a[i][at]);
#pragma GCC unroll 16
            for (size_t j = 0; j < Vectors; ++j) acc[i][j] = Word::multiply_add(x, panel[j], acc[i][j]);
        }
    }
}

// One tile: Rows_ rows by Panels panels of Width vectors each; with a single panel, only its first Used vectors.
template <class Word, size_t Rows_, size_t Panels, size_t Width, size_t Used = Width>
void tile(const Gemm& g, const float* const* a_rows, float* const* c_rows, const float* panels, size_t stride,
          size_t column, Depth depth) {
    static_assert(Panels == 1 || Used == Width, "several panels are walked whole");
    constexpr size_t vectors = Panels * Used, width = Width * lanes;
    const bool whole = column + vectors * lanes <= g.columns;
    const bool first = depth.begin == 0 && g.start;
    float edge[Rows_][vectors * lanes];  // replaces C if its last columns fill no whole vector
    float* c[Rows_];
    const size_t valid = whole ? vectors * lanes : g.columns - column;
    for (size_t i = 0; i < Rows_; ++i) {
        c[i] = c_rows[i] + column;
        if (whole) continue;
        if (!first)
            for (size_t j = 0; j < vectors * lanes; ++j) edge[i][j] = j < valid ? c[i][j] : 0.0f;
        c[i] = edge[i];
    }

    Vec acc[Rows_][vectors];
#pragma GCC unroll 16
    for (size_t i = 0; i < Rows_; ++i)
#pragma GCC unroll 16
        for (size_t j = 0; j < vectors; ++j) acc[i][j] = load((first ? g.start + column : c[i]) + j * lanes);

    const size_t inner = g.inner ? g.inner : g.depth;
    for (size_t k = depth.begin; k < depth.end;) {
        const size_t outer = k / inner, within = k % inner;
        const size_t count = inner - within < depth.end - k ? inner - within : depth.end - k;
        const float* a[Rows_];
        const float* b[vectors];
#pragma GCC unroll 16
        for (size_t i = 0; i < Rows_; ++i) a[i] = a_rows[i] + outer * g.outer_step + within * g.step;
#pragma GCC unroll 16
        for (size_t j = 0; j < vectors; ++j) b[j] = panels + (j / Used) * stride + k * width + (j % Used) * lanes;
        accumulate<Word, Rows_, vectors>(acc, a, g.step, b, width, count);
        k += count;
    }

#pragma GCC unroll 16
    for (size_t i = 0; i < Rows_; ++i)
#pragma GCC unroll 16
        for (size_t j = 0; j < vectors; ++j) store(c[i] + j * lanes, acc[i][j]);
    if (!whole)
        for (size_t i = 0; i < Rows_; ++i)
            for (size_t j = 0; j < valid; ++j) c_rows[i][column + j] = edge[i][j];
}

using TileFunction = void (*)(const Gemm&, const float* const*, float* const*, const float*, size_t, size_t, Depth);

// Prefetches the next tile's part of C during the computation of this one. If C is larger than L2, waiting for its
// cache lines costs a product of depth 200 a sixth of its speed.
template <size_t Width>
inline void prefetch_rows(RowWalk<float>& rows, size_t count, size_t column) {
    constexpr size_t line = 16;
    for (size_t i = 0; i < count; ++i) {
        const float* c = rows.next() + column;
        for (size_t j = 0; j < Width * lanes; j += line) __builtin_prefetch(c + j, 1);
    }
}

// Number of panels that a tile of `rows` rows processes together.
template <size_t Rows_, size_t Width>
constexpr size_t panels_at_once = Rows_ * Width >= wanted_chains || Rows_ > 3 ? 1 : wanted_chains / (Rows_ * Width);

template <class Word, size_t Width, size_t Rows_ = tile_rows>
inline TileFunction tile_for(size_t rows, bool several, size_t& panels) {
    if (rows == Rows_) {
        constexpr size_t at_once = panels_at_once<Rows_, Width>;
        panels = several ? at_once : 1;
        return several ? tile<Word, Rows_, at_once, Width> : tile<Word, Rows_, 1, Width>;
    }
    if constexpr (Rows_ > 1) return tile_for<Word, Width, Rows_ - 1>(rows, several, panels);
    return nullptr;
}

// For the last panel, if it has fewer columns than its width.
template <class Word, size_t Width, size_t Used = Width, size_t Rows_ = tile_rows>
inline TileFunction edge_tile_for(size_t rows, size_t vectors) {
    if (rows == Rows_ && vectors == Used) return tile<Word, Rows_, 1, Width, Used>;
    if constexpr (Rows_ > 1)
        if (rows < Rows_) return edge_tile_for<Word, Width, Used, Rows_ - 1>(rows, vectors);
    if constexpr (Used > 1)
        if (vectors < Used) return edge_tile_for<Word, Width, Used - 1, Rows_>(rows, vectors);
    return nullptr;
}

template <class Word, size_t Width>
void gemm(const Gemm& g) {
    constexpr size_t width = Width * lanes;
    const size_t stride = g.panel_stride ? g.panel_stride : g.depth * width;
    const size_t tiles = (g.rows + tile_rows - 1) / tile_rows;
    if (tiles == 0) return;
    const size_t short_rows = g.rows / tiles, tall_tiles = g.rows % tiles;  // nearly equal heights, no thin remainder
    const size_t block = tiles > 1 ? depth_block : g.depth;
    for (size_t column = 0, panel = 0; column < g.columns;) {
        size_t at_once = 1;
        tile_for<Word, Width>(short_rows, true, at_once);
        if (tiles > 1 || column + (at_once - 1) * width >= g.columns) at_once = 1;
        const bool several = at_once > 1;
        size_t same = 0;
        TileFunction low = tile_for<Word, Width>(short_rows, several, same);
        TileFunction tall = tall_tiles ? tile_for<Word, Width>(short_rows + 1, several, same) : low;
        if constexpr (Word::narrow_tiles)
            if (g.columns - column <= width - lanes) {
                const size_t vectors = (g.columns - column + lanes - 1) / lanes;
                low = edge_tile_for<Word, Width>(short_rows, vectors);
                tall = tall_tiles ? edge_tile_for<Word, Width>(short_rows + 1, vectors) : low;
            }
        size_t k = 0;
        do {  // runs once even for depth 0, where the product is `start`
            const Depth depth{k, g.depth - k < block ? g.depth : k + block};
            RowWalk<const float> a(g.a);
            RowWalk<float> c(g.c), c_ahead(g.c);
            if (tiles > 1) prefetch_rows<Width>(c_ahead, short_rows + (tall_tiles > 0), column);
            for (size_t t = 0; t < tiles; ++t) {
                const size_t height = short_rows + (t < tall_tiles);
                if (t + 1 < tiles) prefetch_rows<Width>(c_ahead, short_rows + (t + 1 < tall_tiles), column);
                const float* a_rows[tile_rows];
                float* c_rows[tile_rows];
                for (size_t i = 0; i < height; ++i) {
                    a_rows[i] = a.next();
                    c_rows[i] = c.next();
                }
                (t < tall_tiles ? tall : low)(g, a_rows, c_rows, g.panels + panel * stride, stride, column, depth);
            }
            k += block;
        } while (k < g.depth);
        column += at_once * width;
        panel += at_once;
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
