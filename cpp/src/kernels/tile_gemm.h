// Products in tiles of AMX, on the panels and rows of gemm.h. Two tiles of 16 rows times two of 16 columns are summed
// at a time, or one of up to 16 rows times a whole panel.
#pragma once

#include "kernels/pack.h"
#include "kernels/table.h"
#include "simd/tiles.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

constexpr size_t tile_words = tile_bytes / 4, two_tiles = 2 * tile_height;
// Rows of A that all panels use, one panel after another, stay in L2. Where tiles cannot reach them, they are copied to
// the stack, of which a thread may have no more than 128 KB.
constexpr size_t most_left = 128 * 1024, most_copied = 8 * 1024, deepest_copy = most_copied / two_tiles;  // words

constexpr size_t whole_tiles(size_t words) { return (words + tile_words - 1) / tile_words * tile_words; }

template <class Pattern>
auto* row_at(const Pattern& rows, size_t r) {
    return rows.base + (rows.run ? r / rows.run * rows.jump + r % rows.run * rows.stride : r * rows.stride);
}

// Some rows of A and a part of its depth.
struct LeftRows {
    size_t first, rows;
    size_t begin, depth;  // in words
    const float* at;
    size_t stride, chunk;  // from one row, and from 16 words to the next
};

// A panel with its first column and the number of those to write.
struct RightPanel {
    const float* at;
    size_t column, valid;
};

// Tiles 0 to 3 are sums, 4 is a part of A, the others of B; with two tiles of rows, 5 is the second part of A.
inline TileSizes tile_sizes(size_t rows, size_t other_rows) {
    TileSizes sizes;
    for (size_t tile = 0; tile < 8; ++tile) {
        const bool right = tile > 5 || (tile == 5 && other_rows == 0);
        const bool second = other_rows && (tile == 2 || tile == 3 || tile == 5);
        sizes.rows[tile] = static_cast<uint8_t>(right ? tile_height : second ? other_rows : rows);
        sizes.bytes[tile] = static_cast<uint16_t>(tile_bytes);
    }
    return sizes;
}

// The place of a tile's sums in C, or in `edge` if it does not lie in C at one distance between rows.
struct TileOfC {
    const Gemm* g;
    size_t first, rows, column, valid;
    bool reached;
    float edge[tile_height][tile_words];

    void place(const Gemm& product, size_t first_row, size_t row_count, const RightPanel& right, size_t group) {
        g = &product;
        first = first_row;
        rows = row_count;
        const size_t before = group * tile_words;
        column = right.column + before;
        valid = right.valid <= before ? 0 : right.valid - before < tile_words ? right.valid - before : tile_words;
        const size_t run = g->c.run;
        reached = valid == tile_words && (run == 0 || first / run == (first + rows - 1) / run);
    }
    float* row(size_t i) const { return row_at(g->c, first + i) + column; }

    template <int Tile>
    void load(Tiles& tiles, bool from_start) {
        if (from_start) return tiles.load<Tile>(g->start + column, 0);
        if (reached) return tiles.load<Tile>(row(0), g->c.stride * sizeof(float));
        for (size_t i = 0; i < rows; ++i) {
            __builtin_memset(edge[i], 0, sizeof edge[i]);
            if (valid) __builtin_memcpy(edge[i], row(i), valid * sizeof(float));
        }
        tiles.load<Tile>(edge, sizeof edge[0]);
    }
    template <int Tile>
    void store(Tiles& tiles) {
        if (reached) return tiles.store<Tile>(row(0), g->c.stride * sizeof(float));
        tiles.store<Tile>(edge, sizeof edge[0]);
        for (size_t i = 0; i < rows && valid; ++i) __builtin_memcpy(row(i), edge[i], valid * sizeof(float));
    }
};

// The tile of a block's sums, row by row.
template <size_t RowTiles, size_t Groups>
constexpr int tile_of_sum(size_t i) {
    return static_cast<int>(RowTiles == 2 ? i / Groups * 2 + i % Groups : i);
}

