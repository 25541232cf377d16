// Language models without Python: load a file from training, and run any number of streams on any number of threads.
//
//     const auto model = rnnfast::LanguageModel::load("tm.safetensors", rnnfast::Weights::int8);
//     rnnfast::State state = model.initial_state();
//     std::vector<float> logits(model.vocab().size());
//     for (int32_t token : model.vocab().encode("the time ")) model.step(token, state, logits);
//
// A model and its vocabulary are immutable, so threads share them. A State or a Sampler belongs to one thread at a
// time. Wrong arguments throw std::invalid_argument or std::out_of_range; bad files throw rnnfast::Error.
//
// Every class is a handle: copies of a model share the model, copies of a State are independent. A default-constructed
// or moved-from handle is empty: it is false, can be assigned to and destroyed, and throws std::invalid_argument at
// every other use.
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
#include "rnnfast/host.hpp"
#include "rnnfast/sampler_options.hpp"
#include "rnnfast/weights.hpp"

namespace rnnfast {
inline namespace v1 {  // a program and a library of different versions fail at link time, not later

// "0.1.0"
RNNFAST_API std::string version();
// The version of the C API's binary interface, RNNFAST_ABI_VERSION of rnnfast/rnnfast.h. Names of C++ carry their
// version in the inline namespace.
RNNFAST_API int abi_version();
// The active instruction set, such as "avx512"; the environment variable RNNFAST_ISA forces one.
RNNFAST_API std::string instruction_set();
// The number of threads that one call may use: in long runs and scores, and in steps of 16 streams or more. Steps of
// fewer streams stay on the caller's thread, without lock or system call.
RNNFAST_API void set_num_threads(int threads);
RNNFAST_API int num_threads();

// Tokens and their ids, as rf.Vocab in Python, with the same ids for the same text.
class RNNFAST_API Vocabulary {
public:
    Vocabulary() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // 0 if the model has no text vocabulary and reads only ids; see LanguageModel::vocab_size.
    size_t size() const;
    // Ids of a UTF-8 text; unknown tokens give 0, "<unk>".
    std::vector<int32_t> encode(std::string_view text) const;
    // Readable text of ids.
    std::string decode(const std::vector<int32_t>& ids) const;
    std::string decode(const int32_t* ids, size_t count) const;
    // One token, as the vocabulary spells it.
    std::string token(int32_t id) const;
    // "char", "word" ("word-v1" in files of version 0.1, which splits words at combining marks), ...; empty without a
    // vocabulary
    std::string tokenizer() const;

    struct Impl;
    explicit Vocabulary(std::shared_ptr<const Impl> impl);

private:
    const Impl& impl() const;
    std::shared_ptr<const Impl> impl_;
};

// The hidden state of a stream, and the workspace of its steps. Starts as zeros.
class RNNFAST_API State {
public:
    State();  // empty; initial_state() of a model returns a usable one
    explicit operator bool() const { return impl_ != nullptr; }
    // A copy of a state that has made a step allocates nothing in its own first step.
    State(const State&);
    State& operator=(const State&);
    State(State&&) noexcept;
    State& operator=(State&&) noexcept;
    ~State();

    void reset();  // to zeros
    // The state as bytes, for a file or another process; restore() reads them into a State of the same model. Throws
    // std::domain_error for a state with NaN or infinity, which too-large weights can cause.
    std::vector<uint8_t> save() const;
    size_t saved_size() const;  // number of bytes from save()
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

// Samples a token from logits. For one seed and the same logits, sample i is always the same, also in Python.
class RNNFAST_API Sampler {
public:
    // temperature 0: the most probable token; top_k 0: all tokens, else only the k most probable; top_p below 1: only
    // the most probable tokens that together reach this probability
    explicit Sampler(double temperature = 1.0, size_t top_k = 0, uint64_t seed = 0, double top_p = 1.0);
    explicit Sampler(const SamplerOptions& options);
    // A copy continues from the position of the original: both sample the same tokens.
    Sampler(const Sampler&);
    Sampler& operator=(const Sampler&);
    Sampler(Sampler&&) noexcept;
    Sampler& operator=(Sampler&&) noexcept;
    explicit operator bool() const { return impl_ != nullptr; }  // false: moved from
    ~Sampler();

    // Reads tokens before the sampled ones, for no_repeat_ngram_size. LanguageModel::generate reads its prompt; sampled
    // tokens are read automatically.
    void read(const int32_t* tokens, size_t count);
    // A logit of minus infinity forbids its token. Throws std::domain_error for NaN and plus infinity, and if no token
    // is left.
    int32_t sample(const std::vector<float>& logits);
    int32_t sample(const float* logits, size_t size);

    // Options and position as bytes: with the saved State, a generation continues in another process.
    std::vector<uint8_t> save() const;
    void restore(const void* bytes, size_t size);

private:
    friend class LanguageModel;  // generate computes the logits that the sampler will look at
    struct Impl;
    Impl& impl() const;
    std::unique_ptr<Impl> impl_;
};

struct GenerateOptions {
    size_t max_length = 256;      // maximum number of tokens
    std::vector<int32_t> stop{};  // ids that end the text and are not part of it
    // Receives every sampled token except a stop token. Return false to end with this token.
    std::function<bool(int32_t token)> on_token{};
};

class RNNFAST_API LanguageModel {
public:
    LanguageModel() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // Without `weights`, the precision is that of the file. Another precision is computed at load time.
    static LanguageModel load(const std::string& path);
    static LanguageModel load(const std::string& path, Weights weights);
    // From the bytes of a model file, which are not needed afterwards.
    static LanguageModel load(const void* bytes, size_t size);
    static LanguageModel load(const void* bytes, size_t size, Weights weights);

    const Vocabulary& vocab() const;
    size_t vocab_size() const;  // number of tokens, also without text: the length of logits
    size_t hidden_size() const;
    size_t num_layers() const;
    std::string cell() const;  // "rnn", "lstm", "gru", ...
    Weights weights() const;

    State initial_state() const;

    // Reads one token and returns the logits of the next. Allocates and locks nothing after the first step of a state.
    void step(int32_t token, State& state, std::vector<float>& logits) const;
    void step(int32_t token, State& state, float* logits) const;  // [vocab_size]

    // Steps `count` streams together: tokens[i] to *states[i], logits [count, vocab_size]. Faster than single steps,
    // and bit-identical to them. A repeated state is refused. *states[0] keeps the workspace of the call.
    void step(const int32_t* tokens, State* const* states, size_t count, float* logits) const;

    // Readies what the next step of these states on this thread needs: after it, the step allocates nothing and causes
    // no page fault. Takes a step, and puts the states back.
    void prefault(State& state) const;
    void prefault(State* const* states, size_t count) const;

    // Reads tokens and returns the logits after the last one, bit-identical to those of single steps.
    void run(const int32_t* tokens, size_t count, State& state, float* logits) const;
    void run(const std::vector<int32_t>& tokens, State& state, std::vector<float>& logits) const;

    // log P(tokens[i + 1] | the state, tokens[0] ... tokens[i]) in nats, count - 1 numbers. tokens[0] is given: for
    // the joint probability of a text, start with <bos> if the vocabulary has it (as rf.log_prob does); otherwise
    // P(tokens[0]) is not included. Reads all tokens except the last, with which the next chunk of a long text starts.
    std::vector<double> score(const std::vector<int32_t>& tokens, State& state) const;
    void score(const int32_t* tokens, size_t count, State& state, double* log_probabilities) const;

    // Continues the prompt by `length` tokens from a new state; the text is that of rf.generate with the same seed.
    std::string generate(std::string_view prompt, size_t length, Sampler& sampler) const;
    // Continues ids with ids, from the given state.
    std::vector<int32_t> generate(const std::vector<int32_t>& prompt, size_t length, Sampler& sampler,
                                  State& state) const;
    // The same with stop tokens, and a callback that may cancel. Afterwards the state has read the prompt and all
    // sampled tokens except the last: to continue, use that token as the next prompt.
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
