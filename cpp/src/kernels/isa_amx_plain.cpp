// For tests: the tiles of AMX in plain C++, on CPUs without them. Dispatch takes the other kernels from wide.
#define RNNFAST_ISA amx_plain
#include "kernels/tile_products.inc"

namespace rnnfast::core::amx_plain {

extern const Kernels kernels;
constexpr Kernels kernels = tile_products<Int8Tiles>();

}  // namespace rnnfast::core::amx_plain
