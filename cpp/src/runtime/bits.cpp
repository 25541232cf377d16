#include "runtime/bits.h"

#include <cstdint>
#include <cstring>
#include <vector>

namespace rnnfast::core {

namespace {

// start + a * b
float sum_of(const GemmKernel& product, float a, float b, float start) {
    const std::vector<float> panel(product.width, b), starts(product.width, start);
    float c = 0;
    Gemm g;
    g.rows = g.depth = g.columns = 1;
    g.a = {&a, 1, 0, 0};
    g.panels = panel.data();
    g.start = starts.data();
    g.c = {&c, 1, 0, 0};
    product.run(g);
    return c;
}

float bf16_pair(uint32_t bits) {
    const uint32_t word = bits | bits << 16;
    float pair;
    std::memcpy(&pair, &word, sizeof pair);
    return pair;
}

}  // namespace

const char* bits_of(const Kernels& kernels) {
    // (1 + 2^-12)^2 - (1 + 2^-11) = 2^-24, or 0 if the square is rounded before the sum.
    const float a = 1 + 0x1p-12f;
    if (sum_of(kernels.product(), a, a, -(1 + 0x1p-11f)) == 0) return "unfused";
    // 1 + 2^-24 + 2^-24 is 1 from left to right.
    const float one = bf16_pair(0x3f80), small = bf16_pair(0x3380);
    return sum_of(kernels.gemm[gemm_bf16][gemm_wide], one, small, 1) == 1 ? "fused" : "fused, bf16 in tiles";
}

}  // namespace rnnfast::core
