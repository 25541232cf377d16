// Tokens -> embedding or one-hot -> recurrent stack -> linear -> softmax: a network and the output layer that reads it,
// for training and for running.
#pragma once

#include <memory>

#include "layers/adaptive_output.h"
#include "layers/sampled_softmax.h"
#include "models/network.h"

namespace rnnfast::core {

enum class Norm { rms, layer };
template <>
struct Named<Norm> {
    static constexpr std::string_view names[] = {"rms", "layer"};
};

enum class Output { softmax, adaptive, sampled };
template <>
struct Named<Output> {
    static constexpr std::string_view names[] = {"softmax", "adaptive", "sampled"};
};

struct LanguageModelOptions {
    std::string cell = "rnn";
    size_t vocabulary = 0;
    size_t embedding_size = 0;  // 0: one-hot input
    size_t hidden_size = 0, num_layers = 1;
    double dropout = 0;  // on every connection that is not recurrent: embedding, between layers, before the output
    std::optional<double> embedding_dropout;  // of the embeddings; unless given, `dropout`
    std::optional<double> output_dropout;     // before the output layer; unless given, `dropout`
    std::optional<double> weight_drop;        // of the recurrent weights
    bool variational = false;                 // the same dropout mask at every step
    // The output product uses the embedding's table. With embedding_size unlike hidden_size, it reads a projection of
    // the last hidden state.
    bool tie_weights = false;
    bool residual = false;              // each recurrent layer adds to what it reads; embedding_size = hidden_size
    std::optional<Norm> norm;           // of what each recurrent layer and the output layer read
    std::optional<Output> output;       // unless given, softmax
    std::vector<size_t> cutoffs;        // adaptive: the ids where each cluster of rare tokens begins
    std::optional<double> div_value;    // adaptive: see AdaptiveShape
    std::optional<size_t> num_sampled;  // sampled: classes of a training step, beside the targets
    std::optional<size_t> window;       // qrnn: steps of input that a gate reads, 1 or 2; unless given, 1
    Weights weights = Weights::f32;     // of the products; parameters stay float32
    uint64_t seed = 0;                  // where a caller gives the constructor no other

    template <class Self, class Visit>
    static void fields(Self& o, Visit&& visit) {
        visit(required("cell"), o.cell);
        visit(required("vocab_size"), o.vocabulary, Size{1});
        visit(required("embedding_size"), o.embedding_size, Size{0});
        visit(required("hidden_size"), o.hidden_size, Size{1});
        visit(required("num_layers"), o.num_layers, Size{1});
        visit(usual("dropout"), o.dropout, Share{});
        visit(usual("weights"), o.weights);
        visit(usual("seed"), o.seed, Seed{});
        visit(later("embedding_dropout"), o.embedding_dropout, Share{});
        visit(later("output_dropout"), o.output_dropout, Share{});
        visit(later("weight_drop"), o.weight_drop, Share{});
        visit(later("variational"), o.variational);
        visit(later("tie_weights"), o.tie_weights);
        visit(later("residual"), o.residual);
        visit(later("norm"), o.norm);
        visit(later("output"), o.output);
        visit(later("cutoffs"), o.cutoffs, Size{1});
        visit(later("div_value"), o.div_value, Number{1, 1e6});
        visit(later("num_sampled"), o.num_sampled, Size{1});
        visit(later("window"), o.window, Size{1});
    }
    // Layers with something between them, which the network describes one by one.
    bool separate_layers() const { return residual || norm; }
    bool projected() const { return tie_weights && embedding_size != hidden_size; }
    size_t output_inputs() const { return projected() ? embedding_size : hidden_size; }  // what the output layer reads
    AdaptiveShape output_shape() const {
        return {output_inputs(), vocabulary, cutoffs, div_value.value_or(AdaptiveShape().div_value)};
    }
};
// Throws std::invalid_argument for options that do not fit together.
void check(const LanguageModelOptions& options);

struct LanguageModelFile;

class LanguageModel {
public:
    // Without a seed, the parameters have no values.
    LanguageModel(LanguageModelOptions options, std::optional<uint64_t> seed, const Kernels& kernels);
    // For running only: packs the weights of a file and keeps no others. `loss` needs parameters and throws. The model
    // is immutable, so threads can share it.
    LanguageModel(const LanguageModelFile& file, Weights weights, const Kernels& kernels);

    const LanguageModelOptions& options() const { return options_; }
    const Kernels& kernels() const { return network_.kernels(); }
    const CellInfo& cell() const { return rnn_.cell(); }
    Parameters parameters();
    // The state of `rows` rows: h, and c of a cell that has it, of state_size(rows) numbers each; and, with a window of
    // two steps, x [rows, carried_inputs()]: what the recurrent layers of the network read last, one after another.
    size_t state_size(size_t rows) const { return options_.num_layers * rows * options_.hidden_size; }
    size_t carried_inputs() const { return carried_inputs_; }
    void weights_changed();
    ForkSafeMutex& gradients_mutex() { return network_.gradients_mutex(); }
    // The tensors of a file with these parameters.
    std::vector<ExpectedTensor> expected_tensors() const;

