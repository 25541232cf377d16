// The layer of attention_function.h: torch.nn.MultiheadAttention's weights and names, where query, key and value are
// the same sequence; whole, or one step after another with the keys and values of those before.
#pragma once

#include "layers/attention_function.h"
#include "layers/packed.h"
#include "layers/parameter.h"
#include "runtime/weights_stamp.h"

namespace rnnfast::core {

// The tape of one forward of a layer.
struct SelfAttentionTape {
    AttentionTape attention;
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

class SelfAttention {
public:
    // Without a seed, the parameters have no values: load() packs those of a file.
    SelfAttention(const AttentionOptions& options, std::optional<uint64_t> seed, const Kernels& kernels);
    // For running only: packs the values of a file and keeps no others.
    void load(const FileValues& values);
    size_t packed_columns() const;  // of in_proj_weight

    const AttentionOptions& options() const { return function_.options(); }
    const Kernels& kernels() const { return function_.kernels(); }
    Parameters parameters();
    void weights_changed();

    // lengths: [N] steps of each row, or nullptr; steps beyond them have no part and give zeros.
    void forward(const ConstSequence& x, const int64_t* lengths, float* y, SelfAttentionTape& tape, bool save) const;
    // Adds to the parameters' gradients; writes dx unless it is nullptr. x is what forward had. Uses the tape up.
    void backward(SelfAttentionTape& tape, const float* x, const float* dy, float* dx);
    // One more step of every row, which sees all steps in the cache: x, y [N, D]. The bits of a causal forward.
    void step(const float* x, size_t rows, AttentionCache& cache, float* y) const;

private:
    AttentionParameters values() const;
    const AttentionForward& packed_forward() const;
    void fit(AttentionCache& cache, size_t rows) const;
    void append(AttentionCache& cache, const float* projected) const;

    AttentionFunction function_;
    Parameter in_weight_, in_bias_, out_weight_, out_bias_;  // [3 D, D], [3 D], [D, D], [D]
    Packed<AttentionForward> forward_;
    Packed<AttentionBackward> backward_;
    WeightsStamp stamp_;
};

}  // namespace rnnfast::core
