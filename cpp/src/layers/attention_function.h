// Self-attention as a function: softmax(Q K^T / sqrt(D / heads)) V for every head, with its two projections. It owns no
// parameters: SelfAttention brings its own, and a framework with tensors of its own calls it by address. Scores are
// computed in blocks with a running maximum and never kept, so memory is O(T * D); backward computes them again from
// each row's maximum and sum.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "ops/attention_blocks.h"
#include "ops/convolve.h"
#include "runtime/fork.h"

namespace rnnfast::core {

struct AttentionOptions {
    size_t embed_dim = 0, num_heads = 1;
    bool causal = false, bias = true;
};

// torch.nn.MultiheadAttention's: in_proj [3 D, D] and [3 D], out_proj [D, D] and [D]; no biases: nullptr.
struct AttentionParameters {
    const float *in_weight = nullptr, *in_bias = nullptr, *out_weight = nullptr, *out_bias = nullptr;
};
// Added to; nullptr where a gradient is not wanted.
struct AttentionGradients {
    float *in_weight = nullptr, *in_bias = nullptr, *out_weight = nullptr, *out_bias = nullptr;
};

// The parameters in the order of the products, for forward and for backward.
struct AttentionForward {
    PackedMatrix in, out;
    Buffer in_start, out_start;  // what sums start from: the biases, or zeros
};
struct AttentionBackward {
    PackedMatrix in, out;
    Buffer zeros;
};

// What one forward leaves for its backward.
struct AttentionTape {
    Layout layout{};
    std::vector<size_t> lengths;  // steps of each row; those beyond have no part and give zeros
    std::vector<size_t> keys;     // the first steps of each row, which all steps look at
    float* memory = nullptr;      // [saved_floats] the caller's, or nullptr: `own`
    Buffer own;
    float* projected = nullptr;                    // [N][Q K V][heads][panels][T][width], Q with its scale
    float* context = nullptr;                      // [T, N, D] in the input's layout
    float *maximum = nullptr, *inverse = nullptr;  // [N, heads, T] of every row of scores; 1 / sum
};

// A call by address.
struct AttentionCall {
    AttentionParameters parameters;
    ConstSequence x;
    const int64_t* keys = nullptr;  // [N] at least 1: how many of the first steps of a row are looked at; nullptr: all
    float* y = nullptr;
    float* saved = nullptr;  // [saved_floats] forward writes, backward reads; nullptr: there will be no backward
};

// Rows of panels of a step: queries, keys, values.
enum AttentionPart { part_q, part_k, part_v };
constexpr size_t attention_parts = 3;

class AttentionFunction {
public:
    AttentionFunction(const AttentionOptions& options, const Kernels& kernels);

    const AttentionOptions& options() const { return options_; }
    const Kernels& kernels() const { return *kernels_; }
    const HeadPanels& heads() const { return heads_; }
    size_t saved_floats(size_t steps, size_t rows) const;

    // Any number of threads may call these together. Without `saved`, the weights stay packed from call to call, and
    // every call compares them with what was packed.
    void forward(const AttentionCall& call) const;
    void backward(const AttentionCall& call, const float* dy, const AttentionGradients& g, float* dx) const;
    // Weights as they are now, packed for any number of calls that do not look at the parameters again.
    std::shared_ptr<const AttentionForward> packed(const AttentionParameters& p) const;
    void forward(const AttentionCall& call, const AttentionForward& packed) const;

    // The same for a layer that keeps its weights packed, and its tapes.
    void pack(const AttentionParameters& p, AttentionForward& to) const;
    void pack(const AttentionParameters& p, AttentionBackward& to) const;
    void run(const AttentionForward& p, const ConstSequence& x, float* y, AttentionTape& tape) const;
    void run_backward(const AttentionBackward& p, const AttentionTape& tape, const float* x, const float* dy,
                      const AttentionGradients& g, float* dx) const;
    // x of some steps into panels [N][Q K V][heads][panels][steps][width].
    void project(const Team& team, const AttentionForward& p, const ConstSequence& x,
                 const std::vector<size_t>& lengths, float* to) const;

private:
    struct Workspace {
        AttentionForward forward;
        AttentionBackward backward;
        uint64_t fingerprint = 0;
        bool filled = false;  // forward holds the weights of `fingerprint`
        AttentionTape tape;
    };
    struct Work;
    void lay_out(AttentionTape& tape) const;
    void open(const AttentionCall& call, AttentionTape& tape) const;
    Head head_of(const AttentionTape& tape, size_t row, size_t head) const;
    void output_backward(const Team& team, Work& work) const;
    void heads_backward(const Team& team, Work& work) const;
    void input_backward(const Team& team, Work& work, float* dx) const;
    void learn(const Team& team, Work& work) const;

    AttentionOptions options_;
    const Kernels* kernels_;
    HeadPanels heads_;
    float scale_;
    mutable Pool<Workspace> workspaces_;
};

}  // namespace rnnfast::core
