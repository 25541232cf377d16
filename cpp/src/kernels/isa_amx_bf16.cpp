// The bf16 product alone, whose sums have another order than those of other tables: runtime/dispatch takes the other
// kernels from amx_int8.
#define RNNFAST_ISA amx_bf16
#include "kernels/tile_products.inc"

namespace rnnfast::core::amx_bf16 {

extern const Kernels kernels;
constexpr Kernels kernels = tile_products<Bf16Tiles>();

}  // namespace rnnfast::core::amx_bf16
