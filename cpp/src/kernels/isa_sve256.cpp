// The products on vectors of 256 bits: runtime/dispatch takes the other kernels from neon.
#define RNNFAST_ISA sve256
#define RNNFAST_SVE
#include "kernels/product_loops.inc"
