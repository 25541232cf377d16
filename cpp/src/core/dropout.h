// Inverted dropout. The mask is a function of (key, index), so backward makes it again instead of storing it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rnnfast {

// y[i] = x[i] * mask[i] / (1 - p), P(mask = 0) = p to 1/65536. x and y may be the same; gradients go the same way.
void dropout(const float* x, float* y, size_t size, float p, uint64_t key);

}  // namespace rnnfast
