// y = x W^T + b
#pragma once

#include "kernels/table.h"
#include "ops/packing.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

// For inference: weights packed once, shared by any number of callers.
class PackedLinear {
public:
    PackedLinear() = default;
    PackedLinear(const Kernels& kernels, Weights weights, size_t inputs, size_t outputs);
    // Takes the memory it needs at the first call. weight: [O, I], bias: [O] or nullptr
    void pack(const float* weight, const float* bias);

    // x: [rows, I], y: [rows, O]. The bias joins after the sum, as in the loss, so both give the same logits.
    // scratch grows at the first call, then allocates no more.
    // most_threads = 1: on the caller's thread, without a lock or a system call.
    void forward(const float* x, size_t x_stride, size_t rows, float* y, Buffer& scratch,
                 size_t most_threads = all_threads) const {
        run(x, x_stride, rows, y, scratch, most_threads, bias_.data());
    }
    // The same without the bias.
    void product(const float* x, size_t x_stride, size_t rows, float* y, Buffer& scratch,
                 size_t most_threads = all_threads) const {
        run(x, x_stride, rows, y, scratch, most_threads, nullptr);
    }

    size_t scratch(size_t rows) const { return left_scratch(packed_, rows); }  // floats

    // In f32: outputs first ... first + count of one row, from a block of 16 on and within a panel; the bits of
    // forward.
    void forward_columns(const float* x, size_t first, size_t count, float* y) const;
    // In f32: the weights as they were packed, [O, I].
    void unpack(float* weight) const;
    const float* bias() const { return bias_.data(); }
    size_t panel_width() const { return packed_.width(); }

    size_t inputs() const { return inputs_; }
    size_t outputs() const { return outputs_; }

private:
    void run(const float* x, size_t x_stride, size_t rows, float* y, Buffer& scratch, size_t most_threads,
             const float* bias) const;

    const Kernels* kernels_ = nullptr;
    Weights weights_ = Weights::f32;
    size_t inputs_ = 0, outputs_ = 0;
    PackedMatrix packed_;
    Buffer bias_, zeros_;
};

// Training: the same product and its gradients from PyTorch's order, weights not packed beforehand by the caller.
struct LinearGradients {
    const float* x;       // [rows, I]
    const float* dy;      // [rows, O]
    const float* weight;  // [O, I]
    size_t rows, inputs, outputs;
    float* dx;         // [rows, I] out, or nullptr
    float* dweight;    // [O, I] added to, or nullptr
    float* dbias;      // [O] added to, or nullptr
    bool add = false;  // dx is added to
};
void linear_backward(const Kernels& kernels, const LinearGradients& g);

}  // namespace rnnfast::core