    // x, y: [T, N] ids, y the targets (negative: counts for nothing). nll: [T * N] out, -log p(y) in nats.
    // The states are read from start and written to end. With `train`, backward() may follow: it gives the gradients of
    // the mean nll. row_groups make the masks; others each step. Without `train`, on any number of threads.
    // With groups of rows, backward gives the gradients of the sum of their means, summed over each group alone and
    // then in a binary tree: as if each had run alone. Not with tied weights, norms, weight_drop, or an
    // adaptive or sampled softmax.
    void loss(const int32_t* x, const int32_t* y, size_t steps, size_t rows, const RecurrentState& start,
              const RecurrentStateOut& end, double* nll, bool train, const RowGroups& row_groups);
    void backward();
    // Of the next loss with `train`: all gradients are zeros, which nobody reads before backward. It then need not add
    // to them.
    void expect_zero_gradients() { zero_gradients_ = true; }
    // As in Network: of the parameters, all but so many leading ones have complete gradients.
    size_t unfinished() const { return network_.unfinished(); }
    // hidden: [T, N, output_inputs()] out, what the output layer reads in evaluation. start and end as in loss.
    void read(const int32_t* x, size_t steps, size_t rows, const RecurrentState& start, const RecurrentStateOut& end,
              float* hidden);

    // One token at a time. These methods throw std::out_of_range for an id beyond the vocabulary.
    StreamShape stream_shape() const { return {cell(), options_.num_layers, options_.hidden_size, carried_inputs_}; }
    StreamState initial_state(size_t rows) const { return StreamState(stream_shape(), rows); }
    NetworkWorkspace::Sizes one_step() const;  // of one stream
    void check_ids(const int32_t* ids, size_t count) const;
    // One token to each of `rows` streams, in one state or in one state each; logits: [rows, V]
    void step(const int32_t* tokens, StreamState* const* states, size_t rows, float* logits, NetworkWorkspace& m,
              size_t threads) const;
    // The same in the model's own workspace, on any number of threads.
    void step(const int32_t* tokens, StreamState* const* states, size_t rows, float* logits) const;
    // One token to one stream; of the logits [V], what decides between the `count` largest:
    // OutputLayer::largest_logits.
    void step(int32_t token, StreamState& state, size_t count, float* logits, NetworkWorkspace& m,
              LargestMemory& largest, size_t threads) const;
    // `count` tokens to one stream; logits: [V] after the last one.
    void run(const int32_t* tokens, size_t count, StreamState& state, float* logits, NetworkWorkspace& m) const;
    // log P(tokens[i + 1]) in nats for the first count - 1 tokens, which the stream reads.
    void score(const int32_t* tokens, size_t count, StreamState& state, double* log_probabilities,
               NetworkWorkspace& m) const;

private:
    // The last layer's output for [steps, rows] tokens
    const float* hidden(const int32_t* tokens, size_t steps, StreamState* const* states, size_t rows,
                        NetworkWorkspace& m, size_t threads) const;

    // nll of the targets after each of `steps` hidden states of one stream
    void nll(const float* hidden, size_t steps, const int32_t* targets, double* nll, NetworkWorkspace& m) const;

    LanguageModelOptions options_;
    Network network_;       // up to the last hidden state
    const Recurrent& rnn_;  // the first
    size_t carried_inputs_ = 0;
    Parameter own_weight_, bias_;  // output.weight unless tied, output.bias
    Parameter* weight_;            // of the output product
    AdaptiveOutput output_;
    SampledSoftmax::Layer sampled_;  // in training; without samples: not used

    // Kept from call to call. Evaluation has its own, so that it may come between a loss and its backward.
    struct Memory {
        NetworkTape tape;
        std::vector<int32_t> ids;
        std::vector<RecurrentState> start;  // of the network's recurrent layers
        std::vector<RecurrentStateOut> end;
        std::vector<Buffer> carried;  // their x
        AdaptiveOutput::LossMemory output;
    };
    struct Training : Memory {
        Buffer dhidden;
        SampledSoftmax sampled;
        bool pending = false;  // a loss whose backward has not run
    };
    struct Batch {  // the arguments of loss
        const int32_t *x, *y;
        size_t steps, rows;
        const RecurrentState& start;
        const RecurrentStateOut& end;
        double* nll;
    };
    const Recurrent& recurrent(size_t i) const { return *network_.layer(network_.recurrent()[i]).recurrent(); }
    void split_states(const Batch& batch, Memory& m) const;
    void join_carried(const Batch& batch, const Memory& m) const;
    const Signal& forward(const Batch& batch, Memory& m, bool train, const RowGroups& row_groups);
    void run_loss(const Batch& batch, Memory& m, Training* training, const RowGroups& row_groups);
    Pool<Memory> evaluation_;
    mutable Pool<NetworkWorkspace> workspaces_;
    mutable Pool<AdaptiveOutput::LossMemory> scoring_;  // with clusters
    Training training_;
    bool zero_gradients_ = false;
    ForkSafeMutex training_mutex_;  // of training_: one loss or backward at a time
};

}  // namespace rnnfast::core