template <size_t RowTiles, size_t Groups, size_t I = 0>
inline void load_sums(Tiles& tiles, TileOfC (&c)[RowTiles * Groups], bool from_start) {
    c[I].template load<tile_of_sum<RowTiles, Groups>(I)>(tiles, from_start);
    if constexpr (I + 1 < RowTiles * Groups) load_sums<RowTiles, Groups, I + 1>(tiles, c, from_start);
}
template <size_t RowTiles, size_t Groups, size_t I = 0>
inline void store_sums(Tiles& tiles, TileOfC (&c)[RowTiles * Groups]) {
    c[I].template store<tile_of_sum<RowTiles, Groups>(I)>(tiles);
    if constexpr (I + 1 < RowTiles * Groups) store_sums<RowTiles, Groups, I + 1>(tiles, c);
}

// One chunk of the depth times one group of columns after another; `at`: its first row of the panel.
template <class Word, size_t RowTiles, size_t Groups, size_t Group = 0>
inline void add_groups(Tiles& tiles, const float* at, size_t stride) {
    constexpr int right = RowTiles == 2 ? 6 + Group % 2 : 5 + Group % 3;
    tiles.load<right>(at + Group * tile_words, stride);
    tiles.dot<Word, Group, 4, right>();
    if constexpr (RowTiles == 2) tiles.dot<Word, 2 + Group, 5, right>();
    if constexpr (Group + 1 < Groups) add_groups<Word, RowTiles, Groups, Group + 1>(tiles, at, stride);
}

template <class Word, size_t RowTiles, size_t Groups>
inline void add_chunk(Tiles& tiles, const float* left, size_t left_stride, const float* right, size_t right_stride) {
    tiles.load<4>(left, left_stride * sizeof(float));
    if constexpr (RowTiles == 2) tiles.load<5>(left + tile_height * left_stride, left_stride * sizeof(float));
    add_groups<Word, RowTiles, Groups>(tiles, right, right_stride * sizeof(float));
}

// The last words of the depth, with zeros up to a whole tile, which change no sum.
template <class Word, size_t RowTiles, size_t Groups>
void add_rest(Tiles& tiles, const LeftRows& a, size_t row, size_t rows, const float* right, size_t width) {
    float left_copy[two_tiles][tile_words] = {}, right_copy[tile_words][Groups * tile_words] = {};
    const size_t whole = a.depth / tile_words * tile_words, rest = a.depth - whole;
    for (size_t i = 0; i < rows; ++i)
        __builtin_memcpy(left_copy[i], a.at + (row + i) * a.stride + whole / tile_words * a.chunk,
                         rest * sizeof(float));
    for (size_t k = 0; k < rest; ++k)
        __builtin_memcpy(right_copy[k], right + (whole + k) * width, sizeof right_copy[k]);
    add_chunk<Word, RowTiles, Groups>(tiles, left_copy[0], tile_words, right_copy[0], Groups * tile_words);
}

// Rows from `row` of A times some groups of a panel's columns, from `group` on.
template <class Word, size_t Width, size_t RowTiles, size_t Groups>
void tile_block(Tiles& tiles, const Gemm& g, const LeftRows& a, size_t row, const RightPanel& right, size_t group) {
    constexpr size_t width = Width * tile_words;
    const size_t left = a.rows - row, rows = left < RowTiles * tile_height ? left : RowTiles * tile_height;
    TileOfC c[RowTiles * Groups];
    for (size_t i = 0; i < RowTiles * Groups; ++i) {
        const size_t above = i / Groups * tile_height, below = rows - above;
        c[i].place(g, a.first + row + above, below < tile_height ? below : tile_height, right, group + i % Groups);
    }
    load_sums<RowTiles, Groups>(tiles, c, a.begin == 0 && g.start);
    const float* at = right.at + group * tile_words;
    size_t k = 0;
    for (; k + tile_words <= a.depth; k += tile_words)
        add_chunk<Word, RowTiles, Groups>(tiles, a.at + row * a.stride + k / tile_words * a.chunk, a.stride,
                                          at + k * width, width);
    if (k < a.depth) add_rest<Word, RowTiles, Groups>(tiles, a, row, rows, at, width);
    store_sums<RowTiles, Groups>(tiles, c);
}

