// y = tanh(x) on rows, by the recurrent cells' kernel: one tanh in the project, the same bits on every ISA.
#pragma once

#include "kernels/table.h"
#include "runtime/buffer.h"

namespace rnnfast::core {

// x, y: [rows, columns]; y may be x. zeros grows at the first call.
void tanh_forward(const Kernels& kernels, size_t rows, size_t columns, const float* x, float* y, Buffer& zeros);
// dx = dy (1 - y^2); dx may be dy.
void tanh_backward(size_t size, const float* y, const float* dy, float* dx);

}  // namespace rnnfast::core
