// The eight tiles of AMX: up to 16 rows of up to 64 bytes each. Intel's Software Developer's Manual, volume 1,
// "Programming with Intel AMX".
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AMX_INT8__)
#include <immintrin.h>
#endif

namespace rnnfast::core::RNNFAST_ISA {
namespace {

constexpr size_t tile_height = 16, tile_bytes = 64;

// What LDTILECFG reads.
struct alignas(64) TileSizes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {};  // of a row of each tile
    uint8_t rows[16] = {};
};

#if defined(__AMX_INT8__)
// The intrinsics take the numbers of tiles as literals, and GCC's do not say that they read memory.
inline void finish_stores() { __asm__ volatile("" ::: "memory"); }

class Tiles {
public:
    explicit Tiles(const TileSizes& sizes) {
        finish_stores();
        _tile_loadconfig(&sizes);
    }
    ~Tiles() { _tile_release(); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

    template <int Tile>
    void load(const void* from, size_t stride) {
        static_assert(Tile < 8);
        finish_stores();
        if constexpr (Tile == 0) _tile_loadd(0, from, stride);
        if constexpr (Tile == 1) _tile_loadd(1, from, stride);
        if constexpr (Tile == 2) _tile_loadd(2, from, stride);
        if constexpr (Tile == 3) _tile_loadd(3, from, stride);
        if constexpr (Tile == 4) _tile_loadd(4, from, stride);
        if constexpr (Tile == 5) _tile_loadd(5, from, stride);
        if constexpr (Tile == 6) _tile_loadd(6, from, stride);
        if constexpr (Tile == 7) _tile_loadd(7, from, stride);
    }
    template <int Tile>
    void store(void* to, size_t stride) {
        static_assert(Tile < 4);
        if constexpr (Tile == 0) _tile_stored(0, to, stride);
        if constexpr (Tile == 1) _tile_stored(1, to, stride);
        if constexpr (Tile == 2) _tile_stored(2, to, stride);
        if constexpr (Tile == 3) _tile_stored(3, to, stride);
        finish_stores();
    }
    // sums[m][n] += a[m][k] * b[k][n], where a word of a has four unsigned bytes and one of b four signed bytes
    template <int Sums, int A, int B>
    void dot() {
        static_assert(Sums < 4 && ((A == 4 && B == 5) || (A == 6 && B == 7)));
        if constexpr (Sums == 0 && A == 4) _tile_dpbusd(0, 4, 5);
        if constexpr (Sums == 1 && A == 4) _tile_dpbusd(1, 4, 5);
        if constexpr (Sums == 2 && A == 4) _tile_dpbusd(2, 4, 5);
        if constexpr (Sums == 3 && A == 4) _tile_dpbusd(3, 4, 5);
        if constexpr (Sums == 0 && A == 6) _tile_dpbusd(0, 6, 7);
        if constexpr (Sums == 1 && A == 6) _tile_dpbusd(1, 6, 7);
        if constexpr (Sums == 2 && A == 6) _tile_dpbusd(2, 6, 7);
        if constexpr (Sums == 3 && A == 6) _tile_dpbusd(3, 6, 7);
    }
};
#else
// The same in plain C++, after the pseudocode of the manual's TILELOADD, TILESTORED and TDPBUSD (volume 2), which also
// leave bytes beyond a tile's size zero and never access memory for them.
class Tiles {
public:
    explicit Tiles(const TileSizes& sizes) : sizes_(sizes) {}

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
    template <int Sums, int A, int B>
    void dot() {
        for (size_t m = 0; m < sizes_.rows[Sums]; ++m)
            for (size_t k = 0; k < sizes_.bytes[A] / 4u; ++k)
                for (size_t n = 0; n < sizes_.bytes[Sums] / 4u; ++n) {
                    int32_t sum;
                    __builtin_memcpy(&sum, data_[Sums][m] + 4 * n, sizeof sum);
                    for (size_t i = 0; i < 4; ++i)
                        sum += data_[A][m][4 * k + i] * static_cast<int8_t>(data_[B][k][4 * n + i]);
                    __builtin_memcpy(data_[Sums][m] + 4 * n, &sum, sizeof sum);
                }
    }

private:
    const TileSizes& sizes_;
    uint8_t data_[8][tile_height][tile_bytes] = {};
};
#endif

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
