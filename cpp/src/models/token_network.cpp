#include "models/token_network.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "ops/softmax_loss.h"
#include "runtime/check.h"

namespace rnnfast::core {

namespace {

constexpr size_t steps_at_once = 64;  // of a long run: their states and logits stay in cache

}  // namespace

TokenNetwork::TokenNetwork(const LanguageModelFile& f, Weights weights, const Kernels& kernels)
    : vocabulary_(f.options.vocabulary), embedding_size_(f.options.embedding_size), weights_(weights) {
    f.check(weights);
    const LanguageModelOptions& m = f.options;
    const CellInfo& cell = cell_named(m.cell);
    const size_t hidden = m.hidden_size, gate_rows = cell.gates * hidden;
    Buffer buffers[4];
    const auto values = [&](const std::string& name, const std::vector<size_t>& shape, size_t buffer) {
        return tensor_values(f.file, name, shape, buffers[buffer]);
    };
    if (embedding_size_) {
        const float* table = values("embedding.weight", {vocabulary_, embedding_size_}, 0);
        embedding_ = Buffer(vocabulary_ * embedding_size_, Buffer::Uninitialised{});
        std::copy_n(table, embedding_.size(), embedding_.data());
    }
    stack_ = StreamStack(kernels, cell, hidden, weights);
    for (size_t layer = 0; layer < m.num_layers; ++layer) {
        const std::string end = "_l" + std::to_string(layer);
        const size_t inputs = layer ? hidden : embedding_size_ ? embedding_size_ : vocabulary_;
        const ScanParameters p{values("rnn.weight_ih" + end, {gate_rows, inputs}, 0),
                               values("rnn.weight_hh" + end, {gate_rows, hidden}, 1),
                               values("rnn.bias_ih" + end, {gate_rows}, 2),
                               values("rnn.bias_hh" + end, {gate_rows}, 3)};
        stack_.add_layer(p, inputs, layer == 0 && !embedding_size_);
    }
    output_ = PackedLinear(kernels, weights, hidden, vocabulary_);
    const char* table = m.tie_weights ? "embedding.weight" : "output.weight";
    output_.pack(values(table, {vocabulary_, hidden}, 0), values("output.bias", {vocabulary_}, 1));
}

StreamWorkspace::Sizes TokenNetwork::one_step() const {
    StreamWorkspace::Sizes sizes = stack_.one_step();
    sizes.x = embedding_size_;
    sizes.y = stack_.hidden_size();
    sizes.left = output_.scratch(1);
    return sizes;
}

void TokenNetwork::check_ids(const int32_t* ids, size_t count) const {
    core::check_ids(ids, count, {vocabulary_, "token id", of_the_model});
}

void TokenNetwork::hidden(const int32_t* tokens, size_t steps, StreamState* const* states, size_t rows,
                          StreamWorkspace& m) const {
    StreamInput input;
    input.steps = steps;
    input.rows = rows;
    input.tokens = tokens;
    if (embedding_size_) {
        m.x.reserve(steps * rows * embedding_size_);
        for (size_t i = 0; i < steps * rows; ++i)
            std::copy_n(embedding_.data() + static_cast<size_t>(tokens[i]) * embedding_size_, embedding_size_,
                        m.x.data() + i * embedding_size_);
        input.x = m.x.data();
        input.tokens = nullptr;
    }
    m.y.reserve(steps * rows * stack_.hidden_size());
    stack_.run(input, states, m.y.data(), m);
}

void TokenNetwork::step(const int32_t* tokens, StreamState* const* states, size_t rows, float* logits,
                        StreamWorkspace& m) const {
    hidden(tokens, 1, states, rows, m);
    output_.forward(m.y.data(), stack_.hidden_size(), rows, logits, m.left, most_threads(rows));
}

void TokenNetwork::run(const int32_t* tokens, size_t count, StreamState& state, float* logits,
                       StreamWorkspace& m) const {
    StreamState* states[] = {&state};
    size_t steps = 0;
    for (size_t at = 0; at < count; at += steps) {
        steps = std::min(steps_at_once, count - at);
        hidden(tokens + at, steps, states, 1, m);
    }
    output_.forward(m.y.data() + (steps - 1) * stack_.hidden_size(), stack_.hidden_size(), 1, logits, m.left, 1);
}

void TokenNetwork::score(const int32_t* tokens, size_t count, StreamState& state, double* log_probabilities,
                         StreamWorkspace& m) const {
    StreamState* states[] = {&state};
    m.logits.reserve(steps_at_once * vocabulary_);
    for (size_t at = 0, steps; at + 1 < count; at += steps) {
        steps = std::min(steps_at_once, count - 1 - at);
        hidden(tokens + at, steps, states, 1, m);
        output_.forward(m.y.data(), stack_.hidden_size(), steps, m.logits.data(), m.left);
        double* out = log_probabilities + at;
        nll_of_logits(stack_.kernels(), m.logits.data(), steps, vocabulary_, tokens + at + 1, out, m.sums);
        for (size_t i = 0; i < steps; ++i) {
            if (std::isnan(out[i]))
                throw std::domain_error("the logits hold NaN: the model's weights or the state are not finite");
            out[i] = -out[i];
        }
    }
}

}  // namespace rnnfast::core
