#define RNNFAST_ISA generic
#define RNNFAST_GENERIC
#include "kernels/kernels.inc"
