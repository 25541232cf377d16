// tanh on any number of floats, on several threads: the same bits on every ISA.
#pragma once

#include "kernels/table.h"

namespace rnnfast::core {

// x = tanh(x)
void tanh_(const Kernels& kernels, size_t size, float* x);
// dy *= 1 - y^2 with y = tanh(x): dy becomes the gradient of x.
void tanh_gradient_(const Kernels& kernels, size_t size, const float* y, float* dy);

}  // namespace rnnfast::core
