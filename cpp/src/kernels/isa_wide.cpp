#define RNNFAST_ISA wide
#define RNNFAST_WIDE
#include "kernels/kernels.inc"
