#include "models/language_model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "models/language_model_file.h"
#include "ops/softmax_loss.h"
#include "runtime/check.h"
#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

void check_output(const LanguageModelOptions& o) {
    const Output output = o.output.value_or(Output::softmax);
    const auto only = [&](bool given, const char* name, Output wanted) {
        if (given != (output == wanted) && (given || wanted == Output::sampled))
            refuse({name, " and output '", name_of(output), "': expected both ", name, " and output '", name_of(wanted),
                    "', or neither"});
    };
    only(o.num_sampled.has_value(), "num_sampled", Output::sampled);
    only(o.div_value.has_value(), "div_value", Output::adaptive);
    if (o.cutoffs.empty() == (output == Output::adaptive))
        refuse({"cutoffs and output '", name_of(output), "': expected both cutoffs and output 'adaptive', or neither"});
    if (output == Output::adaptive && o.tie_weights)
        refuse(
            {"tie_weights with output 'adaptive': clusters have smaller tables than the embedding's; expected one of "
             "them"});
    if (o.num_sampled.value_or(0) >= o.vocabulary)
        refuse({"num_sampled is ", *o.num_sampled, ", expected less than the ", o.vocabulary,
                " tokens of the vocabulary"});
    check(o.output_shape());
}

}  // namespace

void check(const LanguageModelOptions& o) {
    cell_named(o.cell);
    if (o.vocabulary == 0) refuse({"the vocabulary is empty: expected at least one token"});
    if (o.tie_weights && o.embedding_size == 0)
        refuse(
            {"tie_weights: embedding_size is 0 (one-hot input), expected an embedding, whose table the output uses"});
    if (o.embedding_dropout.value_or(0) > 0 && o.embedding_size == 0)
        refuse({"embedding_dropout: embedding_size is 0 (one-hot input), expected an embedding"});
    if (o.residual && o.embedding_size != o.hidden_size)
        refuse({"residual: embedding_size is ", o.embedding_size, " and hidden_size ", o.hidden_size,
                ", expected the same, since every layer adds to what it reads"});
    check_window("window", o.window.value_or(1), o.cell);
    if (o.window.value_or(1) > 1 && o.embedding_size == 0)
        refuse(
            {"window is 2 and embedding_size is 0 (one-hot input): expected an embedding, since the gates read the "
             "embeddings of two steps"});
    if (o.norm && o.embedding_size == 0)
        refuse({"norm: embedding_size is 0 (one-hot input), expected an embedding to normalize"});
    check_output(o);
}

namespace {

constexpr size_t chunk_steps = 64;  // of a long run: their states and logits stay in cache

// The numbers of the parts decide which weights a seed makes and which masks a key: results of version 0.1 depend on
// them.
enum Part : size_t { part_rnn = 1, part_embedding = 2, part_output = 3, part_bias = 4, part_layers = 5 };
constexpr uint64_t part_clusters = 1u << 31, part_samples = part_clusters + 1,
                   part_projection = part_clusters + 2;  // beyond those of any layer

// Collects the layers of a language model, up to the last hidden state.
struct Describing {
    const LanguageModelOptions& o;
    NetworkDescription d;

