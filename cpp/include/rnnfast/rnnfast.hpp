// Language models without Python: load a file that training wrote, run any number of streams from any number of
// threads.
//
//     const auto model = rnnfast::LanguageModel::load("tm.safetensors", rnnfast::Weights::int8);
//     rnnfast::State state = model.initial_state();
//     std::vector<float> logits(model.vocab().size());
//     for (int32_t token : model.vocab().encode("the time ")) model.step(token, state, logits);
//
// A model and its vocabulary never change, so threads share one. A State or a Sampler belongs to one thread at a time.
// Wrong arguments throw std::invalid_argument or std::out_of_range, files that cannot be trusted rnnfast::Error.
//
// Every class is a handle: copies of a model share it, copies of a State are independent. A handle that was default-
// constructed or moved from is empty: it is false, may be assigned to and destroyed, and throws std::invalid_argument
// when it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rnnfast/error.hpp"
#include "rnnfast/export.hpp"
#include "rnnfast/sampler_options.hpp"
#include "rnnfast/weights.hpp"

namespace rnnfast {
inline namespace v1 {  // so that a program and a library of different versions fail at link time, not later

// "0.1.0"
RNNFAST_API std::string version();
// The instruction set in use, such as "avx512"; the environment variable RNNFAST_ISA forces one.
RNNFAST_API std::string instruction_set();
// Threads one call may use, for long runs and scores and for steps of 16 streams or more. Steps of fewer streams stay
// on the caller's thread: no lock, no system call.
RNNFAST_API void set_num_threads(int threads);
RNNFAST_API int num_threads();

// Tokens and their ids: what rf.Vocab does in Python, with the same ids for the same text.
class RNNFAST_API Vocabulary {
public:
    Vocabulary() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // 0 if the model has no vocabulary of text; ids then are all there is, see LanguageModel::vocab_size.
    size_t size() const;
    // Ids of a UTF-8 text; tokens that are not known give 0, "<unk>".
    std::vector<int32_t> encode(std::string_view text) const;
    // Readable text of ids.
    std::string decode(const std::vector<int32_t>& ids) const;
    std::string decode(const int32_t* ids, size_t count) const;
    // One token as it is in the vocabulary.
    std::string token(int32_t id) const;
    // "char", "word" ("word-v1" in files of version 0.1, which cut words at combining marks), ...; empty without a
    // vocabulary
    std::string tokenizer() const;

    struct Impl;
    explicit Vocabulary(std::shared_ptr<const Impl> impl);

private:
    const Impl& impl() const;
    std::shared_ptr<const Impl> impl_;
};

// What a stream remembers, and the memory its steps work in. Starts as zeros.
class RNNFAST_API State {
public:
    State();  // empty: initial_state() of a model makes one that can be used
    explicit operator bool() const { return impl_ != nullptr; }
    // A copy of a state that has made a step allocates nothing in its own first one.
    State(const State&);
    State& operator=(const State&);
    State(State&&) noexcept;
    State& operator=(State&&) noexcept;
    ~State();

    void reset();  // to zeros
    // As bytes, for a file or another process; restore() takes them back in a State of the same model. Throws
    // std::domain_error for a state with NaN or infinity, which weights that are too large may lead to.
    std::vector<uint8_t> save() const;
    size_t saved_size() const;  // how many bytes save() gives
    void restore(const void* bytes, size_t size);
    // The hidden state of a layer: hidden_size() numbers, valid until the next step.
    const float* hidden(size_t layer) const;
    size_t hidden_size() const;
    size_t num_layers() const;

    struct Impl;
    explicit State(std::unique_ptr<Impl> impl);
    Impl& impl() const;

private:
    std::unique_ptr<Impl> impl_;
};

// From logits to a token; draw i of a seed is always the same for the same logits, in Python too.
class RNNFAST_API Sampler {
public:
    // temperature 0: the likeliest token; top_k 0: all tokens, else only the k likeliest; top_p below 1: only the
    // likeliest that together reach this probability
    explicit Sampler(double temperature = 1.0, size_t top_k = 0, uint64_t seed = 0, double top_p = 1.0);
    explicit Sampler(const SamplerOptions& options);
    // A copy goes on from where the original is: both draw the same.
    Sampler(const Sampler&);
    Sampler& operator=(const Sampler&);
    Sampler(Sampler&&) noexcept;
    Sampler& operator=(Sampler&&) noexcept;
    explicit operator bool() const { return impl_ != nullptr; }  // false: moved from
    ~Sampler();

    // Tokens that precede those to be drawn, for no_repeat_ngram_size. LanguageModel::generate reads its prompt, and
    // what is drawn is read too.
    void read(const int32_t* tokens, size_t count);
    // A logit of minus infinity forbids its token. Throws std::domain_error for NaN and plus infinity, and if no token
    // is left.
    int32_t sample(const std::vector<float>& logits);
    int32_t sample(const float* logits, size_t size);

    // Options, and how far it is, as bytes: with the saved State, a generation continues in another process.
    std::vector<uint8_t> save() const;
    void restore(const void* bytes, size_t size);

private:
    struct Impl;
    Impl& impl() const;
    std::unique_ptr<Impl> impl_;
};

struct GenerateOptions {
    size_t max_length = 256;      // most tokens
    std::vector<int32_t> stop{};  // ids that end the text; they are not part of it
    // Receives every token as it is drawn, but a stop token. Return false to end with this token.
    std::function<bool(int32_t token)> on_token{};
};

class RNNFAST_API LanguageModel {
public:
    LanguageModel() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // Without `weights`: as the file says. Other precisions are made at load.
    static LanguageModel load(const std::string& path);
    static LanguageModel load(const std::string& path, Weights weights);
    // The bytes of a model file; they are not needed afterwards.
    static LanguageModel load(const void* bytes, size_t size);
    static LanguageModel load(const void* bytes, size_t size, Weights weights);

    const Vocabulary& vocab() const;
    size_t vocab_size() const;  // tokens, with or without text: the length of logits
    size_t hidden_size() const;
    size_t num_layers() const;
    std::string cell() const;  // "rnn", "rnn_relu", "lstm" or "gru"
    Weights weights() const;

    State initial_state() const;

    // One token in, the logits of the next out. After a state's first step nothing is allocated or locked.
    void step(int32_t token, State& state, std::vector<float>& logits) const;
    void step(int32_t token, State& state, float* logits) const;  // [vocab_size]

    // `count` streams at once: tokens[i] to *states[i], logits [count, vocab_size]. Faster than one by one, and the
    // same to the bit. A state that is there twice is refused. The memory the call needs is kept in *states[0].
    void step(const int32_t* tokens, State* const* states, size_t count, float* logits) const;

    // Reads tokens, and gives the logits after the last: the bits of as many steps.
    void run(const int32_t* tokens, size_t count, State& state, float* logits) const;
    void run(const std::vector<int32_t>& tokens, State& state, std::vector<float>& logits) const;

    // log P(tokens[i + 1] | the state, tokens[0] ... tokens[i]) in nats, count - 1 numbers: tokens[0] is
    // given, so the joint probability of a text starts from <bos> if the vocabulary has it (as rf.log_prob does), and
    // leaves out P(tokens[0]) if not. Reads all but the last token, so that the next chunk of a long text starts with
    // it.
    std::vector<double> score(const std::vector<int32_t>& tokens, State& state) const;
    void score(const int32_t* tokens, size_t count, State& state, double* log_probabilities) const;

    // The prompt's continuation by `length` tokens, from a new state; the text rf.generate gives for the same seed.
    std::string generate(std::string_view prompt, size_t length, Sampler& sampler) const;
    // The continuation of ids by ids; the state goes on from where it is.
    std::vector<int32_t> generate(const std::vector<int32_t>& prompt, size_t length, Sampler& sampler,
                                  State& state) const;
    // The same with stop tokens, and a callback that may cancel. The state has then read the prompt and all drawn
    // tokens but the last: to continue, give that as the next prompt.
    std::string generate(std::string_view prompt, const GenerateOptions& options, Sampler& sampler) const;
    std::vector<int32_t> generate(const std::vector<int32_t>& prompt, const GenerateOptions& options, Sampler& sampler,
                                  State& state) const;

    struct Impl;

private:
    explicit LanguageModel(std::shared_ptr<const Impl> impl);
    const Impl& impl() const;
    std::shared_ptr<const Impl> impl_;
};

}  // namespace v1
}  // namespace rnnfast
