// Attention over the steps of each row with one learned query: y = sum over t of softmax_t(w . x_t) x_t.
#pragma once

#include "layers/parameter.h"
#include "ops/pool.h"

namespace rnnfast::core {

class AttentionPool1d {
public:
    // Without a seed, the parameter has no values: load() copies those of a file.
    AttentionPool1d(size_t size, std::optional<uint64_t> seed, const Kernels& kernels);
    void load(const FileValues& values) { copy_values(weight_, values); }
    Parameters parameters() { return {&weight_}; }

    size_t state_size() const { return size_ + 2; }
    // y: [N, W], each row over its own length; zeros for a row of length 0. states: [N, W + 2] out.
    void forward(const PooledSequence& s, float* y, Buffer& states) const;
    // One step of one row; the state begins as zeros.
    void step(const float* x, float* state, float* y) const;
    // Adds to the parameter's gradient; writes dx [T, N, W] unless it is nullptr. states: forward's.
    void backward(const PooledSequence& s, const float* y, const float* dy, float* dx, Buffer& states);

private:
    // The kernel's arguments for one row of a sequence; its output, and its gradients, are the caller's.
    AttentionPool of_row(const PooledSequence& s, size_t row, float* states) const;

    size_t size_;
    const Kernels* kernels_;
    Parameter weight_;  // [1, W], as that of a Linear layer with one output
};

}  // namespace rnnfast::core
