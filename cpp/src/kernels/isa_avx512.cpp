#define RNNFAST_ISA avx512
#include "kernels/kernels.inc"
