// Translators without Python: load a file that rf.Seq2Seq.save wrote, translate from any number of threads.
//
//     const auto translator = rnnfast::Translator::load("de-en.safetensors");
//     rnnfast::TranslateOptions options;
//     options.beam_size = 5;
//     std::string text = translator.translate("zwei junge männer sind im freien .", options);
//
// A translator never changes, so threads share one. Results are Python's to the bit, alone and beside other sentences.
// Wrong arguments throw std::invalid_argument or std::out_of_range, files that cannot be trusted rnnfast::Error.
#pragma once

#include <initializer_list>

#include "rnnfast/rnnfast.hpp"

namespace rnnfast {
inline namespace v1 {

struct TranslateOptions {
    size_t beam_size = 1;          // 1: the likeliest token at each step; else how many beginnings are kept
    size_t n_best = 1;             // translations of each sentence, at most beam_size
    size_t max_length = 0;         // most tokens of a translation, <eos> counted; 0: twice the sentence's and ten
    double length_penalty = 0.75;  // score = log P / length^length_penalty: more favours longer translations
    bool attention = false;        // keep what the decoder looked at; for models that have attention
};

struct Translation {
    std::vector<int32_t> tokens;  // without <bos> and <eos>
    double log_probability = 0;   // of the tokens and <eos>, in nats
    double score = 0;
    bool ended = true;             // by <eos>, not by max_length
    std::vector<float> attention;  // [tokens, one more for <eos> if it ended; source tokens and <eos>], if asked for
};

class RNNFAST_API Translator {
public:
    Translator() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // Without `weights`: as the file says. Other precisions are made at load.
    static Translator load(const std::string& path);
    static Translator load(const std::string& path, Weights weights);
    // The bytes of a model file; they are not needed afterwards.
    static Translator load(const void* bytes, size_t size);
    static Translator load(const void* bytes, size_t size, Weights weights);

    // Of size 0 if the model has no vocabularies of text; it then translates ids.
    const Vocabulary& source_vocab() const;
    const Vocabulary& target_vocab() const;
    size_t source_vocab_size() const;  // tokens, with or without text
    size_t target_vocab_size() const;
    bool has_attention() const;
    Weights weights() const;

    // The best translation of a UTF-8 sentence; of one without a token "".
    std::string translate(std::string_view sentence, const TranslateOptions& options = {}) const;
    // Of many: faster than one by one, and the same.
    std::vector<std::string> translate(const std::vector<std::string>& sentences,
                                       const TranslateOptions& options = {}) const;
    std::vector<std::string> translate(std::initializer_list<const char*> sentences,  // translate({"a", "b"})
                                       const TranslateOptions& options = {}) const;
    // Of each source, ids without <eos>, the n_best translations, the best score first; fewer if there are no more.
    std::vector<std::vector<Translation>> translate(const std::vector<std::vector<int32_t>>& sources,
                                                    const TranslateOptions& options = {}) const;
    std::vector<std::vector<Translation>> translate(
        std::initializer_list<std::initializer_list<int32_t>> sources,  // translate({{5, 6}})
        const TranslateOptions& options = {}) const;

    // log P(target, <eos> | source) in nats
    double score(std::string_view source, std::string_view target) const;
    // Of many pairs, ids without <bos> and <eos>
    std::vector<double> score(const std::vector<std::vector<int32_t>>& sources,
                              const std::vector<std::vector<int32_t>>& targets) const;
    std::vector<double> score(std::initializer_list<std::initializer_list<int32_t>> sources,
                              std::initializer_list<std::initializer_list<int32_t>> targets) const;

    // Ids of a sentence as translate reads it: reserved tokens that are written out in it are unknown.
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
