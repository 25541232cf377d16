// The products in int8 alone, by FEAT_DotProd: runtime/dispatch takes the other kernels from neon.
#define RNNFAST_ISA neon_dotprod
#include "kernels/int8_products.inc"

namespace rnnfast::core::neon_dotprod {

extern const Kernels kernels;
constexpr Kernels kernels = int8_products();

}  // namespace rnnfast::core::neon_dotprod
