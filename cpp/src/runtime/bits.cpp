#include "runtime/bits.h"

#include <vector>

namespace rnnfast::core {

const char* bits_of(const Kernels& kernels) {
    const GemmKernel& product = kernels.product();
    // (1 + 2^-12)^2 - (1 + 2^-11) = 2^-24, or 0 if the square is rounded before the sum.
    const float a = 1 + 0x1p-12f;
    const std::vector<float> panel(product.width, a), start(product.width, -(1 + 0x1p-11f));
    float c = 0;
    Gemm g;
    g.rows = g.depth = g.columns = 1;
    g.a = {&a, 1, 0, 0};
    g.panels = panel.data();
    g.start = start.data();
    g.c = {&c, 1, 0, 0};
    product.run(g);
    return c == 0 ? "unfused" : "fused";
}

}  // namespace rnnfast::core
