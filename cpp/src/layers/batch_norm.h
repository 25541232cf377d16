// torch.nn.BatchNorm1d on sequences whose channels lie side by side: every channel is normalized over all steps of all
// rows in training, and by running statistics otherwise.
#pragma once

#include "layers/packed.h"
#include "layers/parameter.h"

namespace rnnfast::core {

struct BatchNormOptions {
    size_t size = 0;
    float epsilon = 1e-5f, momentum = 0.1f;
    bool affine = true;  // it has a weight and a bias
};

// What a forward in training leaves for its backward.
struct BatchNormTape {
    Buffer mean, variance, scale;  // [size] of the batch; weight / sqrt(variance + epsilon)
};

// The steps of rows that count: `places` [count] among x [.., size], or nullptr: the first `count`.
struct BatchPlaces {
    const size_t* places = nullptr;
    size_t count = 0;
};

class BatchNorm1d {
public:
    // Without `values`, the parameters have none: load() copies those of a file.
    BatchNorm1d(const BatchNormOptions& options, const Kernels& kernels, bool values);
    void load(const FileValues& values);
    Parameters parameters();
    void weights_changed() { folded_.weights_changed(); }

    // y = (x - mean) * scale + bias for all places, with the running statistics. One step of a stream is the forward of
    // its rows.
    void forward(const float* x, size_t places, float* y, size_t most_threads) const;
    // The same with the batch's own. Throws std::invalid_argument for fewer than two places.
    void forward_in_training(const float* x, const BatchPlaces& p, float* y, BatchNormTape& tape) const;
    // Adds to the parameters' gradients; writes dx at these places unless it is nullptr. The running statistics move
    // towards those of the batch: forward may run on several threads, and changes nothing.
    void backward(const float* x, const float* dy, const BatchPlaces& p, float* dx, BatchNormTape& tape);

private:
    struct Folded {
        Buffer mean, scale, bias;
    };
    const Folded& folded() const;
    void fold(const float* variance, float* scale) const;
    void move_running_statistics(const BatchNormTape& tape, size_t count);

    BatchNormOptions options_;
    const Kernels* kernels_;
    Parameter weight_, bias_, running_mean_, running_var_;  // [size]
    Packed<Folded> folded_;
};

}  // namespace rnnfast::core
