#include "models/language_model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "ops/dropout.h"
#include "ops/embedding.h"
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

LanguageModel::LanguageModel(LanguageModelOptions options, uint64_t seed, const Kernels& kernels)
    : options_(std::move(options)), rnn_(recurrent_options(options_), random_key(seed, 1), kernels, "rnn.") {
    const size_t vocabulary = options_.vocabulary, hidden = options_.hidden_size;
    if (options_.embedding_size && !options_.tie_weights) {
        own_.push_back(make_parameter("embedding.weight", {vocabulary, options_.embedding_size}));
        embedding_ = &own_.back();
        normal_(*embedding_, random_key(seed, 2));
    }
    const double bound = 1.0 / std::sqrt(static_cast<double>(hidden));
    const auto add_output = [&](const char* name, std::vector<size_t> shape, uint64_t key) {
        own_.push_back(make_parameter(name, std::move(shape)));
        uniform_(own_.back(), bound, key);
        return &own_.back();
    };
    const char* table = options_.tie_weights ? "embedding.weight" : "output.weight";
    output_weight_ = add_output(table, {vocabulary, hidden}, random_key(seed, 3));
    if (options_.tie_weights) embedding_ = output_weight_;
    output_bias_ = add_output("output.bias", {vocabulary}, random_key(seed, 4));
    output_ = OutputLayer(kernels, options_.weights, output_weight_, output_bias_);
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

// training: the memory again if backward may follow, or nullptr
void LanguageModel::run_loss(const Batch& b, Memory& m, Training* training, uint64_t dropout_key) {
    const size_t tokens = b.steps * b.rows, hidden = options_.hidden_size, width = options_.embedding_size;
    const bool train = training != nullptr;
    check_ids(b.x, tokens, {options_.vocabulary, "token id", of_the_model});
    check_targets(b.y, tokens, {options_.vocabulary, "token id", of_the_model});
    RecurrentInput input;
    input.steps = b.steps;
    input.rows = b.rows;
    set_even(m.even, b.steps, b.rows);
    m.ids.assign(b.x, b.x + tokens);
    if (embedding_) {
        m.embedded.reserve(tokens * width);
        embedding_forward(embedding_->value.data(), width, m.ids.data(), tokens, m.embedded.data());
        if (train && embedding_mask().p > 0)
            dropout(m.embedded.data(), m.embedded.data(), width, m.even.offset, embedding_mask(),
                    random_key(dropout_key, after_embedding));
        input.x = m.embedded.data();
    } else {
        input.tokens = m.ids.data();
    }
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

LanguageState LanguageModel::initial_state(size_t rows) const {
    return {rows, Buffer(state_size(rows)), Buffer(cell().has_c ? state_size(rows) : 0)};
}

void LanguageModel::step(const int32_t* tokens, LanguageState& state, float* logits, StepMemory& memory) const {
    const size_t rows = state.rows, hidden = options_.hidden_size, width = options_.embedding_size;
    check_ids(tokens, rows, {options_.vocabulary, "token id", of_the_model});
    RecurrentInput input;
    input.steps = 1;
    input.rows = rows;
    if (embedding_) {
        memory.x.reserve(rows * width);
        embedding_forward(embedding_->value.data(), width, tokens, rows, memory.x.data());
        input.x = memory.x.data();
    } else {
        input.tokens = tokens;
    }
    memory.y.reserve(rows * hidden);
    // The forward copies the start before it writes the end, so both may be the same memory.
    rnn_.forward(input, {state.h.data(), state.c.data()}, memory.y.data(), {state.h.data(), state.c.data()},
                 memory.tape, false);
    output_.logits(memory.y.data(), rows, logits, memory.scratch);
}

Generator::Generator(const LanguageModel& model, const int32_t* prompt, size_t length, const SamplerOptions& options)
    : model_(model), sampler_(options), state_(model.initial_state(1)), logits_(model.options().vocabulary) {
    if (length == 0) throw std::invalid_argument("the prompt is empty: expected at least one token to start from");
    for (size_t i = 0; i < length; ++i) model_.step(prompt + i, state_, logits_.data(), memory_);
    sampler_.read(prompt, length);
}

Generator::Generator(const Generator& from, Sampler sampler)
    : model_(from.model_),
      sampler_(std::move(sampler)),
      state_(model_.initial_state(1)),
      logits_(from.logits_),
      last_(from.last_) {
    std::copy_n(from.state_.h.data(), state_.h.size(), state_.h.data());
    std::copy_n(from.state_.c.data(), state_.c.size(), state_.c.data());
}

std::unique_ptr<Generator> Generator::numbered(uint64_t sample) const {
    return std::unique_ptr<Generator>(new Generator(*this, sampler_.numbered(sample)));
}

int32_t Generator::next() {
    const SoleUse use(mutex_, "this generator of a text", "start another one");
    if (last_ >= 0) model_.step(&last_, state_, logits_.data(), memory_);
    return last_ = sampler_.sample(logits_.data(), logits_.size());
}

}  // namespace rnnfast::core
