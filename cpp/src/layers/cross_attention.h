// Attention of a decoder's states over what an encoder left, its memory m: which source step each target step looks at.
//     additive  score_j = v . tanh(W_q s + W_k m_j + b)             Bahdanau, Cho & Bengio, arXiv:1409.0473
//     dot       score_j = s . m_j                                   Luong, Pham & Manning, arXiv:1508.04025
//     general   score_j = s . W m_j
// weights = softmax of the scores over the steps a source row has; context = sum over j of weight_j m_j.
// S source steps, T target steps, N rows, H query units, C memory units.
#pragma once

#include <deque>

#include "layers/group_gradients.h"
#include "layers/packed.h"
#include "layers/parameter.h"
#include "ops/packed_linear.h"
#include "ops/steps.h"
#include "runtime/named.h"

namespace rnnfast::core {

enum class AttentionKind { none, additive, dot, general };
template <>
struct Named<AttentionKind> {
    static constexpr std::string_view names[] = {"none", "additive", "dot", "general"};
};

struct CrossAttentionOptions {
    AttentionKind kind = AttentionKind::additive;
    size_t query_size = 0, memory_size = 0;
    Weights weights = Weights::f32;  // of the products forward; gradients are products in f32
};

struct AttentionMemory {
    size_t steps = 0, rows = 0;
    const float* values = nullptr;    // [S, N, C] the encoder's outputs
    const float* keys = nullptr;      // [S, N, H] what CrossAttention::keys made of them; dot reads the values
    const size_t* lengths = nullptr;  // [N] each in 1..S: what lies beyond has no part
};

// States that look at a memory in one step.
struct AttentionQueries {
    const float* states;  // [rows, H]
    size_t rows;
    const int32_t* source = nullptr;  // [rows] the memory's row of each, or nullptr: row r of the memory for state r
};

struct Attended {
    float* weights;  // [rows, S]
    float* context;  // [rows, C]
    size_t context_stride;
};

// What one forward leaves for its backward, and the workspace of both. Reused, it allocates nothing new. Rows of
// different length lie as in ops/scan: Q of them in all, row (t, r) at steps.offset[t] + r.
struct CrossAttentionTape {
    RaggedRows targets;
    Buffer query;            // [Q, H] additive: W_q s
    Buffer weights;          // [Q, S] zeros beyond a source row's length
    Buffer joined, y;        // [Q, C + H], [Q, H] dot and general: [c ; s], tanh(W_c [c ; s])
    Buffer dquery, dscores;  // [Q, H], [Q, S]
    Buffer dkeys, dv;        // [S, N, H], [N, H]
    Buffer djoined, dy, scratch;
    RowGroups groups;                   // of the rows of the memory
    std::vector<GroupRows> group_rows;  // of the queries
    GroupGradientsMemory group_gradients;
};

class CrossAttention {
public:
    CrossAttention(const CrossAttentionOptions& options, std::optional<uint64_t> seed, const Kernels& kernels,
                   const std::string& prefix = "attention.");

    const CrossAttentionOptions& options() const { return options_; }
    const Kernels& kernels() const { return *kernels_; }
    bool additive() const { return options_.kind == AttentionKind::additive; }
    Parameters parameters();
    void weights_changed();
    // For running only: packs the values of a file, and keeps no others.
    void load(const FileValues& values);

    // Floats of the keys of a memory: none for dot, which reads the values.
    size_t keys_size(size_t steps, size_t rows) const;
    // values: [S, N, C]; keys: [S, N, H]
    void keys(const float* values, size_t steps, size_t rows, float* keys, Buffer& scratch) const;

    // One step of some rows, on any number of threads.
    void attend(const AttentionMemory& m, const AttentionQueries& queries, const Attended& out, Buffer& query,
                Buffer& scratch) const;
    // dot and general: joined [rows, C + H] has the context in place; the states join it; out = tanh(W_c [c ; s])
    void combine(const float* states, size_t rows, float* joined, float* out, Buffer& scratch) const;

    // The pieces of a loop over time, for a thread that owns some rows. They are serial.
    // query = W_q s for `rows` states whose rows lie `stride` apart. scratch: one a thread, reserved beforehand.
    void project(const float* states, size_t stride, size_t rows, float* query, Buffer& scratch) const;
    size_t project_scratch(size_t rows) const;
    void attend_row(const AttentionMemory& m, size_t row, const float* query, float* weights, float* context) const;
    // Query q, which looked at the memory's `row`: keeps dscores and, if additive, writes dquery and adds to dkeys and
    // dv.
    void attend_row_backward(const AttentionMemory& m, size_t row, size_t q, const float* dcontext,
                             CrossAttentionTape& tape) const;
    // dstates += dquery W_q for rows that lie `stride` apart
    void project_backward(const float* dquery, size_t rows, float* dstates, size_t stride) const;
    // Readies a tape whose targets are set; what a backward adds to is zero.
    void start(const AttentionMemory& m, CrossAttentionTape& tape) const;
    void start_backward(const AttentionMemory& m, CrossAttentionTape& tape) const;
    // Additive, after a loop over all steps: adds to the parameters' gradients and to dvalues [S, N, C].
    // states: [Q, H], and first [N, H] the ones before them in sorted order: the queries were [first, states[0], ...].
    // dcontext: [Q] rows of C, context_stride apart.
    void finish_backward(const AttentionMemory& m, const float* first, const float* states, const float* dcontext,
                         size_t context_stride, CrossAttentionTape& tape, float* dvalues);

    // dot and general, the steps of `part` at once, parts from first to last: out [T, N, H] = tanh(W_c [c_t ; s_t]) for
    // states [T, N, H].
    void forward(const AttentionMemory& m, const float* states, size_t steps, Range part, float* out,
                 CrossAttentionTape& tape) const;
    // Adds to the parameters' gradients and to dvalues [S, N, C]; writes dstates [T, N, H]. dcontexts: [T, N, C] what
    // others give to c_t, or nullptr.
    void backward(const AttentionMemory& m, const float* states, const float* dy, const float* dcontexts,
                  CrossAttentionTape& tape, float* dstates, float* dvalues);

private:
    struct Row;  // where a row of the memory lies
    Row row_of(const AttentionMemory& m, size_t row) const;
    Parameter* add(const std::string& name, std::vector<size_t> shape, size_t fan_in, std::optional<uint64_t> seed);
    void keys_gradient(const AttentionMemory& m, CrossAttentionTape& tape, float* dvalues);

    CrossAttentionOptions options_;
    const Kernels* kernels_;
    std::deque<Parameter> parameters_;
    // additive: query [H, H], key [H, C] with its bias, score [1, H]; general: key [H, C]; both Luong: combine [H, C +
    // H]
    Parameter *query_ = nullptr, *key_ = nullptr, *key_bias_ = nullptr, *score_ = nullptr, *combine_ = nullptr;
    struct Forward {
        PackedLinear query, key, combine;
        Buffer score;  // v in the weights' precision
    };
    template <class ValueOf>
    const Forward& pack(const ValueOf& value_of) const;
    const Forward& pack() const;
    Packed<Forward> forward_;
    Packed<PackedMatrix> query_back_;  // [H, H]: dquery to dstates
};

}  // namespace rnnfast::core