    template <class WriteOptions>
    void add(const std::string& name, const char* type, size_t part, std::vector<std::string> inputs,
             const WriteOptions& write_options) {
        OptionsWriter write;
        write_options(write);
        d.layers.push_back({name, type, std::move(inputs), parse_json(write.text()), part});
    }
    void add_dropout(const std::string& name, double p, size_t part) {
        if (p == 0) return;
        add(name, "dropout", part, {}, [&](OptionsWriter& write) {
            write(required("p"), p, Share{});
            write(later("variational"), o.variational);
        });
    }
    void add_recurrent(const std::string& name, size_t layers, size_t part) {
        add(name, "recurrent", part, {}, [&](OptionsWriter& write) {
            write(required("cell"), o.cell);
            write(required("hidden_size"), o.hidden_size, Size{1});
            write(required("num_layers"), layers, Size{1});
            write(required("dropout"), o.dropout, Share{});  // between its layers
            write(later("variational"), o.variational);
            write(later("weight_drop"), o.weight_drop, Share{});
            write(later("window"), o.window, Size{1});
        });
    }
    void add_norm(const std::string& name) {
        if (!o.norm) return;
        add(name, "layer_norm", 0, {}, [&](OptionsWriter& write) {
            write(required("centered"), *o.norm == Norm::layer);
            write(required("bias"), *o.norm == Norm::layer);
        });
    }
    // h + dropout(cell(norm(h))) for every layer, and norm(h) after the last
    void add_separate_layers() {
        for (size_t i = 0; i < o.num_layers; ++i) {
            const std::string read = d.layers.back().name, name = "layers." + std::to_string(i);
            add_norm(name + ".norm");
            add_recurrent(name + ".rnn", 1, part_layers + 2 * i);
            if (i + 1 < o.num_layers) add_dropout(name + ".dropout", o.dropout, part_layers + 2 * i + 1);
            if (o.residual) add(name, "add", 0, {read, d.layers.back().name}, [](OptionsWriter&) {});
        }
        add_norm("norm");
    }
};

NetworkDescription description(const LanguageModelOptions& o) {
    check(o);
    Describing describing{o, {}};
    describing.d.inputs = {{"tokens", 0, o.vocabulary}};
    describing.d.weights = o.weights;
    if (o.embedding_size) {
        describing.add("embedding", "embedding", part_embedding, {},
                       [&](OptionsWriter& write) { write(required("embedding_dim"), o.embedding_size, Size{1}); });
        describing.add_dropout("embedding_dropout", o.embedding_dropout.value_or(o.dropout), part_embedding);
    }
    if (o.separate_layers())
        describing.add_separate_layers();
    else
        describing.add_recurrent("rnn", o.num_layers, part_rnn);
    describing.add_dropout("dropout", o.output_dropout.value_or(o.dropout), part_output);
    if (o.projected())
        describing.add("projection", "linear", part_projection, {},
                       [&](OptionsWriter& write) { write(required("out_features"), o.embedding_size, Size{1}); });
    return std::move(describing.d);
}

}  // namespace

LanguageModel::LanguageModel(LanguageModelOptions options, std::optional<uint64_t> seed, const Kernels& kernels)
    : options_(std::move(options)), network_(description(options_), seed, kernels), rnn_(recurrent(0)) {
    for (size_t i = 0; i < network_.recurrent().size(); ++i) carried_inputs_ += recurrent(i).carried_inputs();
    const size_t hidden = options_.output_inputs();
    const bool tied = options_.tie_weights, values = seed.has_value();
    const double bound = 1.0 / std::sqrt(static_cast<double>(hidden));
    const AdaptiveShape shape = options_.output_shape();
    const std::string prefix = shape.cutoffs.empty() ? "output." : "output.head.";
    if (!tied) own_weight_ = make_parameter(prefix + "weight", {shape.head(), hidden}, values);
    weight_ = tied ? network_.parameters()[0] : &own_weight_;
    uniform_(*weight_, bound, random_key(seed.value_or(0), part_output));
    bias_ = make_parameter(prefix + "bias", {shape.head()}, values);
    uniform_(bias_, bound, random_key(seed.value_or(0), part_bias));
    output_ =
        AdaptiveOutput(kernels, options_.weights, shape, weight_, &bias_, part_seed(seed, part_clusters), "output.");
    sampled_ = {weight_, &bias_, options_.num_sampled.value_or(0), options_.weights};
}

LanguageModel::LanguageModel(const LanguageModelFile& f, Weights weights, const Kernels& kernels)
    : LanguageModel(f.options_for(weights), std::nullopt, kernels) {
    f.check(*this);
    const FileValues values = [&](const Parameter& p, Buffer& buffer) {
        return tensor_values(f.file, p.name, p.shape, buffer);
    };
    network_.load(values);
    output_.pack(values);
}

Parameters LanguageModel::parameters() {
    Parameters all = network_.parameters();
    if (weight_ == &own_weight_) all.push_back(weight_);
    all.push_back(&bias_);
    for (Parameter* p : output_.cluster_parameters()) all.push_back(p);
    return all;
}

std::vector<ExpectedTensor> LanguageModel::expected_tensors() const {
    std::vector<ExpectedTensor> all = network_.expected_tensors();
    if (weight_ != &own_weight_) all.erase(all.begin());  // the output product packs the table in another way
    all.push_back({weight_->name, weight_->shape, weight_->shape[0]});
    all.push_back({bias_.name, bias_.shape, 0});
    for (const Parameter* p : output_.cluster_parameters()) all.push_back({p->name, p->shape, p->shape[0]});
    return all;
}

void LanguageModel::weights_changed() {
    network_.weights_changed();
    output_.weights_changed();
}

namespace {

void check_groups(const RowGroups& groups, size_t rows, const LanguageModelOptions& o) {
    check_groups(groups, rows);
    if (o.tie_weights || o.output || o.weight_drop)
        refuse(
            {"groups of rows with tied weights, weight_drop, or an adaptive or sampled softmax: run each group alone"});
}

}  // namespace

