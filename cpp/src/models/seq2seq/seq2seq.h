// Tokens -> encoder -> context -> decoder -> softmax over another vocabulary: the composition, written once.
// S source steps, T target steps, N rows, E embedding, H hidden, L layers, C = H, or 2 H if the encoder is
// bidirectional.
#pragma once

#include "files/options.h"
#include "layers/attending_recurrent.h"
#include "layers/softmax_output.h"
#include "ops/dropout.h"

namespace rnnfast::core {

enum class Summary { last, mean, max };              // of the memory
enum class InitialState { context, learned, zero };  // of the decoder
enum class Reads { context, previous };              // by each step of the decoder
enum class Readout { state, all };                   // by the output: the state alone, or [state ; context ; embedding]
template <>
struct Named<Summary> {
    static constexpr std::string_view names[] = {"last", "mean", "max"};
};
template <>
struct Named<InitialState> {
    static constexpr std::string_view names[] = {"context", "learned", "zero"};
};
template <>
struct Named<Reads> {
    static constexpr std::string_view names[] = {"context", "previous"};
};
template <>
struct Named<Readout> {
    static constexpr std::string_view names[] = {"state", "all"};
};

constexpr size_t smallest_vocabulary = 4;  // <unk>, <pad>, <bos> and <eos>

struct Seq2SeqOptions {
    std::string cell = "gru";
    size_t source_vocabulary = 0, target_vocabulary = 0;
    size_t embedding_size = 0, hidden_size = 0, num_layers = 1;
    bool bidirectional = false;            // of the encoder
    std::optional<size_t> encoder_window;  // qrnn: steps of input that its gates read, 1 or 2; unless given, 1
    Summary context = Summary::last;
    InitialState initial_state = InitialState::context;
    SetOf<Reads> reads{Reads::context, Reads::previous};
    // additive: of the state before; its context replaces what the decoder reads. dot, general: of the state itself,
    // which becomes tanh(W_c [context ; state])
    AttentionKind attention = AttentionKind::none;
    Readout readout = Readout::state;
    double dropout = 0;              // on both embeddings and between layers
    double output_dropout = 0;       // on what the output reads
    double teacher_forcing = 1;      // for a trainer to pass to loss
    Weights weights = Weights::f32;  // of the products; parameters stay float32
    uint64_t seed = 0;               // where a caller gives the constructor no other

    bool reads_context() const { return reads.has(Reads::context); }
    bool reads_previous() const { return reads.has(Reads::previous); }

    template <class Self, class Visit>
    static void fields(Self& o, Visit&& visit) {
        visit(required("cell"), o.cell);
        visit(required("source_vocab_size"), o.source_vocabulary, Size{smallest_vocabulary});
        visit(required("target_vocab_size"), o.target_vocabulary, Size{smallest_vocabulary});
        visit(required("embedding_size"), o.embedding_size, Size{1});
        visit(required("hidden_size"), o.hidden_size, Size{1});
        visit(required("num_layers"), o.num_layers, Size{1});
        visit(required("bidirectional"), o.bidirectional);
        visit(required("context"), o.context);
        visit(required("initial_state"), o.initial_state);
        visit(required("reads"), o.reads);
        visit(required("attention"), o.attention);
        visit(required("readout"), o.readout);
        visit(usual("dropout"), o.dropout, Share{});
        visit(usual("output_dropout"), o.output_dropout, Share{});
        visit(usual("teacher_forcing"), o.teacher_forcing, Share{true});
        visit(usual("weights"), o.weights);
        visit(usual("seed"), o.seed, Seed{});
        visit(later("encoder_window"), o.encoder_window, Size{1});
    }
};

// Pairs of sentences as ids. What stands at a source's padding is not read.
struct PairBatch {
    size_t source_steps = 0, target_steps = 0, rows = 0;
    const int32_t* source = nullptr;          // [S, N]
    const int64_t* source_lengths = nullptr;  // [N] each in 1..S
    const int32_t* inputs = nullptr;          // [T, N] <bos> y_1 y_2 ...: a valid id everywhere
    const int32_t* targets = nullptr;         // [T, N] y_1 y_2 ... <eos>; negative: counts for nothing
};

// What the encoder leaves of a batch; all hypotheses of a row share it.
struct EncodedSource {
    size_t steps = 0, rows = 0;
    std::vector<size_t> lengths;
    Buffer memory;                // [S, N, C] the top layer's states, zeros at padding
    Buffer keys;                  // [S, N, H] what attention made of them
    Buffer context;               // [N, C]
    Buffer fixed;                 // [N, G * H] what a decoder whose steps all read the context makes of it
    Buffer h, c;                  // [L, N, H] the decoder's initial state
    const void* model = nullptr;  // that encoded it, for callers who hold several
};

struct DecoderState {
    size_t rows = 0;
    Buffer h, c;                  // [L, rows, H]; c for cells that have one
    std::vector<int32_t> source;  // [rows] the encoded row that each row translates
    const void* model = nullptr;
};

class Seq2Seq {
public:
    // Without a seed, the parameters have no values until load().
    Seq2Seq(Seq2SeqOptions options, std::optional<uint64_t> seed, const Kernels& kernels);

