// Self-attention: softmax(Q K^T / sqrt(D / heads)) V for every head, with its two projections. Scores are computed in
// blocks with a running maximum and never kept, so memory is O(T * D); backward computes them again from each row's
// maximum and sum.
#pragma once

#include <vector>

#include "layers/packed.h"
#include "layers/parameter.h"
#include "ops/attention_blocks.h"
#include "ops/convolve.h"
#include "runtime/weights_stamp.h"

namespace rnnfast::core {

struct AttentionOptions {
    size_t embed_dim = 0, num_heads = 1;
    bool causal = false, bias = true;
};

// What one forward leaves for its backward.
struct AttentionTape {
    Layout layout;
    std::vector<size_t> lengths;
    Buffer projected;         // [N][Q K V][heads][panels][T][width], Q with its scale
    Buffer context;           // [T, N, D] in the input's layout
    Buffer maximum, inverse;  // [N, heads, T] of every row of scores; 1 / sum
    bool saved = false;
    uint64_t weights = 0;  // their stamp
};

// Keys and values of the steps so far, for one row after another of generation. Grows by doubling. Its first step fits
// it to a layer; a layer of another shape reads and writes beyond its panels, so step refuses it.
struct AttentionCache {
    size_t rows = 0, length = 0, capacity = 0;
    size_t embed_dim = 0, num_heads = 0;
    const Kernels* kernels = nullptr;  // whose panels these are
    ForkSafeMutex mutex;               // held by a step: two at once would both make it grow
    Buffer keys;                       // [N][heads][capacity / width][head size][width]: transposed panels
    Buffer values;                     // [N][heads][panels][capacity][width]
    size_t bytes() const { return (keys.size() + values.size()) * sizeof(float); }
};

// torch.nn.MultiheadAttention's weights and names; query, key and value are the same sequence.
class SelfAttention {
public:
    // Without a seed, the parameters have no values: load() packs those of a file.
    SelfAttention(const AttentionOptions& options, std::optional<uint64_t> seed, const Kernels& kernels);
    // For running only: packs the values of a file and keeps no others.
    void load(const FileValues& values);
    size_t packed_columns() const { return 3 * heads_.heads * heads_.padded(); }  // of in_proj_weight

    const AttentionOptions& options() const { return options_; }
    const Kernels& kernels() const { return *kernels_; }
    Parameters parameters();
    void weights_changed();

    // lengths: [N] steps of each row, or nullptr; steps beyond them have no part and give zeros.
    void forward(const ConstSequence& x, const int64_t* lengths, float* y, AttentionTape& tape, bool save) const;
    // Adds to the parameters' gradients; writes dx unless it is nullptr. x is what forward had. Uses the tape up.
    void backward(AttentionTape& tape, const float* x, const float* dy, float* dx);
    // One more step of every row, which sees all steps in the cache: x, y [N, D]. The bits of a causal forward.
    void step(const float* x, size_t rows, AttentionCache& cache, float* y) const;

private:
    struct Forward {
        PackedMatrix in, out;
        Buffer in_start, out_start;  // what sums start from: the biases, or zeros
    };
    struct Backward {
        PackedMatrix in, out;
        Buffer zeros;
    };
    const Forward& packed_forward() const;
    const Backward& packed_backward() const;
    void fit(AttentionCache& cache, size_t rows) const;
    void append(AttentionCache& cache, const float* projected) const;
    struct Work;
    void output_backward(const Team& team, Work& work);
    void heads_backward(const Team& team, Work& work) const;
    void input_backward(const Team& team, Work& work, float* dx);
    void learn(const Team& team, Work& work);

    AttentionOptions options_;
    const Kernels* kernels_;
    HeadPanels heads_;
    float scale_;
    Parameter in_weight_, in_bias_, out_weight_, out_bias_;  // [3 D, D], [3 D], [D, D], [D]
    Packed<Forward> forward_;
    Packed<Backward> backward_;
    WeightsStamp stamp_;
};

}  // namespace rnnfast::core
