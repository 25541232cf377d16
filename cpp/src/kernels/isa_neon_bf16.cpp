// The products in low precision alone, by FEAT_BF16 and FEAT_I8MM: runtime/dispatch takes the other kernels from neon.
#define RNNFAST_ISA neon_bf16
#include "kernels/low_precision.inc"

namespace rnnfast::core::neon_bf16 {

extern const Kernels kernels;
constexpr Kernels kernels = low_precision();

}  // namespace rnnfast::core::neon_bf16
