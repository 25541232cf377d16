// Functions of single numbers on any number of them, on several threads: the same bits on every ISA.
#pragma once

#include "kernels/table.h"
#include "runtime/named.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

// x = tanh(x)
void tanh_(const Kernels& kernels, size_t size, float* x);
// dy *= 1 - y^2 with y = tanh(x): dy becomes the gradient of x.
void tanh_gradient_(const Kernels& kernels, size_t size, const float* y, float* dy);

// In the order of PointwiseIndex.
enum class Pointwise { relu, leaky_relu, elu, tanh, sigmoid, hard_sigmoid, silu, gelu };
template <>
struct Named<Pointwise> {
    static constexpr std::string_view names[] = {"relu",    "leaky_relu",   "elu",  "tanh",
                                                 "sigmoid", "hard_sigmoid", "silu", "gelu"};
};
// Whether the gradient is a function of x; otherwise it is one of y.
inline bool gradient_reads_x(Pointwise f) { return f == Pointwise::silu || f == Pointwise::gelu; }

// y = f(x); y may be x.
void pointwise(const Kernels& kernels, Pointwise f, size_t size, const float* x, float* y,
               size_t most_threads = all_threads);
// dx = dy f'(x); dx may be dy.
void pointwise_gradient(const Kernels& kernels, Pointwise f, size_t size, const float* x_or_y, const float* dy,
                        float* dx);

// y += x, and y = a * b
void add(const Kernels& kernels, size_t size, const float* x, float* y, size_t most_threads = all_threads);
void multiply(const Kernels& kernels, size_t size, const float* a, const float* b, float* y,
              size_t most_threads = all_threads);

}  // namespace rnnfast::core