    const Seq2SeqOptions& options() const { return options_; }
    const Kernels& kernels() const { return encoder_.kernels(); }
    const CellInfo& cell() const { return encoder_.cell(); }
    size_t context_size() const { return encoder_.directions() * options_.hidden_size; }
    Parameters parameters();
    void weights_changed();
    // For running only, without a seed: packs the values of a file, and keeps no others.
    void load(const FileValues& values);
    ForkSafeMutex& gradients_mutex() { return gradients_mutex_; }

    // nll: [T * N] out, -log p(target) in nats, 0 where the target is negative. With `train`, backward() may follow: it
    // gives the gradients of the mean over the targets that count; of groups of rows those of the sum of their means,
    // summed over each group alone. The keys make dropout's masks and the coins; others each step. teacher_forcing: the
    // probability that a step reads `inputs`, for the whole batch; else it reads what this very pass, with its dropout,
    // thinks the most probable tokens. No gradient flows through a choice, so those of the sequence that was read are
    // exact.
    void loss(const PairBatch& batch, double* nll, bool train, float teacher_forcing, const RowGroups& groups);
    void backward();

    // What a call of the functions below works in; it grows, then stays. One for each thread.
    struct Memory {
        RecurrentTape encoder, decoder;
        std::vector<int32_t> ids;
        Buffer embedded, last_h, last_c, bridged, fixed, hidden, readout, scratch;
        LargestMemory argmax;
        Buffer query, weights, joined, combined;  // of attention
    };
    // source: [steps, rows] ids, lengths: [rows]
    void encode(const int32_t* source, const int64_t* lengths, size_t steps, size_t rows, EncodedSource& encoded,
                Memory& memory) const;
    DecoderState initial_state(const EncodedSource& encoded) const;  // one row for each encoded row
    // One token for each row; previous: [rows] ids, not looked at by a decoder that does not read them. logits: [rows,
    // V]. attention: [rows, S] out, the weights of the source's words, or nullptr.
    void step(const EncodedSource& encoded, const int32_t* previous, DecoderState& state, float* logits,
              float* attention, Memory& memory) const;

    // `step` that gives each row's argmax alone, excluding `never`, faster; -1 where the logits are not finite.
    void step_argmax(const EncodedSource& encoded, const int32_t* previous, DecoderState& state,
                     const std::vector<int32_t>& never, int32_t* tokens, Memory& memory) const;

private:
    void add_parameters(std::optional<uint64_t> seed);
    bool hands_over() const;  // the encoder's last states are the decoder's first, of every layer
    bool additive() const { return attention_ && attention_->additive(); }
    bool has_context() const {
        return options_.reads_context() || attention_;
    }  // of every step, so readouts may have it
    bool has_memory_gradient() const { return options_.context != Summary::last || attention_; }
    size_t state_size(size_t rows) const { return options_.num_layers * rows * options_.hidden_size; }
    size_t readout_size() const;

    // encoding
    void check_source(const int32_t* source, const int64_t* lengths, size_t steps, size_t rows) const;
    void run_encoder(const int32_t* source, const int64_t* lengths, EncodedSource& e, Memory& m, bool train,
                     const RowGroups& groups) const;
    // x [T, N, embedding_size]: the steps of `part` after dropout, or their gradient before it.
    void drop_embedded(Buffer& x, size_t rows, Range part, const RowGroups& groups) const;
    void summarise(EncodedSource& e, const Memory& m) const;     // the context
    void make_initial_state(EncodedSource& e, Memory& m) const;  // h and c
    AttentionMemory attended(const EncodedSource& e) const;

