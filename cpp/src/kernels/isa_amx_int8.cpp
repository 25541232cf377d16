// The int8 product alone: runtime/dispatch takes the other kernels from avx512_bf16.
#define RNNFAST_ISA amx_int8
#include "kernels/tile_products.inc"
