// Checks numbers from outside in one pass.
#pragma once

#include <cstddef>

namespace rnnfast::core {

// Index of the first NaN or infinity, or `size`.
size_t first_not_finite(const float* x, size_t size);

}  // namespace rnnfast::core
