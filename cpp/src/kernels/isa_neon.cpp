#define RNNFAST_ISA neon
#include "kernels/kernels.inc"
