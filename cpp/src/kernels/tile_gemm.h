// The int8 product in tiles of AMX, on the panels and rows of gemm.h: 16 rows by all columns of a panel, 16 of each
// group.
#pragma once

#include "kernels/table.h"
#include "simd/tiles.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

constexpr size_t tile_words = tile_bytes / 4;

// Tiles 0 to 3 are the sums of the groups, 4 and 5 a chunk of the depth in A and B, 6 and 7 its last chunk.
inline TileSizes tile_sizes(size_t rows, size_t last) {
    TileSizes sizes;
    const size_t heights[] = {rows, rows, rows, rows, rows, tile_height, rows, last};
    for (size_t tile = 0; tile < 8; ++tile) {
        sizes.rows[tile] = static_cast<uint8_t>(heights[tile]);
        sizes.bytes[tile] = static_cast<uint16_t>(tile == 6 ? 4 * last : tile_bytes);
    }
    return sizes;
}

template <class Pattern>
auto* row_at(const Pattern& rows, size_t r) {
    return rows.base + (rows.run ? r / rows.run * rows.jump + r % rows.run * rows.stride : r * rows.stride);
}
// A tile reaches rows at one distance; others are copied.
template <class Pattern>
bool at_one_distance(const Pattern& rows, size_t first, size_t count) {
    return rows.run == 0 || first / rows.run == (first + count - 1) / rows.run;
}

// Rows `first` to `first + rows` of a product, and a panel with its first column.
struct TileBlock {
    const Gemm& g;
    size_t first, rows;
    const float* panel;
    size_t column, valid;  // columns to write
};

// One chunk of the depth times one group of columns after another.
template <size_t Groups, int A, int B, size_t Group = 0>
inline void add_groups(Tiles& tiles, const float* panel) {
    tiles.load<B>(panel + Group * tile_words, Groups * tile_bytes);
    tiles.dot<Group, A, B>();
    if constexpr (Group + 1 < Groups) add_groups<Groups, A, B, Group + 1>(tiles, panel);
}
template <int A>
inline void load_left(Tiles& tiles, const TileBlock& b, size_t k, size_t words) {
    const float* from = row_at(b.g.a, b.first) + k;
    if (at_one_distance(b.g.a, b.first, b.rows)) return tiles.load<A>(from, b.g.a.stride * sizeof(float));
    float copy[tile_height][tile_words];
    for (size_t i = 0; i < b.rows; ++i)
        __builtin_memcpy(copy[i], row_at(b.g.a, b.first + i) + k, words * sizeof(float));
    tiles.load<A>(copy, sizeof copy[0]);
}
template <size_t Groups, size_t Group = 0>
inline void load_sums(Tiles& tiles, const float* from, size_t stride) {
    tiles.load<Group>(from + Group * tile_words, stride);
    if constexpr (Group + 1 < Groups) load_sums<Groups, Group + 1>(tiles, from, stride);
}
template <size_t Groups, size_t Group = 0>
inline void store_sums(Tiles& tiles, float* to, size_t stride) {
    tiles.store<Group>(to + Group * tile_words, stride);
    if constexpr (Group + 1 < Groups) store_sums<Groups, Group + 1>(tiles, to, stride);
}

template <size_t Groups>
void tile_block(Tiles& tiles, const TileBlock& b) {
    constexpr size_t width = Groups * tile_words;
    const Gemm& g = b.g;
    float edge[tile_height][width];  // replaces C if a tile cannot reach it
    float* c = row_at(g.c, b.first) + b.column;
    size_t stride = g.c.stride * sizeof(float);
    const bool reached = b.valid == width && at_one_distance(g.c, b.first, b.rows);
    if (!reached) {
        c = edge[0];
        stride = sizeof edge[0];
        for (size_t i = 0; i < b.rows && !g.start; ++i) {
            __builtin_memset(edge[i], 0, sizeof edge[i]);
            __builtin_memcpy(edge[i], row_at(g.c, b.first + i) + b.column, b.valid * sizeof(float));
        }
    }
    load_sums<Groups>(tiles, g.start ? g.start + b.column : c, g.start ? 0 : stride);
    size_t k = 0;
    for (; k + tile_words <= g.depth; k += tile_words) {
        load_left<4>(tiles, b, k, tile_words);
        add_groups<Groups, 4, 5>(tiles, b.panel + k * width);
    }
    if (k < g.depth) {
        load_left<6>(tiles, b, k, g.depth - k);
        add_groups<Groups, 6, 7>(tiles, b.panel + k * width);
    }
    store_sums<Groups>(tiles, c, stride);
    for (size_t i = 0; i < b.rows && !reached; ++i)
        __builtin_memcpy(row_at(g.c, b.first + i) + b.column, edge[i], b.valid * sizeof(float));
}

// As gemm<Int8, Groups>, whose sums of integers it equals. Words of A lie side by side, as multiply() packs them.
template <size_t Groups>
void tile_gemm(const Gemm& g) {
    constexpr size_t width = Groups * tile_words;
    const size_t stride = g.panel_stride ? g.panel_stride : g.depth * width;
    for (size_t first = 0; first < g.rows; first += tile_height) {
        const size_t rows = g.rows - first < tile_height ? g.rows - first : tile_height;
        const TileSizes sizes = tile_sizes(rows, g.depth % tile_words ? g.depth % tile_words : tile_words);
        Tiles tiles(sizes);
        for (size_t column = 0; column < g.columns; column += width) {
            const size_t left = g.columns - column;
            tile_block<Groups>(
                tiles, {g, first, rows, g.panels + column / width * stride, column, left < width ? left : width});
        }
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
