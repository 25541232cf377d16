// Sampled softmax, for training over large vocabularies (Jean et al., arXiv:1412.2007): the softmax of a row runs over
// its target and over `samples` other classes, which all rows share. Classes are drawn without repetition, log-uniform,
//
//     Q(c) = log((c + 2) / (c + 1)) / log(V + 1)
//
// so that frequent tokens, which have low ids, come often. log of the expected count of a class, -expm1(n log1p(-Q))
// for the n tries that it took, is subtracted from its logit: the gradient then tends to that of the full softmax. A
// sampled class that is a row's target counts for that row once, as in TensorFlow's sampled_softmax_loss.
#pragma once

#include "layers/parameter.h"
#include "ops/packed_linear.h"

namespace rnnfast::core {

class SampledSoftmax {
public:
    // [V, Z], [V]; 0 < samples < V
    struct Layer {
        Parameter *weight, *bias;
        size_t samples;
        Weights weights;  // precision of the product
    };
    struct Batch {
        const float* z;  // [rows, Z]
        size_t rows;
        const int32_t* targets;  // [rows]; negative: the row counts for nothing
        double* nll;             // [rows] out, of the sampled softmax
        float* dz;               // [rows, Z] out, of the mean nll
    };
    // Call i of a key draws the same classes on any number of threads.
    void loss(const Kernels& kernels, const Layer& layer, const Batch& batch, uint64_t key);
    void add_gradients(const Kernels& kernels, const Layer& layer) const;

private:
    void draw(size_t vocabulary, size_t samples, uint64_t key);
    void join_targets(const Batch& batch);
    void correct(size_t vocabulary, Buffer& bias) const;
    void softmax(const Kernels& kernels, const Batch& batch, float weight);

    std::vector<int32_t> classes_;  // sampled or targets, ascending
    std::vector<bool> sampled_;     // of each class
    std::vector<int32_t> column_;   // of each row's target among the classes; -1: no target
    double tries_ = 0;              // that the samples took
    Buffer weight_, bias_, logits_, scratch_, dweight_, dbias_;
};

}  // namespace rnnfast::core
