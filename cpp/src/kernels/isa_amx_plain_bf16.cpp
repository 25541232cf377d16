// For tests: the bf16 product in tiles in plain C++. Dispatch takes the other kernels from wide.
#define RNNFAST_ISA amx_plain_bf16
#include "kernels/tile_products.inc"

namespace rnnfast::core::amx_plain_bf16 {

extern const Kernels kernels;
constexpr Kernels kernels = tile_products<Bf16Tiles>();

}  // namespace rnnfast::core::amx_plain_bf16