// The rows of A that `a` names times all panels.
template <class Word, size_t Width>
void tile_panels(Tiles& tiles, const Gemm& g, const LeftRows& a) {
    constexpr size_t width = Width * tile_words;
    const size_t stride = g.panel_stride ? g.panel_stride : g.depth * width;
    size_t configured = 0;  // rows of the blocks that the tiles fit
    for (size_t column = 0; column < g.columns; column += width) {
        const RightPanel right{g.panels + column / width * stride + a.begin * width, column, g.columns - column};
        for (size_t row = 0; row < a.rows; row += two_tiles) {
            const size_t rows = a.rows - row < two_tiles ? a.rows - row : two_tiles;
            const bool two = rows > tile_height;
            if (rows != configured) tiles.configure(tile_sizes(two ? tile_height : rows, two ? rows - tile_height : 0));
            configured = rows;
            if (!two) {
                tile_block<Word, Width, 1, Width>(tiles, g, a, row, right, 0);
                continue;
            }
            tile_block<Word, Width, 2, 2>(tiles, g, a, row, right, 0);
            tile_block<Word, Width, 2, Width - 2>(tiles, g, a, row, right, 2);
        }
    }
}

// The words of some rows of A side by side, with zeros up to a whole tile. Rows that lie side by side, as weight
// gradients read them, are transposed.
inline void copy_left(const Gemm& g, const LeftRows& a, float* copy) {
    static constexpr float zeros[tile_height] = {};
    const size_t inner = g.inner ? g.inner : g.depth + 1;
    size_t places[deepest_copy];
    for (size_t k = 0, at = a.begin % inner, outer = a.begin / inner; k < a.depth; ++k) {
        places[k] = outer * g.outer_step + at * g.step;
        if (++at == inner) at = 0, ++outer;
    }
    const float* columns[deepest_copy];
    for (size_t k = a.depth; k < a.stride; ++k) columns[k] = zeros;
    for (size_t r = 0, count; r < a.rows; r += count) {
        const float* row = row_at(g.a, a.first + r);
        const size_t in_run = g.a.run ? g.a.run - (a.first + r) % g.a.run : a.rows;
        count = a.rows - r < tile_height ? a.rows - r : tile_height;
        if (in_run < count) count = in_run;
        if (g.a.stride != 1) count = 1;
        for (size_t k = 0; k < a.depth; ++k) columns[k] = row + places[k];
        pack_panel({count, a.stride, columns, copy + r * a.stride});
    }
}

// Tiles reach rows at one distance whose words lie side by side, all of them or a tile's at a time.
inline bool in_place(const Gemm& g) {
    return g.step == 1 && g.a.run == 0 && (g.inner == 0 || g.inner >= g.depth || g.inner == tile_words);
}

template <class Word, size_t Width>
void tile_gemm(const Gemm& g) {
    alignas(64) float copy[most_copied];
    Tiles tiles;
    const bool direct = in_place(g);
    const size_t part = direct || g.depth < deepest_copy ? g.depth : deepest_copy;
    const size_t together = (direct ? most_left : most_copied) / (whole_tiles(part) + 1) / two_tiles * two_tiles;
    const size_t most_rows = together > two_tiles ? together : two_tiles;
    for (size_t first = 0; first < g.rows; first += most_rows) {
        LeftRows a{first, g.rows - first < most_rows ? g.rows - first : most_rows, 0, 0, nullptr, 0, tile_words};
        if (direct) {
            a.stride = g.a.stride;
            a.at = g.a.base + first * a.stride;
            if (g.inner == tile_words) a.chunk = g.outer_step;
        }
        do {  // once even for depth 0, where the product is `start`
            a.depth = g.depth - a.begin < part ? g.depth - a.begin : part;
            if (!direct) {
                a.stride = whole_tiles(a.depth);
                a.at = copy;
                copy_left(g, a, copy);
            }
            tile_panels<Word, Width>(tiles, g, a);
            a.begin += a.depth;
        } while (a.begin < g.depth);
    }
}

// Operations of `rounds` products of four tiles with four, as bf16_rate counts them.
[[maybe_unused]] double tile_bf16_rate(size_t rounds, const float*, float*) {
    Tiles tiles;
    tiles.configure(tile_sizes(tile_height, tile_height));
    for (size_t r = 0; r < rounds; ++r) {
        tiles.dot<Bf16Tiles, 0, 4, 6>();
        tiles.dot<Bf16Tiles, 1, 4, 7>();
        tiles.dot<Bf16Tiles, 2, 5, 6>();
        tiles.dot<Bf16Tiles, 3, 5, 7>();
    }
    return 4.0 * static_cast<double>(rounds * 4 * tile_height * tile_words * tile_words);
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