    // decoding: z = [h ; context ; embedded] of every row, those parts that the output reads
    struct ReadoutParts {
        const float *hidden, *context, *embedded;
    };
    void readout(const ReadoutParts& from, float* z) const;
    struct StepInput {
        RecurrentInput input;
        const float* context = nullptr;  // of each row, or nullptr
        size_t context_stride = 0;
    };
    StepInput step_input(const EncodedSource& encoded, const float* embedded, const DecoderState& state,
                         float* attention, Memory& memory) const;
    // `step` without the output: z [rows, Z] in memory
    const float* advance(const EncodedSource& encoded, const int32_t* previous, DecoderState& state, float* attention,
                         Memory& memory) const;

    // training
    struct Pass {  // from a loss to its backward
        Memory memory;
        EncodedSource encoded;
        size_t steps = 0, rows = 0;        // of the target, without steps that are padding in every row
        std::vector<int32_t> inputs;       // [T, N] as they were read
        std::vector<int64_t> lengths;      // [N] of the targets
        std::vector<size_t> places;        // t * N + n of every step of every row, in order
        std::vector<size_t> first;         // [T + 1] where a step's places begin
        std::vector<int32_t> targets;      // at those places
        std::vector<double> nll;           // and what they cost
        std::vector<GroupRows> readouts;   // those of groups of rows
        std::vector<const float*> known;   // their rows of `products`, nullptr where they have none
        Buffer products;                   // of the output layer, for steps whose most probable tokens were read
        size_t kept = 0;                   // rows of it
        std::vector<int32_t> chosen;       // by one step
        Buffer embedded, hidden, readout;  // hidden: [T, N, H] what the output reads
        Buffer states, contexts;           // dot and general: [T, N, H] before it; additive: [T, N, C] for readouts
        AttendingTape attending;           // additive
        CrossAttentionTape attention;      // dot and general
        OutputLayer::LossMemory output;
        RowGroups groups;
        GroupGradientsMemory group_gradients;
    };
    void run_loss(const PairBatch& batch, double* nll, bool train, float teacher_forcing, Pass& pass);
    void renew_training();  // in a child forked while another thread trained
    void check_batch(const PairBatch& batch) const;
    void lay_out(const PairBatch& batch, Pass& pass) const;
    // Whether a step reads what the model thinks, of each group.
    std::vector<bool> reads_own(size_t step, float teacher_forcing, const Pass& pass) const;
    std::vector<size_t> own_steps(float teacher_forcing, Pass& pass) const;
    void choose_inputs(size_t step, const std::vector<bool>& of_groups, Pass& pass);
    void run_decoder(Range part, bool train, Pass& pass) const;
    void run_recurrence(const RecurrentInput& input, bool train, Pass& pass) const;
    void drop_readout(Buffer& z, Range part, const Pass& pass) const;
    const float* context_at(const Pass& pass, size_t place) const;
    void gather_readout(Range places, Pass& pass) const;
    void backward_decoder(Pass& pass);
    void backward_recurrence(Pass& pass, float* dembedded);
    void scatter_readout_gradient(const Pass& pass);
    void backward_context(Pass& pass);
    void backward_bridge(Pass& pass);
    void backward_encoder(Pass& pass);
    void backward_embedding(const int32_t* ids, size_t steps, const Pass& pass, Parameter& table);

    Seq2SeqOptions options_;
    Recurrent encoder_, decoder_;
    std::unique_ptr<CrossAttention> attention_;
    std::deque<Parameter> own_;
    Parameter *source_embedding_ = nullptr, *target_embedding_ = nullptr;
    Parameter *initial_h_ = nullptr, *initial_c_ = nullptr;
    Parameter *bridge_weight_ = nullptr, *bridge_bias_ = nullptr;
    Parameter *output_weight_ = nullptr, *output_bias_ = nullptr;
    OutputLayer output_;
    Packed<PackedLinear> bridge_;

    // Kept from call to call. Evaluation has its own, so that it may come between a loss and its backward.
    Pool<Pass> evaluation_;
    Pass training_;
    Buffer dreadout_, dhidden_, dstates_, dembedded_, dcontext_, dcontexts_, dh_, dc_, dlast_h_, dlast_c_, dmemory_;
    Buffer dbridged_, dbridge_context_;
    bool pending_ = false;          // a loss whose backward has not run
    ForkSafeMutex training_mutex_;  // of the memory above: one loss or backward at a time
    ForkSafeMutex gradients_mutex_;
};

}  // namespace rnnfast::core
