#include "models/language_model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "models/language_model_file.h"
#include "ops/embedding.h"
#include "ops/softmax_loss.h"
#include "runtime/check.h"
#include "runtime/random.h"

namespace rnnfast::core {

void check(const LanguageModelOptions& o) {
    cell_named(o.cell);
    if (o.vocabulary == 0) throw std::invalid_argument("the vocabulary is empty: expected at least one token");
    if (o.tie_weights && o.embedding_size != o.hidden_size)
        throw std::invalid_argument("tie_weights: embedding_size is " + std::to_string(o.embedding_size) +
                                    " and hidden_size " + std::to_string(o.hidden_size) +
                                    ", expected the same, since both use one table");
    if (o.embedding_dropout.value_or(0) > 0 && o.embedding_size == 0)
        throw std::invalid_argument("embedding_dropout: embedding_size is 0 (one-hot input), expected an embedding");
}

namespace {

constexpr size_t chunk_steps = 64;  // of a long run: their states and logits stay in cache

RecurrentOptions recurrent_options(const LanguageModelOptions& o) {
    check(o);
    RecurrentOptions r;
    r.cell = o.cell;
    r.input_size = o.embedding_size ? o.embedding_size : o.vocabulary;
    r.hidden_size = o.hidden_size;
    r.num_layers = o.num_layers;
    r.dropout = static_cast<float>(o.dropout);
    r.variational = o.variational;
    r.weights = o.weights;
    return r;
}

enum DropoutSite : uint64_t { between_layers, after_embedding, before_output };

}  // namespace

LanguageModel::LanguageModel(LanguageModelOptions options, std::optional<uint64_t> seed, const Kernels& kernels)
    : options_(std::move(options)), rnn_(recurrent_options(options_), part_seed(seed, 1), kernels, "rnn.") {
    const size_t vocabulary = options_.vocabulary, hidden = options_.hidden_size;
    const auto add = [&](const char* name, std::vector<size_t> shape) {
        own_.push_back(make_parameter(name, std::move(shape), seed.has_value()));
        return &own_.back();
    };
    const auto key = [&](uint64_t part) { return random_key(seed.value_or(0), part); };
    const double bound = 1.0 / std::sqrt(static_cast<double>(hidden));
    if (options_.embedding_size && !options_.tie_weights) {
        embedding_ = add("embedding.weight", {vocabulary, options_.embedding_size});
        normal_(*embedding_, key(2));
    }
    output_weight_ = add(options_.tie_weights ? "embedding.weight" : "output.weight", {vocabulary, hidden});
    uniform_(*output_weight_, bound, key(3));
    if (options_.tie_weights) embedding_ = output_weight_;
    output_bias_ = add("output.bias", {vocabulary});
    uniform_(*output_bias_, bound, key(4));
    output_ = OutputLayer(kernels, options_.weights, output_weight_, output_bias_);
}

LanguageModel::LanguageModel(const LanguageModelFile& f, Weights weights, const Kernels& kernels)
    : LanguageModel(f.checked_options(weights), std::nullopt, kernels) {
    const FileValues values = [&](const Parameter& p, Buffer& buffer) {
        return tensor_values(f.file, p.name, p.shape, buffer);
    };
    if (embedding_) copy_values(*embedding_, values);
    rnn_.pack(values, !embedding_);
    output_.pack(values);
}

Parameters LanguageModel::parameters() {
    Parameters all;
    if (embedding_) all.push_back(embedding_);
    for (Parameter& p : rnn_.parameters) all.push_back(&p);
    if (output_weight_ != embedding_) all.push_back(output_weight_);
    all.push_back(output_bias_);
    return all;
}

void LanguageModel::weights_changed() {
    rnn_.weights_changed();
    output_.weights_changed();
}

void LanguageModel::loss(const int32_t* x, const int32_t* y, size_t steps, size_t rows, const RecurrentState& start,
                         const RecurrentStateOut& end, double* nll, bool train, uint64_t dropout_key) {
    const Batch batch{x, y, steps, rows, start, end, nll};
    if (!output_bias_->size()) throw std::logic_error("loss: this model was made from a file, for running only");
    if (!train) {
        Pool<Memory>::Loan memory(evaluation_);
        return run_loss(batch, *memory, nullptr, 0);
    }
    if (options_.weights == Weights::int8)
        throw std::invalid_argument("int8 weights are for running a model: train with weights \"f32\" or \"bf16\"");
    const ForkLock lock(training_mutex_, [&] { replace_abandoned(training_); });
    training_.pending = false;
    run_loss(batch, training_, &training_, dropout_key);
    training_.dropout_key = dropout_key;
    training_.pending = true;
}

void LanguageModel::check_ids(const int32_t* ids, size_t count) const {
    core::check_ids(ids, count, {options_.vocabulary, "token id", of_the_model});
}

RecurrentInput LanguageModel::embed(const int32_t* ids, size_t steps, size_t rows, Buffer& embedded) const {
    RecurrentInput input;
    input.steps = steps;
    input.rows = rows;
    if (!embedding_) {
        input.tokens = ids;
        return input;
    }
    embedded.reserve(steps * rows * options_.embedding_size);
    embedding_forward(embedding_->value.data(), options_.embedding_size, ids, steps * rows, embedded.data());
    input.x = embedded.data();
    return input;
}

// training: the memory again if backward may follow, or nullptr
void LanguageModel::run_loss(const Batch& b, Memory& m, Training* training, uint64_t dropout_key) {
    const size_t tokens = b.steps * b.rows, hidden = options_.hidden_size, width = options_.embedding_size;
    const bool train = training != nullptr;
    check_ids(b.x, tokens);
    check_targets(b.y, tokens, {options_.vocabulary, "token id", of_the_model});
    set_even(m.even, b.steps, b.rows);
    m.ids.assign(b.x, b.x + tokens);
    const RecurrentInput input = embed(m.ids.data(), b.steps, b.rows, m.embedded);
    if (train && embedding_ && embedding_mask().p > 0)
        dropout(m.embedded.data(), m.embedded.data(), width, m.even.offset, embedding_mask(),
                random_key(dropout_key, after_embedding));
    m.hidden.reserve(tokens * hidden);
    rnn_.forward(input, b.start, m.hidden.data(), b.end, m.tape, train, random_key(dropout_key, between_layers));
    const float* top = m.hidden.data();
    if (train && options_.dropout > 0) {
        m.dropped.reserve(tokens * hidden);
        dropout(top, m.dropped.data(), hidden, m.even.offset, mask(), random_key(dropout_key, before_output));
        top = m.dropped.data();
    }

    if (training) training->dhidden.reserve(std::max<size_t>(1, tokens * hidden));  // nullptr: no gradients
    output_.loss(top, tokens, b.y, b.nll, training ? training->dhidden.data() : nullptr, m.output);
}

void LanguageModel::backward() {
    const ForkLock lock(training_mutex_, [&] { replace_abandoned(training_); });
    Training& m = training_;
    if (!m.pending)
        throw std::invalid_argument("backward: no loss to differentiate; call loss first, once for every backward");
    rnn_.check_weights(m.tape);
    const GradientLock gradients(gradients_mutex_);
    m.pending = false;
    const size_t tokens = m.ids.size(), hidden = options_.hidden_size, width = options_.embedding_size;
    output_.add_gradients(m.output);
    if (options_.dropout > 0)
        dropout(m.dhidden.data(), m.dhidden.data(), hidden, m.tape.steps.offset, mask(),
                random_key(m.dropout_key, before_output));
    if (embedding_) m.dembedded.reserve(tokens * width);
    rnn_.backward(m.tape, m.dhidden.data(), {}, embedding_ ? m.dembedded.data() : nullptr, {});
    if (!embedding_) return;
    if (embedding_mask().p > 0)
        dropout(m.dembedded.data(), m.dembedded.data(), width, m.tape.steps.offset, embedding_mask(),
                random_key(m.dropout_key, after_embedding));
    embedding_backward(m.dembedded.data(), width, m.ids.data(), tokens, embedding_->grad.data());
}

StreamWorkspace::Sizes LanguageModel::one_step() const {
    StreamWorkspace::Sizes sizes = stream_sizes(stack(), 1);
    sizes.x = options_.embedding_size;
    sizes.y = options_.hidden_size;
    sizes.left = output_.logits_scratch(1);
    return sizes;
}

void LanguageModel::hidden(const int32_t* tokens, size_t steps, StreamState* const* states, size_t rows,
                           StreamWorkspace& m, size_t threads) const {
    m.y.reserve(steps * rows * options_.hidden_size);
    stream_run(stack(), embed(tokens, steps, rows, m.x), states, m.y.data(), m, threads);
}

void LanguageModel::step(const int32_t* tokens, StreamState* const* states, size_t rows, float* logits,
                         StreamWorkspace& m, size_t threads) const {
    check_ids(tokens, rows);
    hidden(tokens, 1, states, rows, m, threads);
    output_.logits(m.y.data(), rows, logits, m.left, threads);
}

void LanguageModel::run(const int32_t* tokens, size_t count, StreamState& state, float* logits,
                        StreamWorkspace& m) const {
    check_ids(tokens, count);
    StreamState* states[] = {&state};
    size_t steps = 0;
    for (size_t at = 0; at < count; at += steps) {
        steps = std::min(chunk_steps, count - at);
        hidden(tokens + at, steps, states, 1, m, 1);
    }
    output_.logits(m.y.data() + (steps - 1) * options_.hidden_size, 1, logits, m.left, 1);
}

void LanguageModel::score(const int32_t* tokens, size_t count, StreamState& state, double* log_probabilities,
                          StreamWorkspace& m) const {
    check_ids(tokens, count);
    const size_t vocabulary = options_.vocabulary;
    StreamState* states[] = {&state};
    m.logits.reserve(chunk_steps * vocabulary);
    for (size_t at = 0, steps; at + 1 < count; at += steps) {
        steps = std::min(chunk_steps, count - 1 - at);
        hidden(tokens + at, steps, states, 1, m, 1);
        output_.logits(m.y.data(), steps, m.logits.data(), m.left);
        double* out = log_probabilities + at;
        nll_of_logits(kernels(), m.logits.data(), steps, vocabulary, tokens + at + 1, out, m.sums);
        for (size_t i = 0; i < steps; ++i) {
            if (std::isnan(out[i]))
                throw std::domain_error("the logits hold NaN: the model's weights or the state are not finite");
            out[i] = -out[i];
        }
    }
}

}  // namespace rnnfast::core