void LanguageModel::loss(const int32_t* x, const int32_t* y, size_t steps, size_t rows, const RecurrentState& start,
                         const RecurrentStateOut& end, double* nll, bool train, const RowGroups& row_groups) {
    const Batch batch{x, y, steps, rows, start, end, nll};
    if (!bias_.size()) throw std::logic_error("loss: this model was made from a file, for inference only");
    if (!train) {
        Pool<Memory>::Loan memory(evaluation_);
        return run_loss(batch, *memory, nullptr, {});
    }
    if (row_groups) check_groups(row_groups, rows, options_);
    if (options_.weights == Weights::int8)
        refuse({"int8 weights are for inference only: train with weights \"f32\" or \"bf16\""});
    const ForkLock lock(training_mutex_, [&] { replace_abandoned(training_); });
    training_.pending = false;
    training_.output.head.into_zeros = std::exchange(zero_gradients_, false) && !row_groups;
    run_loss(batch, training_, &training_, row_groups);
    training_.pending = true;
}

void LanguageModel::check_ids(const int32_t* ids, size_t count) const {
    core::check_ids(ids, count, {options_.vocabulary, "token id", of_the_model});
}

namespace {

Signal tokens_signal(const int32_t* tokens, size_t steps, size_t rows) {
    Signal signal;
    signal.steps = steps;
    signal.rows = rows;
    signal.ids = tokens;
    return signal;
}

}  // namespace

// The states of the network's recurrent layers: h and c lie one after another in the caller's, x in columns of it.
void LanguageModel::split_states(const Batch& b, Memory& m) const {
    const size_t count = network_.recurrent().size(),
                 size = options_.num_layers / count * b.rows * options_.hidden_size;
    const auto part = [&](auto* states, size_t i) { return states ? states + i * size : nullptr; };
    m.start.resize(count);
    m.end.resize(count);
    m.carried.resize(count);
    for (size_t i = 0, first = 0; i < count; ++i) {
        m.start[i] = {part(b.start.h, i), part(b.start.c, i)};
        m.end[i] = {part(b.end.h, i), part(b.end.c, i)};
        const size_t width = recurrent(i).carried_inputs();
        if (width == 0) continue;
        const View own = reserve(m.carried[i], b.rows, width);
        const ConstView all(b.start.x, b.rows, carried_inputs_);
        if (b.start.x) copy_rows(all.column_range({first, first + width}), own);
        // The forward copies the start before it writes the end, so both may be the same memory.
        m.start[i].x = b.start.x ? own.base : nullptr;
        m.end[i].x = own.base;
        first += width;
    }
}

void LanguageModel::join_carried(const Batch& b, const Memory& m) const {
    size_t first = 0;
    for (size_t i = 0; b.end.x && i < m.carried.size(); ++i) {
        const size_t width = recurrent(i).carried_inputs();
        const View all(b.end.x, b.rows, carried_inputs_);
        copy_rows({m.carried[i].data(), b.rows, width}, all.column_range({first, first + width}));
        first += width;
    }
}

// Up to the last hidden state
const Signal& LanguageModel::forward(const Batch& b, Memory& m, bool train, const RowGroups& row_groups) {
    const size_t tokens = b.steps * b.rows;
    check_ids(b.x, tokens);
    m.ids.assign(b.x, b.x + tokens);
    const Signal input = tokens_signal(m.ids.data(), b.steps, b.rows);
    split_states(b, m);
    network_.forward({&input, m.start.data(), m.end.data()}, m.tape, train, row_groups);
    join_carried(b, m);
    return network_.output(m.tape, 0);
}

void LanguageModel::read(const int32_t* x, size_t steps, size_t rows, const RecurrentState& start,
                         const RecurrentStateOut& end, float* hidden) {
    Pool<Memory>::Loan memory(evaluation_);
    const Signal& top = forward({x, nullptr, steps, rows, start, end, nullptr}, *memory, false, {});
    std::copy_n(top.x, top.size(), hidden);
}

// training: the memory again if backward may follow, or nullptr
void LanguageModel::run_loss(const Batch& b, Memory& m, Training* training, const RowGroups& row_groups) {
    const size_t tokens = b.steps * b.rows;
    check_targets(b.y, tokens, {options_.vocabulary, "token id", of_the_model});
    const Signal& top = forward(b, m, training != nullptr, row_groups);
    if (training) network_.set_unfinished(parameters().size());
    if (training) training->dhidden.reserve(std::max<size_t>(1, top.size()));  // nullptr: no gradients
    float* dhidden = training ? training->dhidden.data() : nullptr;
    if (row_groups)
        output_.loss({top.x, b.y, even_groups(b.steps, b.rows, row_groups.count()), row_groups.sums}, b.nll, dhidden,
                     m.output);
    else if (training && sampled_.samples)
        training->sampled.loss(kernels(), sampled_, {top.x, tokens, b.y, b.nll, dhidden},
                               random_key(row_groups.key, part_samples));
    else
        output_.loss(top.x, tokens, b.y, b.nll, dhidden, m.output);
}

