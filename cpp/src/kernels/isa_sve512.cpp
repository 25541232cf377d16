// The products on vectors of 512 bits: runtime/dispatch takes the other kernels from neon.
#define RNNFAST_ISA sve512
#define RNNFAST_SVE
#include "kernels/product_loops.inc"
