// torch.nn.Linear: y = x W^T + b.
#pragma once

#include "layers/packed.h"
#include "layers/parameter.h"
#include "ops/packed_linear.h"
#include "runtime/weights_stamp.h"

namespace rnnfast::core {

class Linear {
public:
    Linear(size_t inputs, size_t outputs, bool bias, uint64_t seed, const Kernels& kernels);

    size_t inputs() const { return weight_.shape[1]; }
    size_t outputs() const { return weight_.shape[0]; }
    const Kernels& kernels() const { return *kernels_; }
    Parameters parameters();
    void weights_changed();
    const WeightsStamp& weights_stamp() const { return stamp_; }

    // x: [rows, I], y: [rows, O]. One step of a stream is the forward of its rows.
    void forward(const float* x, size_t rows, float* y) const;
    // Adds to the parameters' gradients; writes dx [rows, I] unless it is nullptr.
    void backward(const float* x, const float* dy, size_t rows, float* dx);

private:
    bool has_bias() const { return bias_.size() != 0; }

    const Kernels* kernels_;
    Parameter weight_, bias_;  // [O, I], [O]
    Packed<PackedLinear> packed_;
    mutable Pool<Buffer> scratch_;
    WeightsStamp stamp_;
};

}  // namespace rnnfast::core