void LanguageModel::backward() {
    const ForkLock lock(training_mutex_, [&] { replace_abandoned(training_); });
    Training& m = training_;
    if (!m.pending) refuse({"backward: no loss to differentiate; call loss first, once for every backward"});
    network_.check_tape(m.tape);
    check_memory_of_groups(parameters(), m.tape.row_groups);
    const GradientLock gradients(gradients_mutex());
    m.pending = false;
    if (sampled_.samples)
        m.sampled.add_gradients(kernels(), sampled_);
    else
        output_.add_gradients(m.output);
    network_.set_unfinished(network_.parameters().size());
    float* const dhidden[] = {m.dhidden.data()};
    network_.backward(m.tape, {dhidden});
}

NetworkWorkspace::Sizes LanguageModel::one_step() const {
    NetworkWorkspace::Sizes sizes = network_.stream_sizes(1);
    const AdaptiveOutput::Sizes output = output_.one_row();
    sizes.left = std::max(sizes.left, output.left);
    sizes.sums = std::max(sizes.sums, output.numbers);
    return sizes;
}

const float* LanguageModel::hidden(const int32_t* tokens, size_t steps, StreamState* const* states, size_t rows,
                                   NetworkWorkspace& m, size_t threads) const {
    const Signal input = tokens_signal(tokens, steps, rows);
    network_.run(&input, states, m, threads, true);
    return network_.output(m, 0).x;
}

void LanguageModel::step(const int32_t* tokens, StreamState* const* states, size_t rows, float* logits,
                         NetworkWorkspace& m, size_t threads) const {
    check_ids(tokens, rows);
    output_.logits(hidden(tokens, 1, states, rows, m, threads), rows, logits, {m.left, m.sums}, threads);
}

void LanguageModel::step(const int32_t* tokens, StreamState* const* states, size_t rows, float* logits) const {
    Pool<NetworkWorkspace>::Loan workspace(workspaces_);
    step(tokens, states, rows, logits, *workspace, all_threads);
}

void LanguageModel::step(int32_t token, StreamState& state, size_t count, float* logits, NetworkWorkspace& m,
                         LargestMemory& largest, size_t threads) const {
    check_ids(&token, 1);
    StreamState* const states[] = {&state};
    output_.largest_logits(hidden(&token, 1, states, 1, m, threads), count, logits, {m.left, m.sums}, largest, threads);
}

void LanguageModel::run(const int32_t* tokens, size_t count, StreamState& state, float* logits,
                        NetworkWorkspace& m) const {
    check_ids(tokens, count);
    StreamState* states[] = {&state};
    const float* last = nullptr;
    for (size_t at = 0, steps; at < count; at += steps) {
        steps = std::min(chunk_steps, count - at);
        last = hidden(tokens + at, steps, states, 1, m, 1) + (steps - 1) * options_.output_inputs();
    }
    output_.logits(last, 1, logits, {m.left, m.sums}, 1);
}

void LanguageModel::nll(const float* hidden, size_t steps, const int32_t* targets, double* nll,
                        NetworkWorkspace& m) const {
    if (output_.clusters()) {
        Pool<AdaptiveOutput::LossMemory>::Loan memory(scoring_);
        return output_.nll(hidden, steps, targets, nll, *memory);
    }
    m.logits.reserve(chunk_steps * options_.vocabulary);
    output_.logits(hidden, steps, m.logits.data(), {m.left, m.sums}, all_threads);
    nll_of_logits(kernels(), m.logits.data(), steps, options_.vocabulary, targets, nll, m.sums);
}

void LanguageModel::score(const int32_t* tokens, size_t count, StreamState& state, double* log_probabilities,
                          NetworkWorkspace& m) const {
    check_ids(tokens, count);
    StreamState* states[] = {&state};
    for (size_t at = 0, steps; at + 1 < count; at += steps) {
        steps = std::min(chunk_steps, count - 1 - at);
        double* out = log_probabilities + at;
        nll(hidden(tokens + at, steps, states, 1, m, 1), steps, tokens + at + 1, out, m);
        for (size_t i = 0; i < steps; ++i) {
            if (std::isnan(out[i]))
                throw std::domain_error("the logits have NaN: the model's weights or the state are not finite");
            out[i] = -out[i];
        }
    }
}

}  // namespace rnnfast::core
