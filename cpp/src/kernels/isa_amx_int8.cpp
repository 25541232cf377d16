// The int8 product alone: runtime/dispatch takes the other kernels from other tables.
#define RNNFAST_ISA amx_int8
#include "kernels/tile_products.inc"

namespace rnnfast::core::amx_int8 {

extern const Kernels kernels;
constexpr Kernels kernels = tile_products<Int8Tiles>();

}  // namespace rnnfast::core::amx_int8
