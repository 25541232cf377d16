// The eight tiles of AMX: up to 16 rows of up to 64 bytes each. Intel's Software Developer's Manual, volume 1,
// "Programming with Intel AMX".
#pragma once

#include <cstddef>
#include <cstdint>

namespace rnnfast::core::RNNFAST_ISA {
namespace {

constexpr size_t tile_height = 16, tile_bytes = 64;

// What LDTILECFG reads.
struct alignas(64) TileSizes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {};  // of a row of each tile
    uint8_t rows[16] = {};
};

// Of a product of words, sums[m][n] += a[m][k] * b[k][n] over k: a word of A has four unsigned bytes, one of B four
// signed ones.
struct Int8Tiles {
    using Sum = int32_t;
    static constexpr bool bf16 = false;
};
// Words of two numbers. Their order: the first terms of all words are added to a sum from zero, the second ones to
// another, and both together to sums[m][n].
struct Bf16Tiles {
    using Sum = float;
    static constexpr bool bf16 = true;
};

#if defined(__AMX_TILE__)
class Tiles {
public:
    Tiles() = default;
    ~Tiles() { __asm__ volatile("tilerelease" ::: "memory"); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

    void configure(const TileSizes& sizes) { __asm__ volatile("ldtilecfg %0" ::"m"(sizes)); }
    template <int Tile>
    void load(const void* from, size_t stride) {
        __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(Tile) : "memory");
    }
    template <int Tile>
    void store(void* to, size_t stride) {
        __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(Tile) : "memory");
    }
    template <class Word, int Sums, int A, int B>
    void dot() {
        if constexpr (Word::bf16)
            __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sums), "i"(A), "i"(B));
        else
            __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sums), "i"(A), "i"(B));
    }
};
#else
// The same in plain C++, after the pseudocode of the manual's instructions (volume 2), which also leave bytes beyond a
// tile's size zero and never access memory for them. Numbers below 1.2e-38 do not become zero here.
class Tiles {
public:
    void configure(const TileSizes& sizes) { sizes_ = sizes; }
    template <int Tile>
    void load(const void* from, size_t stride) {
        for (size_t r = 0; r < tile_height; ++r)
            for (size_t i = 0; i < tile_bytes; ++i)
                data_[Tile][r][i] = r < sizes_.rows[Tile] && i < sizes_.bytes[Tile]
                                        ? static_cast<const uint8_t*>(from)[r * stride + i]
                                        : uint8_t{0};
    }
    template <int Tile>
    void store(void* to, size_t stride) {
        for (size_t r = 0; r < sizes_.rows[Tile]; ++r)
            __builtin_memcpy(static_cast<uint8_t*>(to) + r * stride, data_[Tile][r], sizes_.bytes[Tile]);
    }
    template <class Word, int Sums, int A, int B>
    void dot() {
        for (size_t m = 0; m < sizes_.rows[Sums]; ++m)
            for (size_t n = 0; n < sizes_.bytes[Sums] / 4u; ++n) {
                typename Word::Sum sum;
                __builtin_memcpy(&sum, data_[Sums][m] + 4 * n, sizeof sum);
                sum += column<Word>(data_[A][m], data_[B], n, sizes_.bytes[A] / 4u);
                __builtin_memcpy(data_[Sums][m] + 4 * n, &sum, sizeof sum);
            }
    }

private:
    using Data = uint8_t[tile_height][tile_bytes];

    static float bf16(const uint8_t* at) {
        const uint32_t bits = static_cast<uint32_t>(at[0]) << 16 | static_cast<uint32_t>(at[1]) << 24;
        float number;
        __builtin_memcpy(&number, &bits, sizeof number);
        return number;
    }
    // What a row of A and a column of B add to their sum.
    template <class Word>
    static typename Word::Sum column(const uint8_t* a, const Data& b, size_t n, size_t words) {
        typename Word::Sum first = 0, second = 0;
        for (size_t k = 0; k < words; ++k) {
            const uint8_t *x = a + 4 * k, *y = b[k] + 4 * n;
            if constexpr (Word::bf16) {
                first = __builtin_fmaf(bf16(x), bf16(y), first);
                second = __builtin_fmaf(bf16(x + 2), bf16(y + 2), second);
            } else {
                for (size_t i = 0; i < 4; ++i) first += x[i] * static_cast<int8_t>(y[i]);
            }
        }
        return first + second;
    }

    TileSizes sizes_;
    Data data_[8] = {};
};
#endif

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
