// torch.nn.LayerNorm and RMSNorm over the last axis: every row is normalized on its own.
#pragma once

#include "layers/parameter.h"
#include "runtime/weights_stamp.h"

namespace rnnfast::core {

struct LayerNormOptions {
    size_t size = 0;
    float epsilon = 1e-5f;
    bool weight = true, bias = true;  // a bias needs a weight
    bool centered = true;             // RMSNorm: false
};

class LayerNorm {
public:
    // Without `values`, the parameters have none: load() copies those of a file.
    LayerNorm(const LayerNormOptions& options, const Kernels& kernels, bool values = true);
    void load(const FileValues& values);

    size_t inputs() const { return options_.size; }
    size_t outputs() const { return options_.size; }
    const Kernels& kernels() const { return *kernels_; }
    Parameters parameters();
    void weights_changed() { stamp_.renew(); }
    const WeightsStamp& weights_stamp() const { return stamp_; }

    // x, y: [rows, D]. One step of a stream is the forward of its rows.
    void forward(const float* x, size_t rows, float* y, size_t most_threads = all_threads) const;
    // Adds to the parameters' gradients; writes dx [rows, D] unless it is nullptr. x is what forward had.
    void backward(const float* x, const float* dy, size_t rows, float* dx);

private:
    LayerNormOptions options_;
    const Kernels* kernels_;
    Parameter weight_, bias_;  // [D], [D]
    WeightsStamp stamp_;
};

}  // namespace rnnfast::core
