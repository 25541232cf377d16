// logits = z W^T + b, and their softmax cross-entropy: the last layer of every model over a vocabulary.
#pragma once

#include <atomic>
#include <memory>

#include "layers/packed.h"
#include "layers/parameter.h"
#include "ops/group_tree.h"
#include "ops/largest_outputs.h"
#include "ops/softmax_loss.h"
#include "ops/steps.h"

namespace rnnfast::core {

using LargestMemory = LargestOutputs::Scratch;

// 1 / the number of targets that count, those that are not negative; 0 if there are none.
float weight_in_mean(const int32_t* targets, size_t rows);

// The parameters stay with the model; here they are kept in the orders and the precision that products want.
class OutputLayer {
public:
    OutputLayer() = default;
    OutputLayer(const Kernels& kernels, Weights weights, Parameter* weight, Parameter* bias);  // [V, Z]; [V] or nullptr

    size_t inputs() const { return weight_->shape[1]; }
    size_t vocabulary() const { return weight_->shape[0]; }
    void weights_changed();
    // For running only: packs the values of a file for logits(), or for argmax() as well, and keeps no others.
    void pack(const FileValues& values, bool for_argmax = false);

    // z: [rows, Z], logits: [rows, V]. Several threads may call this together, each with its own scratch.
    void logits(const float* z, size_t rows, float* logits, Buffer& scratch, size_t most_threads = all_threads) const;
    size_t logits_scratch(size_t rows) const { return linear().scratch(rows); }  // floats

    // tokens[r] = argmax of row r's logits, excluding `never` (in ascending order); ties go to the lower id; -1 where
    // the logits are not finite. Faster than logits(). products: [rows, V] out, z W^T, which `loss` then need not
    // compute again; or nullptr.
    void argmax(const float* z, size_t rows, const std::vector<int32_t>& never, int32_t* tokens, LargestMemory& memory,
                float* products = nullptr) const;

    // logits: [V] out, of one row: those that are among the `count` largest, or that tie with the last of them, NaN and
    // plus infinity; others may be minus infinity instead. Faster than logits() where `count` is small and V large.
    // count 0: all.
    void largest_logits(const float* z, size_t count, float* logits, LargestMemory& memory,
                        size_t most_threads = all_threads) const;

    // nll: [rows] out, -log softmax(logits)[target] in nats, 0 where the target is negative. With dz [rows, Z] the
    // gradients of the mean over the targets that count: dz, and the parameters' until add_gradients() adds them.
    // products: of the rows that `argmax` has seen, nullptr for others; or nullptr.
    // Several threads may be in `loss` at a time, each with its own memory.
    struct LossMemory {
        Buffer dweight, dbias, logits, scratch;
        Buffer z, dz;  // of a group
        std::vector<int32_t> targets;
        std::vector<double> nll;
        std::vector<const float*> products;
        std::optional<float> weight;  // of a row's nll in the gradients, instead of that in the mean
        // Without groups: the parameters' gradients are zeros that nobody reads until add_gradients(), so `loss` writes
        // its own there.
        bool into_zeros = false;
    };
    void loss(const float* z, size_t rows, const int32_t* targets, double* nll, float* dz, LossMemory& memory,
              const float* const* products = nullptr) const;
    // The same for groups of rows: the gradients are those of the sum of the groups' means, summed over each group
    // alone.
    struct LossOfGroups {
        const float* z;
        const int32_t* targets;
        const std::vector<GroupRows>& groups;
        const GroupSums& sums;
        const float* const* products = nullptr;
    };
    void loss(const LossOfGroups& given, double* nll, float* dz, LossMemory& memory) const;
    void add_gradients(const LossMemory& memory);
    // nll as loss computes it, from packed weights, which a layer that only runs has.
    void nll(const float* z, size_t rows, const int32_t* targets, double* nll, LossMemory& memory) const;

private:
    const PackedLinear& linear() const;
    bool screened(size_t rows) const;  // by argmax
    const LargestOutputs& screen() const;
    struct WeightWords {
        Buffer rows;   // [V, words] left rows of the logits
        Buffer pairs;  // [V / 2 rounded up, Z] left rows of the gradients; empty if these are in f32
        size_t words = 0;
    };
    const WeightWords& weight_words(const GemmKernel& gemm) const;
    OutputLoss loss_of(const float* z, size_t rows, const int32_t* targets, double* nll, LossMemory& memory) const;
    void want_gradients(OutputLoss& l, float* dz, float* dweight, float* dbias) const;
    const float* bias() const { return bias_ ? bias_->value.data() : nullptr; }

    const Kernels* kernels_ = nullptr;
    Weights weights_ = Weights::f32;
    Parameter *weight_ = nullptr, *bias_ = nullptr;
    Packed<PackedLinear> linear_;    // the right-hand side of `logits`
    Packed<LargestOutputs> screen_;  // for `argmax` and `largest_logits`
    Packed<WeightWords> words_;      // of the loss, in a low precision
    // Of largest_logits with the present weights
    std::unique_ptr<std::atomic<size_t>> calls_ = std::make_unique<std::atomic<size_t>>(0);
};

}  // namespace rnnfast::core
