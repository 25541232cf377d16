// The public translator: checks at the boundary, then one call into the core.
#include <stdexcept>

#include "models/seq2seq/translation.h"
#include "models/seq2seq/translator_file.h"
#include "runtime/dispatch.h"
// Inner headers first, because the public headers declare other classes with the same names.
#include "api/api.h"
#include "rnnfast/translator.hpp"
#include "runtime/sentence.h"

namespace rnnfast {
inline namespace v1 {

struct Translator::Impl {
    Impl(TranslatorFile&& file, Weights weights)
        : model(translator_of(file, weights, active())),
          source(std::make_shared<Vocabulary::Impl>(Vocabulary::Impl{std::move(file.source)})),
          target(std::make_shared<Vocabulary::Impl>(Vocabulary::Impl{std::move(file.target)})) {}
    std::unique_ptr<const Seq2Seq> model;
    Vocabulary source, target;
};

Translator::Translator(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
const Translator::Impl& Translator::impl() const { return held(impl_, "Translator", "load one with Translator::load"); }

namespace {

TranslatorFile file_in_memory(const void* bytes, size_t size) {
    return TranslatorFile(SafetensorsFile::view(checked_bytes(bytes, size), "the model in memory"));
}

DecodeOptions inner(const TranslateOptions& o) {
    DecodeOptions options;
    options.beam_size = o.beam_size;
    options.n_best = o.n_best;
    options.max_length = o.max_length;
    options.length_penalty = o.length_penalty;
    options.pad = pad_id;
    options.bos = bos_id;
    options.eos = eos_id;
    return options;
}

void check_attention(const TranslateOptions& options, const Seq2Seq& model) {
    if (options.attention && model.options().attention == AttentionKind::none)
        refuse({"the model has no attention: leave attention false"});
}

std::vector<std::vector<int32_t>> lists_of(std::initializer_list<std::initializer_list<int32_t>> lists) {
    return {lists.begin(), lists.end()};
}

std::vector<int32_t> sentence_ids(const Vocabulary& vocabulary, std::string_view sentence) {
    std::vector<int32_t> ids = vocabulary.encode(sentence);
    for (int32_t& id : ids)
        if (id >= pad_id && id <= eos_id) id = unknown_id;
    return ids;
}

}  // namespace

Translator Translator::load(const std::string& path) {
    TranslatorFile file(SafetensorsFile::open(path));
    const Weights weights = file.options.weights;
    return Translator(std::make_shared<const Impl>(std::move(file), weights));
}
Translator Translator::load(const std::string& path, Weights weights) {
    return Translator(std::make_shared<const Impl>(TranslatorFile(SafetensorsFile::open(path)), checked(weights)));
}
Translator Translator::load(const void* bytes, size_t size) {
    TranslatorFile file = file_in_memory(bytes, size);
    const Weights weights = file.options.weights;
    return Translator(std::make_shared<const Impl>(std::move(file), weights));
}
Translator Translator::load(const void* bytes, size_t size, Weights weights) {
    return Translator(std::make_shared<const Impl>(file_in_memory(bytes, size), checked(weights)));
}

const Vocabulary& Translator::source_vocab() const { return impl().source; }
const Vocabulary& Translator::target_vocab() const { return impl().target; }
size_t Translator::source_vocab_size() const { return impl().model->options().source_vocabulary; }
size_t Translator::target_vocab_size() const { return impl().model->options().target_vocabulary; }
bool Translator::has_attention() const { return impl().model->options().attention != AttentionKind::none; }
Weights Translator::weights() const { return impl().model->options().weights; }

std::vector<int32_t> Translator::encode_source(std::string_view sentence) const {
    return sentence_ids(impl().source, sentence);
}
std::vector<int32_t> Translator::encode_target(std::string_view sentence) const {
    return sentence_ids(impl().target, sentence);
}

std::string Translator::translate(std::string_view sentence, const TranslateOptions& options) const {
    return translate(std::vector<std::string>{std::string(sentence)}, options)[0];
}

std::vector<std::string> Translator::translate(const std::vector<std::string>& sentences,
                                               const TranslateOptions& options) const {
    std::vector<std::vector<int32_t>> sources;
    for (const std::string& sentence : sentences) sources.push_back(encode_source(sentence));
    check_attention(options, *impl().model);
    DecodeOptions wanted = inner(options);
    wanted.scores = false;
    std::vector<std::string> texts;
    for (const std::vector<Hypothesis>& best : rnnfast::translate(*impl().model, sources, wanted, false))
        texts.push_back(impl().target.decode(best[0].tokens));
    return texts;
}

std::vector<std::string> Translator::translate(std::initializer_list<const char*> sentences,
                                               const TranslateOptions& options) const {
    std::vector<std::string> copies;
    for (const char* sentence : sentences) {
        check_pointer(sentence, "a sentence");
        copies.emplace_back(sentence);
    }
    return translate(copies, options);
}

std::vector<std::vector<Translation>> Translator::translate(const std::vector<std::vector<int32_t>>& sources,
                                                            const TranslateOptions& options) const {
    check_attention(options, *impl().model);
    std::vector<std::vector<Translation>> all;
    for (std::vector<Hypothesis>& best :
         rnnfast::translate(*impl().model, sources, inner(options), options.attention)) {
        all.emplace_back();
        for (Hypothesis& h : best)
            all.back().push_back({std::move(h.tokens), h.log_probability, h.score, h.ended, std::move(h.attention)});
    }
    return all;
}

std::vector<std::vector<Translation>> Translator::translate(
    std::initializer_list<std::initializer_list<int32_t>> sources, const TranslateOptions& options) const {
    return translate(lists_of(sources), options);
}

double Translator::score(std::string_view source, std::string_view target) const {
    const std::vector<std::vector<int32_t>> sources{encode_source(source)}, targets{encode_target(target)};
    return score(sources, targets)[0];
}

std::vector<double> Translator::score(const std::vector<std::vector<int32_t>>& sources,
                                      const std::vector<std::vector<int32_t>>& targets) const {
    return score_pairs(*impl().model, sources, targets, inner({}));
}

std::vector<double> Translator::score(std::initializer_list<std::initializer_list<int32_t>> sources,
                                      std::initializer_list<std::initializer_list<int32_t>> targets) const {
    return score(lists_of(sources), lists_of(targets));
}

}  // namespace v1
}  // namespace rnnfast
