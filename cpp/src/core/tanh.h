// y = tanh(x) on rows, by the recurrent cells' kernel: one tanh in the project, the same bits on every ISA.
#pragma once

#include "core/buffer.h"
#include "kernels/table.h"

namespace rnnfast {

// Floats that x needs for rows of `columns`: the kernel reads whole blocks.
constexpr size_t tanh_floats(size_t rows, size_t columns) { return rows * columns + unit_block; }

// x, y: [rows, columns], x in memory of tanh_floats. y may be x's own memory. zeros grows at the first call.
void tanh_forward(const Kernels& kernels, size_t rows, size_t columns, const float* x, float* y, Buffer& zeros);
// dx = dy (1 - y^2); dx may be dy.
void tanh_backward(size_t size, const float* y, const float* dy, float* dx);

}  // namespace rnnfast
