// Translators in the C API.
#include "api/c_api.h"
#include "rnnfast/translator.hpp"

using namespace rnnfast::c_api;
using rnnfast::Translation;
using rnnfast::Translator;

namespace {

// Translations, with the translator that converts them to text.
struct Translations {
    Translator translator;
    std::vector<Translation> all;
};

}  // namespace

struct rnnfast_translator : Handle<Translator, Kind::translator> {
    using Handle::Handle;
};
struct rnnfast_translations : Handle<Translations, Kind::translations> {
    using Handle::Handle;
};

namespace {

const Translator& checked_translator(const rnnfast_translator* t) {
    return checked(const_cast<rnnfast_translator*>(t), "translator");
}

const Translations& checked_translations(const rnnfast_translations* t) {
    if (!t) refuse({"translations is NULL: expected a handle from rnnfast_translate"});
    return checked(const_cast<rnnfast_translations*>(t), "translations");
}

const Translation& numbered(const rnnfast_translations* translations, size_t number) {
    const std::vector<Translation>& all = checked_translations(translations).all;
    if (number >= all.size())
        refuse_index({"number ", number, ": there are ", all.size(), " translations, counted from 0"});
    return all[number];
}

std::string_view text_of(const char* text, size_t size, const char* what) {
    if (!text && size) refuse({what, " is NULL"});
    return {text, text ? size : 0};
}

std::vector<int32_t> ids_of(const int32_t* ids, size_t count, const char* what) {
    if (!ids && count) refuse({what, " is NULL"});
    if (count > static_cast<size_t>(-1) / 8) refuse({what, " has too many ids"});
    return ids ? std::vector<int32_t>(ids, ids + count) : std::vector<int32_t>();
}

rnnfast_status translate(const Translator& translator, std::vector<int32_t> source,
                         const rnnfast_translate_options* options, rnnfast_translations** translations) {
    rnnfast::TranslateOptions o;
    if (options) {
        o.beam_size = options->beam_size;
        o.n_best = options->n_best;
        o.max_length = options->max_length;
        o.length_penalty = options->length_penalty;
    }
    auto found = translator.translate(std::vector<std::vector<int32_t>>{std::move(source)}, o);
    *translations = new rnnfast_translations(Translations{translator, std::move(found[0])});
    return RNNFAST_OK;
}

}  // namespace

rnnfast_status rnnfast_translator_load(const char* path, int weights, rnnfast_translator** translator) {
    return guarded([&] {
        given(translator, "the place for the translator") = nullptr;
        const std::string name = &given(path, "path");
        *translator =
            new rnnfast_translator(load_as(weights, [&](auto... as) { return Translator::load(name, as...); }));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_translator_load_memory(const void* bytes, size_t size, int weights,
                                              rnnfast_translator** translator) {
    return guarded([&] {
        given(translator, "the place for the translator") = nullptr;
        *translator =
            new rnnfast_translator(load_as(weights, [&](auto... as) { return Translator::load(bytes, size, as...); }));
        return RNNFAST_OK;
    });
}

void rnnfast_translator_free(rnnfast_translator* translator) {
    if (translator && translator->tag == Kind::translator) delete translator;
}

rnnfast_status rnnfast_translator_vocab_sizes(const rnnfast_translator* translator, size_t* source, size_t* target) {
    return guarded([&] {
        const Translator& t = checked_translator(translator);
        if (source) *source = t.source_vocab_size();
        if (target) *target = t.target_vocab_size();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_translate_defaults(rnnfast_translate_options* options) {
    return guarded([&] {
        const rnnfast::TranslateOptions o;
        given(options, "options") = {o.beam_size, o.n_best, o.max_length, o.length_penalty};
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_translate(const rnnfast_translator* translator, const char* sentence, size_t size,
                                 const rnnfast_translate_options* options, rnnfast_translations** translations) {
    return guarded([&] {
        given(translations, "the place for the translations") = nullptr;
        const Translator& t = checked_translator(translator);
        return translate(t, t.encode_source(text_of(sentence, size, "sentence")), options, translations);
    });
}

rnnfast_status rnnfast_translate_ids(const rnnfast_translator* translator, const int32_t* source, size_t count,
                                     const rnnfast_translate_options* options, rnnfast_translations** translations) {
    return guarded([&] {
        given(translations, "the place for the translations") = nullptr;
        return translate(checked_translator(translator), ids_of(source, count, "source"), options, translations);
    });
}

void rnnfast_translations_free(rnnfast_translations* translations) {
    if (translations && translations->tag == Kind::translations) delete translations;
}

rnnfast_status rnnfast_translations_count(const rnnfast_translations* translations, size_t* count) {
    return guarded([&] {
        given(count, "count") = checked_translations(translations).all.size();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_translations_text(const rnnfast_translations* translations, size_t number, char* text,
                                         size_t* size) {
    return guarded([&] {
        given(size, "size");
        const Translation& t = numbered(translations, number);
        return give_text(checked_translations(translations).translator.target_vocab().decode(t.tokens), text, size);
    });
}

rnnfast_status rnnfast_translations_ids(const rnnfast_translations* translations, size_t number, int32_t* ids,
                                        size_t* count) {
    return guarded([&] {
        given(count, "count");
        const std::vector<int32_t>& tokens = numbered(translations, number).tokens;
        return give(tokens.data(), tokens.size(), ids, count, "ids");
    });
}

rnnfast_status rnnfast_translations_score(const rnnfast_translations* translations, size_t number,
                                          double* log_probability, double* score, int* ended) {
    return guarded([&] {
        const Translation& t = numbered(translations, number);
        if (log_probability) *log_probability = t.log_probability;
        if (score) *score = t.score;
        if (ended) *ended = t.ended;
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_score_pair(const rnnfast_translator* translator, const char* source, size_t source_size,
                                  const char* target, size_t target_size, double* log_probability) {
    return guarded([&] {
        given(log_probability, "log_probability");
        *log_probability = checked_translator(translator)
                               .score(text_of(source, source_size, "source"), text_of(target, target_size, "target"));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_score_pair_ids(const rnnfast_translator* translator, const int32_t* source, size_t source_count,
                                      const int32_t* target, size_t target_count, double* log_probability) {
    return guarded([&] {
        given(log_probability, "log_probability");
        *log_probability =
            checked_translator(translator)
                .score({ids_of(source, source_count, "source")}, {ids_of(target, target_count, "target")})[0];
        return RNNFAST_OK;
    });
}
