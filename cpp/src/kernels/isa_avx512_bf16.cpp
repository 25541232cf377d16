// The products in low precision alone: runtime/dispatch takes the other kernels from avx512.
#define RNNFAST_ISA avx512_bf16
#include "kernels/low_precision.inc"

namespace rnnfast::core::avx512_bf16 {

extern const Kernels kernels;
constexpr Kernels kernels = low_precision();

}  // namespace rnnfast::core::avx512_bf16
