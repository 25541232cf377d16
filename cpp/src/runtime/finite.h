// Numbers from outside, looked through in one pass.
#pragma once

#include <cstddef>

namespace rnnfast::core {

// Place of the first NaN or infinity, or `size`.
size_t first_not_finite(const float* x, size_t size);

}  // namespace rnnfast::core
