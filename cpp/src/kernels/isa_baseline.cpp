#define RNNFAST_ISA baseline
#include "kernels/kernels.inc"
