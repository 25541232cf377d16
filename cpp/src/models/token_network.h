// Tokens -> embedding or one-hot -> recurrent stack -> linear, for running only: the same numbers as
// models/language_model to the bit, from weights packed straight out of a file. Immutable, so threads share one.
#pragma once

#include "layers/stream_stack.h"
#include "models/language_model_file.h"
#include "ops/packed_linear.h"

namespace rnnfast::core {

class TokenNetwork {
public:
    TokenNetwork(const LanguageModelFile& file, Weights weights, const Kernels& kernels);

    size_t vocabulary() const { return vocabulary_; }
    Weights weights() const { return weights_; }
    const StreamStack& stack() const { return stack_; }
    size_t embedding_size() const { return embedding_size_; }
    StreamWorkspace::Sizes one_step() const;                 // of one stream
    void check_ids(const int32_t* ids, size_t count) const;  // throws std::out_of_range

    // One token to each of `rows` streams; logits: [rows, V]
    void step(const int32_t* tokens, StreamState* const* states, size_t rows, float* logits, StreamWorkspace& m) const;
    // `count` tokens to one stream; logits: [V] after the last one.
    void run(const int32_t* tokens, size_t count, StreamState& state, float* logits, StreamWorkspace& m) const;
    // log P(tokens[i + 1]) in nats for the first count - 1 tokens, which the stream reads.
    void score(const int32_t* tokens, size_t count, StreamState& state, double* log_probabilities,
               StreamWorkspace& m) const;

private:
    // Hidden states of the last layer for [steps, rows] tokens, in m.y
    void hidden(const int32_t* tokens, size_t steps, StreamState* const* states, size_t rows, StreamWorkspace& m) const;

    size_t vocabulary_, embedding_size_;
    Weights weights_;
    Buffer embedding_;  // [V, E]
    StreamStack stack_;
    PackedLinear output_;
};

}  // namespace rnnfast::core
