// Functions of single numbers on any number of them, on several threads: the same bits on every ISA.
#pragma once

#include <optional>

#include "kernels/table.h"
#include "runtime/named.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

// x = tanh(x)
void tanh_(const Kernels& kernels, size_t size, float* x);
// dy *= 1 - y^2 with y = tanh(x): dy becomes the gradient of x.
void tanh_gradient_(const Kernels& kernels, size_t size, const float* y, float* dy);

// In the order of PointwiseIndex.
enum class Pointwise { relu, leaky_relu, elu, tanh, sigmoid, hard_sigmoid, silu, gelu, gelu_tanh, softplus, clip };
template <>
struct Named<Pointwise> {
    static constexpr std::string_view names[] = {"relu",      "leaky_relu",   "elu",  "tanh",
                                                 "sigmoid",   "hard_sigmoid", "silu", "gelu",
                                                 "gelu_tanh", "softplus",     "clip"};
};
// A function, with alpha and beta if it has them.
struct Activation {
    Pointwise function = Pointwise::relu;
    PointwiseShape shape;

    // Without alpha or beta, PyTorch's. Throws std::invalid_argument for what the function does not have or cannot
    // have.
    static Activation of(Pointwise function, std::optional<double> alpha = {}, std::optional<double> beta = {});
    // Whether the gradient is a function of x; otherwise it is one of y.
    bool gradient_reads_x() const {
        return function == Pointwise::silu || function == Pointwise::gelu || function == Pointwise::gelu_tanh;
    }
};

// y = f(x); y may be x.
void pointwise(const Kernels& kernels, const Activation& f, size_t size, const float* x, float* y,
               size_t most_threads = all_threads);
// dx = dy f'(x); dx may be dy.
void pointwise_gradient(const Kernels& kernels, const Activation& f, size_t size, const float* x_or_y, const float* dy,
                        float* dx);

// Softmax of each row, or its logarithm: y of x [rows, size], and dx of y and dy; y may be x, and dx may be dy.
void row_softmax(const Kernels& kernels, const RowSoftmax& s, size_t most_threads = all_threads);
void row_softmax_gradient(const Kernels& kernels, const RowSoftmax& s);

// y += x, and y = a * b
void add(const Kernels& kernels, size_t size, const float* x, float* y, size_t most_threads = all_threads);
void multiply(const Kernels& kernels, size_t size, const float* a, const float* b, float* y,
              size_t most_threads = all_threads);
// y = factor * x; y may be x.
void scale(const Kernels& kernels, size_t size, float factor, const float* x, float* y,
           size_t most_threads = all_threads);

// y [rows, size] = sqrt(a^2 + b^2), with [a, b] a row of x [rows, 2 size]; dx of y and dy, which is 0 where y is.
void magnitude(size_t rows, size_t size, const float* x, float* y, size_t most_threads = all_threads);
void magnitude_gradient(size_t rows, size_t size, const float* x, const float* y, const float* dy, float* dx);

// Of x, on the caller's thread: eight sums in double, each of every eighth number.
double sum_of_squares(size_t size, const float* x);
// Whether no bit of x is set.
bool all_zero(size_t size, const float* x);

// w += min(decay s, 1) (first - w) - learning_rate g / (s + epsilon), with s = scale; on the caller's thread
struct DynamicStep {
    size_t size = 0;
    float* weight = nullptr;
    const float *grad = nullptr, *first = nullptr, *scale = nullptr;
    float learning_rate = 0, decay = 0, epsilon = 0;
};
void dynamic_step(const DynamicStep& s);

}  // namespace rnnfast::core
