// torch.nn.Linear: y = x W^T + b.
#pragma once

#include "layers/group_gradients.h"
#include "layers/packed.h"
#include "layers/parameter.h"
#include "ops/packed_linear.h"
#include "runtime/weights_stamp.h"

namespace rnnfast::core {

class Linear {
public:
    // Without a seed, the parameters have no values: pack() takes those of a file. weights: the precision of forward;
    // gradients are products in f32.
    Linear(size_t inputs, size_t outputs, bool bias, std::optional<uint64_t> seed, const Kernels& kernels,
           Weights weights = Weights::f32);
    // For running only: packs the values of a file and keeps no others.
    void pack(const FileValues& values);

    size_t inputs() const { return weight_.shape[1]; }
    size_t outputs() const { return weight_.shape[0]; }
    const Kernels& kernels() const { return *kernels_; }
    Parameters parameters();
    void weights_changed();
    const WeightsStamp& weights_stamp() const { return stamp_; }

    // x: [rows, I], y: [rows, O]. One step of a stream is the forward of its rows.
    void forward(const float* x, size_t rows, float* y) const;
    // The same in the caller's scratch, which grows at the first call.
    void forward(const float* x, size_t rows, float* y, Buffer& scratch, size_t most_threads) const;
    size_t scratch(size_t rows) const { return packed().scratch(rows); }  // floats
    // Adds to the parameters' gradients; writes dx [rows, I] unless it is nullptr.
    void backward(const float* x, const float* dy, size_t rows, float* dx);
    // The same for rows of groups, whose gradients are summed alone.
    void backward(const float* x, const float* dy, float* dx, const RowGroups& groups,
                  const std::vector<GroupRows>& rows, GroupGradientsMemory& memory);

private:
    LinearGradients gradients(const float* x, const float* dy, size_t rows, float* dx);
    bool has_bias() const { return bias_.shape[0] != 0; }
    const PackedLinear& packed() const;

    const Kernels* kernels_;
    Parameter weight_, bias_;  // [O, I], [O]
    Packed<PackedLinear> packed_;
    mutable Pool<Buffer> scratch_;
    WeightsStamp stamp_;
};

}  // namespace rnnfast::core
