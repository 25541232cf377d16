// Translators without Python: load a file of rf.Seq2Seq.save and translate on any number of threads.
//
//     const auto translator = rnnfast::Translator::load("de-en.safetensors");
//     rnnfast::TranslateOptions options;
//     options.beam_size = 5;
//     std::string text = translator.translate("zwei junge männer sind im freien .", options);
//
// A translator is immutable, so threads share it. Results are bit-identical to Python's, alone and in any batch.
// Wrong arguments throw std::invalid_argument or std::out_of_range; bad files throw rnnfast::Error.
#pragma once

#include <initializer_list>

#include "rnnfast/rnnfast.hpp"

namespace rnnfast {
inline namespace v1 {

struct TranslateOptions {
    size_t beam_size = 1;          // 1: the most probable token at each step; else the number of prefixes to keep
    size_t n_best = 1;             // number of translations per sentence, at most beam_size
    size_t max_length = 0;         // maximum number of tokens, including <eos>; 0: twice the sentence's, plus ten
    double length_penalty = 0.75;  // score = log P / length^length_penalty; larger favours longer translations
    bool attention = false;        // return the attention weights; for models with attention
};

struct Translation {
    std::vector<int32_t> tokens;  // without <bos> and <eos>
    double log_probability = 0;   // of the tokens and <eos>, in nats
    double score = 0;
    bool ended = true;             // by <eos>, not by max_length
    std::vector<float> attention;  // if requested: [tokens, and <eos> if it ended; source tokens and <eos>]
};

class RNNFAST_API Translator {
public:
    Translator() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // Without `weights`, the precision is that of the file. Another precision is computed at load time.
    static Translator load(const std::string& path);
    static Translator load(const std::string& path, Weights weights);
    // From the bytes of a model file, which are not needed afterwards.
    static Translator load(const void* bytes, size_t size);
    static Translator load(const void* bytes, size_t size, Weights weights);

    // Size 0 if the model has no text vocabularies and translates only ids.
    const Vocabulary& source_vocab() const;
    const Vocabulary& target_vocab() const;
    size_t source_vocab_size() const;  // number of tokens, also without text
    size_t target_vocab_size() const;
    bool has_attention() const;
    Weights weights() const;

    // The best translation of a UTF-8 sentence; "" for a sentence without tokens.
    std::string translate(std::string_view sentence, const TranslateOptions& options = {}) const;
    // Translates many sentences: faster than one by one, with the same results.
    std::vector<std::string> translate(const std::vector<std::string>& sentences,
                                       const TranslateOptions& options = {}) const;
    std::vector<std::string> translate(std::initializer_list<const char*> sentences,  // translate({"a", "b"})
                                       const TranslateOptions& options = {}) const;
    // For each source (ids without <eos>), the n_best translations, best score first; fewer if there are no more.
    std::vector<std::vector<Translation>> translate(const std::vector<std::vector<int32_t>>& sources,
                                                    const TranslateOptions& options = {}) const;
    std::vector<std::vector<Translation>> translate(
        std::initializer_list<std::initializer_list<int32_t>> sources,  // translate({{5, 6}})
        const TranslateOptions& options = {}) const;

    // log P(target, <eos> | source) in nats
    double score(std::string_view source, std::string_view target) const;
    // The same for many pairs of ids without <bos> and <eos>
    std::vector<double> score(const std::vector<std::vector<int32_t>>& sources,
                              const std::vector<std::vector<int32_t>>& targets) const;
    std::vector<double> score(std::initializer_list<std::initializer_list<int32_t>> sources,
                              std::initializer_list<std::initializer_list<int32_t>> targets) const;

    // Ids of a sentence as translate reads it: reserved tokens in the text are read as unknown.
    std::vector<int32_t> encode_source(std::string_view sentence) const;
    std::vector<int32_t> encode_target(std::string_view sentence) const;

    struct Impl;

private:
    explicit Translator(std::shared_ptr<const Impl> impl);
    const Impl& impl() const;
    std::shared_ptr<const Impl> impl_;
};

}  // namespace v1
}  // namespace rnnfast
