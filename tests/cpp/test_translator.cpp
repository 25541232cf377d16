// Translators from files: results equal to the model's, hostile files, shared use by threads, the C API.
#include <algorithm>
#include <functional>
#include <thread>

#include "model_files.h"
#include "models/seq2seq/translation.h"
#include "models/seq2seq/translator_file.h"
#include "rnnfast/rnnfast.h"
#include "rnnfast/translator.hpp"
#include "runtime/dispatch.h"

using namespace rnnfast::tests;
using rnnfast::AttentionKind;
using rnnfast::DecodeOptions;
using rnnfast::InitialState;
using rnnfast::Readout;
using rnnfast::Seq2Seq;
using rnnfast::Seq2SeqOptions;
using rnnfast::Summary;
using rnnfast::TranslateOptions;
using rnnfast::Translator;
using rnnfast::Weights;
using Sentence = std::vector<int32_t>;
using Metadata = std::map<std::string, std::string>;

namespace {

Seq2SeqOptions small(const char* attention = "none") {
    Seq2SeqOptions o;
    o.cell = "gru";
    o.source_vocabulary = 9;
    o.target_vocabulary = 8;
    o.embedding_size = 3;
    o.hidden_size = 5;
    o.num_layers = 2;
    o.seed = 1;
    o.attention = rnnfast::core::named<AttentionKind>("attention", attention);
    return o;
}

std::string config_of(const Seq2SeqOptions& o) { return rnnfast::core::write_options(o); }

std::string vocabulary_of(size_t size) {
    std::string tokens = "\"<unk>\",\"<pad>\",\"<bos>\",\"<eos>\"";
    for (size_t i = 4; i < size; ++i) tokens += ",\"" + std::string(1, static_cast<char>('a' + i - 4)) + "\"";
    return "{\"tokenizer\":\"char\",\"tokens\":[" + tokens + "]}";
}

Metadata metadata_of(const Seq2SeqOptions& o) {
    return {{"format", "rnnfast"},
            {"format_version", "1"},
            {"kind", "seq2seq"},
            {"config", config_of(o)},
            {"source_vocabulary", vocabulary_of(o.source_vocabulary)},
            {"target_vocabulary", vocabulary_of(o.target_vocabulary)}};
}

// A model with weights large enough for probabilities that differ.
std::unique_ptr<Seq2Seq> model_of(const Seq2SeqOptions& o) {
    auto model = std::make_unique<Seq2Seq>(o, 1, rnnfast::active());
    uint64_t seed = 0;
    for (rnnfast::Parameter* p : model->parameters()) {
        const auto values = random_vector(p->size(), ++seed, 1.0);
        std::copy(values.begin(), values.end(), p->value.data());
    }
    model->weights_changed();
    return model;
}

std::string bytes_of(Seq2Seq& model, const Metadata& metadata) {
    std::map<std::string, rnnfast::TensorView> tensors;
    for (const rnnfast::Parameter* p : model.parameters()) tensors[p->name] = {p->shape, p->value.data(), p->size()};
    const TemporaryFile path("translator");
    rnnfast::write_safetensors(path, tensors, metadata);
    std::string bytes = read_bytes(path);
    return bytes;
}

Translator translator_of(const std::string& bytes) { return Translator::load(bytes.data(), bytes.size()); }

std::vector<Sentence> sentences(size_t count) {
    std::vector<Sentence> all(count);
    for (size_t i = 0; i < count; ++i)
        for (size_t t = 0; t < i % 7; ++t) all[i].push_back(static_cast<int32_t>(4 + (i * 3 + t * t) % 5));
    return all;
}

// The error message for a changed file; empty if it loads.
std::string refused(const std::string& bytes) {
    try {
        translator_of(bytes);
    } catch (const rnnfast::Error& error) {
        return error.what();
    }
    return "";
}

}  // namespace

TEST_CASE("a translator from a file is bit-identical to the model") {
    std::vector<Seq2SeqOptions> all;
    for (const char* attention : {"none", "additive", "dot", "general"}) all.push_back(small(attention));
    all.push_back(small("general"));
    all.back().cell = "lstm";
    all.back().bidirectional = true;
    all.back().readout = Readout::all;
    all.push_back(small());
    all.back().initial_state = InitialState::learned;
    all.back().context = Summary::max;
    all.push_back(small());
    all.back().reads = {};
    size_t scored = 0;  // an untrained model seldom ends a translation
    for (Seq2SeqOptions& o : all) {
        CAPTURE(config_of(o));
        for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
            o.weights = weights;
            const auto model = model_of(o);
            const std::string bytes = bytes_of(*model, metadata_of(o));
            const Translator translator = Translator::load(bytes.data(), bytes.size(), weights);
            CHECK(translator.weights() == weights);
            CHECK(translator.has_attention() == (o.attention != AttentionKind::none));
            TranslateOptions options;
            options.beam_size = options.n_best = 4;
            options.attention = o.attention != AttentionKind::none;
            DecodeOptions inner;
            inner.beam_size = inner.n_best = 4;
            const auto found = translator.translate(sentences(20), options);
            const auto expected = rnnfast::translate(*model, sentences(20), inner, options.attention);
            std::vector<Sentence> sources, targets;
            std::vector<double> log_probabilities;
            for (size_t i = 0; i < 20; ++i) {
                REQUIRE(found[i].size() == expected[i].size());
                for (size_t k = 0; k < found[i].size(); ++k) {
                    REQUIRE(found[i][k].tokens == expected[i][k].tokens);
                    REQUIRE(found[i][k].log_probability == expected[i][k].log_probability);
                    REQUIRE(found[i][k].score == expected[i][k].score);
                    REQUIRE(found[i][k].ended == expected[i][k].ended);
                    REQUIRE(found[i][k].attention == expected[i][k].attention);
                    if (!found[i][k].ended || sentences(20)[i].empty()) continue;
                    sources.push_back(sentences(20)[i]);
                    targets.push_back(found[i][k].tokens);
                    log_probabilities.push_back(found[i][k].log_probability);
                }
            }
            scored += sources.size();
            if (!sources.empty()) CHECK(translator.score(sources, targets) == log_probabilities);
        }
    }
    CHECK(scored > 50);
}

TEST_CASE("a translator from a file keeps no values but those that its steps copy") {
    for (const char* attention : {"none", "additive", "general"}) {
        Seq2SeqOptions o = small(attention);
        o.cell = "lstm";
        o.initial_state = InitialState::learned;
        const auto model = model_of(o);
        const std::string bytes = bytes_of(*model, metadata_of(o));
        const rnnfast::core::TranslatorFile file(rnnfast::SafetensorsFile::view(bytes, "bytes"));
        for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
            const auto running = rnnfast::core::translator_of(file, weights, rnnfast::active());
            for (const rnnfast::Parameter* p : const_cast<Seq2Seq&>(*running).parameters()) {
                CAPTURE(p->name);
                const bool copied = p->name.find("embedding") != std::string::npos ||
                                    p->name.find("initial") != std::string::npos || p->name == "output.bias";
                CHECK((p->value.size() != 0) == copied);
                CHECK(p->grad.size() == 0);
            }
        }
    }
}

TEST_CASE("a translator reads and writes text") {
    const auto model = model_of(small());
    const Translator translator = translator_of(bytes_of(*model, metadata_of(small())));
    CHECK(translator.source_vocab().size() == 9);
    CHECK(translator.target_vocab_size() == 8);
    CHECK(translator.encode_source("ab?e") == Sentence{4, 5, 0, 8});
    const std::string text = translator.translate("abc");
    const auto found = translator.translate(std::vector<Sentence>{{4, 5, 6}});
    CHECK(text == translator.target_vocab().decode(found[0][0].tokens));
    CHECK(translator.translate(std::vector<std::string>{"", "abc"}) == std::vector<std::string>{"", text});
    CHECK(translator.score("abc", "ab") == translator.score({{4, 5, 6}}, {{4, 5}})[0]);
    CHECK_THROWS_AS(translator.translate("\xff"), std::invalid_argument);
    CHECK_THROWS_AS(translator.translate(std::vector<Sentence>{{9}}), std::out_of_range);
    CHECK_THROWS_AS(translator.score({{4}}, {}), std::invalid_argument);
    CHECK_THROWS_AS(translator.score({{4}}, {{8}}), std::out_of_range);
    TranslateOptions o;
    o.attention = true;
    CHECK_THROWS_AS(translator.translate("abc", o), std::invalid_argument);
    o = {};
    o.n_best = 2;
    CHECK_THROWS_AS(translator.translate("abc", o), std::invalid_argument);

    Metadata ids_only = metadata_of(small());
    ids_only.erase("source_vocabulary");
    ids_only.erase("target_vocabulary");
    const Translator without_text = translator_of(bytes_of(*model, ids_only));
    CHECK(without_text.translate(std::vector<Sentence>{{4, 5, 6}})[0][0].tokens == found[0][0].tokens);
    CHECK_THROWS_AS(without_text.translate("abc"), std::invalid_argument);
    ids_only["source_vocabulary"] = vocabulary_of(9);
    const Translator half_text = translator_of(bytes_of(*model, ids_only));
    CHECK_THROWS_WITH_AS(half_text.translate("abc"), "the model has no vocabulary to write a text with; use the ids",
                         std::invalid_argument);
    CHECK(half_text.translate(std::vector<Sentence>{half_text.encode_source("abc")})[0][0].tokens ==
          found[0][0].tokens);
}

TEST_CASE("a translator whose configuration and tensors disagree is refused") {
    const auto model = model_of(small());
    const auto changed = [&](const std::string& key, const std::string& value) {
        Metadata metadata = metadata_of(small());
        metadata[key] = value;
        if (value.empty()) metadata.erase(key);
        return refused(bytes_of(*model, metadata));
    };
    CHECK(changed("format_version", "1") == "");
    CHECK(contains(changed("kind", "language_model"), "load it as a LanguageModel"));
    CHECK(contains(changed("kind", "other"), "update rnnfast"));
    CHECK(contains(changed("config", ""), "has no configuration"));
    CHECK(changed("source_vocabulary", "") == "");  // ids on one side, text on the other
    CHECK(contains(changed("source_vocabulary", vocabulary_of(8)), "has 8 tokens"));
    CHECK(contains(changed("target_vocabulary",
                           R"({"tokenizer":"char","tokens":["<unk>","<pad>","<eos>","<bos>","a","b","c","d"]})"),
                   "must begin with"));
    const auto config = [&](const std::string& from, const std::string& to) {
        std::string text = config_of(small());
        REQUIRE(contains(text, from));
        text.replace(text.find(from), from.size(), to);
        return changed("config", text);
    };
    CHECK(contains(config("\"gru\"", "\"gpt\""), "unknown cell"));
    CHECK(contains(config("\"gru\"", "\"lstm\""), "has shape"));
    CHECK(contains(config("\"gru\"", "3"), "cell must be a name"));
    CHECK(contains(config("\"hidden_size\":5", "\"hidden_size\":0"), "hidden_size must be"));
    CHECK(contains(config("\"hidden_size\":5", "\"hidden_size\":6"), "has shape"));
    CHECK(contains(config("\"hidden_size\":5", "\"hidden_size\":2000000000"), "more weights than the file has"));
    CHECK(contains(config("\"num_layers\":2", "\"num_layers\":3"), "are missing"));
    CHECK(contains(config("\"num_layers\":2", "\"num_layers\":2000000000"), "more weights than the file has"));
    CHECK(contains(config("\"embedding_size\":3", "\"embedding_size\":2000000000"), "more weights"));
    CHECK(contains(config("\"bidirectional\":false", "\"bidirectional\":0"), "must be true or false"));
    CHECK(contains(config("\"bidirectional\":false", "\"bidirectional\":true"), "missing"));
    CHECK(contains(config("\"last\"", "\"first\""), "context is 'first'"));
    CHECK(contains(config("\"none\"", "\"additive\""), "are missing"));
    CHECK(contains(config("\"reads\":[\"context\",\"previous\"]", "\"reads\":\"context\""), "reads must be"));
    CHECK(contains(config("\"previous\"", "\"future\""), "reads is 'future'"));
    CHECK(contains(config("[\"context\",\"previous\"]", "[\"previous\"]"), "has shape"));
    CHECK(contains(config("[\"context\",\"previous\"]", "[]"),
                   "has decoder.embedding.weight, which its configuration does not"));
    CHECK(contains(config("\"seed\":1", "\"seed\":1,\"tie\":true"), "\"tie\" is not known"));
    CHECK(contains(config("\"readout\":\"state\"", "\"readout\":\"none\""), "readout is 'none'"));
}

TEST_CASE("every damaged byte of a translator gives a translator or an Error") {
    Seq2SeqOptions o = small("additive");
    o.num_layers = 1;
    const auto model = model_of(o);
    const std::string bytes = bytes_of(*model, metadata_of(o));
    size_t loaded = 0;
    for (size_t i = 0; i < bytes.size(); i += i < 400 ? 1 : 3) {
        std::string changed = bytes;
        changed[i] = static_cast<char>(changed[i] ^ (1 << i % 8));
        try {
            const Translator translator = translator_of(changed);
            translator.translate(std::vector<Sentence>{{4, 5, 6}});
            ++loaded;
        } catch (const rnnfast::Error& error) {
            REQUIRE(std::string(error.what()).size() > 8);
        } catch (const std::domain_error&) {  // weights so large that their sums are infinite
        }
    }
    CHECK(loaded > 100);
}

TEST_CASE("eight threads share a translator") {
    const Seq2SeqOptions o = small("additive");
    const auto model = model_of(o);
    const Translator translator = translator_of(bytes_of(*model, metadata_of(o)));
    TranslateOptions options;
    options.beam_size = 3;
    const auto expected = translator.translate(sentences(12), options);
    std::vector<std::thread> threads;
    std::vector<size_t> right(8, 0);
    for (size_t n = 0; n < right.size(); ++n)
        threads.emplace_back([&, n] {
            for (size_t i = 0; i < 12; ++i) {
                const auto found = translator.translate(std::vector<Sentence>{sentences(12)[i]}, options);
                right[n] += found[0][0].tokens == expected[i][0].tokens && found[0][0].score == expected[i][0].score;
            }
        });
    for (std::thread& thread : threads) thread.join();
    for (const size_t count : right) CHECK(count == 12);
}

namespace {

struct CObjects {
    CObjects() {
        const auto model = model_of(small());
        bytes = bytes_of(*model, metadata_of(small()));
        REQUIRE(rnnfast_translator_load_memory(bytes.data(), bytes.size(), RNNFAST_AS_STORED, &translator) ==
                RNNFAST_OK);
    }
    ~CObjects() { rnnfast_translator_free(translator); }
    CObjects(const CObjects&) = delete;
    std::string bytes;
    rnnfast_translator* translator = nullptr;
};

void check_refused(rnnfast_status status, rnnfast_status expected = RNNFAST_INVALID_ARGUMENT) {
    CHECK(status == expected);
    CHECK(std::string(rnnfast_last_error()).size() > 8);
}

}  // namespace

TEST_CASE("C: a translator translates and scores as the C++ one") {
    CObjects o;
    const Translator expected = translator_of(o.bytes);
    size_t source_size = 0, target_size = 0;
    CHECK(rnnfast_translator_vocab_sizes(o.translator, &source_size, &target_size) == RNNFAST_OK);
    CHECK((source_size == 9 && target_size == 8));
    rnnfast_translate_options options;
    REQUIRE(rnnfast_translate_defaults(&options) == RNNFAST_OK);
    CHECK((options.beam_size == 1 && options.n_best == 1 && options.length_penalty == 0.75));
    options.beam_size = options.n_best = 3;
    options.max_length = 6;
    TranslateOptions same;
    same.beam_size = same.n_best = 3;
    same.max_length = 6;
    const auto best = expected.translate(std::vector<Sentence>{{4, 5, 6}}, same)[0];
    const int32_t ids[] = {4, 5, 6};
    for (const bool text : {true, false}) {
        rnnfast_translations* found = nullptr;
        REQUIRE((text ? rnnfast_translate(o.translator, "abc", 3, &options, &found)
                      : rnnfast_translate_ids(o.translator, ids, 3, &options, &found)) == RNNFAST_OK);
        size_t count = 0;
        CHECK(rnnfast_translations_count(found, &count) == RNNFAST_OK);
        REQUIRE(count == best.size());
        for (size_t i = 0; i < count; ++i) {
            int32_t tokens[8];
            size_t tokens_count = 8, size = 64;
            char written[64];
            double log_probability = 0, score = 0;
            int ended = -1;
            CHECK(rnnfast_translations_ids(found, i, tokens, &tokens_count) == RNNFAST_OK);
            CHECK(Sentence(tokens, tokens + tokens_count) == best[i].tokens);
            CHECK(rnnfast_translations_text(found, i, written, &size) == RNNFAST_OK);
            CHECK(written == expected.target_vocab().decode(best[i].tokens));
            CHECK(size == std::strlen(written) + 1);
            CHECK(rnnfast_translations_score(found, i, &log_probability, &score, &ended) == RNNFAST_OK);
            CHECK((log_probability == best[i].log_probability && score == best[i].score));
            CHECK(ended == (best[i].ended ? 1 : 0));
            CHECK(rnnfast_translations_score(found, i, nullptr, nullptr, nullptr) == RNNFAST_OK);
        }
        size_t room = 0;
        check_refused(rnnfast_translations_text(found, 0, nullptr, &room), RNNFAST_BUFFER_TOO_SMALL);
        CHECK(room > 0);
        check_refused(rnnfast_translations_text(found, count, nullptr, &room), RNNFAST_OUT_OF_RANGE);
        check_refused(rnnfast_translations_ids(found, 0, nullptr, nullptr));
        rnnfast_translations_free(found);
    }
    double by_text = 0, by_ids = 0;
    CHECK(rnnfast_score_pair(o.translator, "abc", 3, "ab", 2, &by_text) == RNNFAST_OK);
    CHECK(rnnfast_score_pair_ids(o.translator, ids, 3, ids, 2, &by_ids) == RNNFAST_OK);
    CHECK(by_text == by_ids);
    CHECK(by_text == expected.score("abc", "ab"));
    rnnfast_translations* found = nullptr;  // an empty sentence, and the defaults
    CHECK(rnnfast_translate(o.translator, nullptr, 0, nullptr, &found) == RNNFAST_OK);
    size_t size = 4;
    char written[4] = "x";
    CHECK(rnnfast_translations_text(found, 0, written, &size) == RNNFAST_OK);
    CHECK((size == 1 && written[0] == 0));
    rnnfast_translations_free(found);
}

TEST_CASE("C: what a translator cannot do is refused") {
    CObjects o;
    rnnfast_translator* translator = o.translator;
    rnnfast_translations* found = nullptr;
    REQUIRE(rnnfast_translate(translator, "abc", 3, nullptr, &found) == RNNFAST_OK);
    size_t n = 1;
    double x;
    const int32_t id = 4, beyond = 100;

    check_refused(rnnfast_translator_load(nullptr, RNNFAST_F32, &translator));
    check_refused(rnnfast_translator_load("/nowhere", RNNFAST_F32, nullptr));
    check_refused(rnnfast_translator_load("/nowhere", RNNFAST_F32, &translator), RNNFAST_BAD_FILE);
    CHECK(translator == nullptr);
    check_refused(rnnfast_translator_load_memory(o.bytes.data(), o.bytes.size(), 7, &translator));
    check_refused(rnnfast_translator_load_memory(nullptr, 10, RNNFAST_F32, &translator));
    check_refused(rnnfast_translator_load_memory(o.bytes.data(), 100, RNNFAST_F32, &translator), RNNFAST_BAD_FILE);
    check_refused(rnnfast_translator_vocab_sizes(nullptr, &n, &n));
    check_refused(rnnfast_translate_defaults(nullptr));

    rnnfast_translations* other = nullptr;
    translator = o.translator;
    check_refused(rnnfast_translate(nullptr, "a", 1, nullptr, &other));
    check_refused(rnnfast_translate(translator, nullptr, 1, nullptr, &other));
    check_refused(rnnfast_translate(translator, "a", 1, nullptr, nullptr));
    check_refused(rnnfast_translate(translator, "\xff", 1, nullptr, &other));
    check_refused(rnnfast_translate(reinterpret_cast<rnnfast_translator*>(found), "a", 1, nullptr, &other));
    check_refused(rnnfast_translate_ids(translator, nullptr, 1, nullptr, &other));
    check_refused(rnnfast_translate_ids(translator, &id, static_cast<size_t>(-1), nullptr, &other));
    check_refused(rnnfast_translate_ids(translator, &beyond, 1, nullptr, &other), RNNFAST_OUT_OF_RANGE);
    for (const rnnfast_translate_options options :
         {rnnfast_translate_options{0, 1, 0, 0.75}, rnnfast_translate_options{1, 0, 0, 0.75},
          rnnfast_translate_options{1, 2, 0, 0.75}, rnnfast_translate_options{1, 1, 0, -1.0},
          rnnfast_translate_options{1, 1, 0, NAN}})
        check_refused(rnnfast_translate(translator, "a", 1, &options, &other));
    CHECK(other == nullptr);

    check_refused(rnnfast_translations_count(nullptr, &n));
    check_refused(rnnfast_translations_count(found, nullptr));
    check_refused(rnnfast_translations_count(reinterpret_cast<rnnfast_translations*>(translator), &n));
    check_refused(rnnfast_translations_text(nullptr, 0, nullptr, &n));
    check_refused(rnnfast_translations_text(found, 0, nullptr, nullptr));
    check_refused(rnnfast_translations_ids(nullptr, 0, nullptr, &n));
    check_refused(rnnfast_translations_score(nullptr, 0, &x, &x, nullptr));
    check_refused(rnnfast_translations_score(found, 1, &x, &x, nullptr), RNNFAST_OUT_OF_RANGE);
    check_refused(rnnfast_score_pair(nullptr, "a", 1, "a", 1, &x));
    check_refused(rnnfast_score_pair(translator, nullptr, 1, "a", 1, &x));
    check_refused(rnnfast_score_pair(translator, "a", 1, nullptr, 1, &x));
    check_refused(rnnfast_score_pair(translator, "a", 1, "a", 1, nullptr));
    check_refused(rnnfast_score_pair_ids(translator, &id, 1, &beyond, 1, &x), RNNFAST_OUT_OF_RANGE);
    check_refused(rnnfast_score_pair_ids(translator, nullptr, 1, &id, 1, &x));
    check_refused(rnnfast_score_pair_ids(nullptr, &id, 1, &id, 1, &x));
    rnnfast_translations_free(found);
    rnnfast_translations_free(nullptr);
    rnnfast_translator_free(nullptr);
}

TEST_CASE("lists in braces choose the overload that they mean [R11]") {
    const Seq2SeqOptions o = small();
    const auto model = model_of(o);
    const Translator translator = translator_of(bytes_of(*model, metadata_of(o)));
    const std::vector<Sentence> ids{{5, 6}}, zero{{0, 1}};
    CHECK(translator.translate({{5, 6}})[0][0].tokens == translator.translate(ids)[0][0].tokens);
    CHECK(translator.translate({{0, 1}})[0][0].tokens == translator.translate(zero)[0][0].tokens);
    CHECK(translator.translate({{5, 6}, {7}}).size() == 2);
    CHECK(translator.score({{0, 1}}, {{5}}) == translator.score(zero, std::vector<Sentence>{{5}}));
    const std::vector<std::string> texts{"a", "b"};
    CHECK(translator.translate({"a", "b"}) == translator.translate(texts));
    CHECK(translator.translate({"a"}) == std::vector<std::string>{translator.translate("a")});
    CHECK(translator.translate({std::string("a"), std::string("b")}) == translator.translate(texts));
}

TEST_CASE("an empty or moved-from translator throws an error at every use [R9]") {
    const Seq2SeqOptions o = small();
    const auto model = model_of(o);
    Translator original = translator_of(bytes_of(*model, metadata_of(o)));
    const Translator moved_to = std::move(original);
    Translator empty;
    CHECK(moved_to);
    for (const Translator* t : {&original, &empty}) {
        CHECK_FALSE(*t);
        const auto refused = [](auto use) {
            CHECK(contains(sentence_of(use), "it was default-constructed or moved from; "));
        };
        const std::vector<Sentence> ids{{5, 6}};
        refused([&] { t->source_vocab(); });
        refused([&] { t->target_vocab(); });
        refused([&] { t->source_vocab_size(); });
        refused([&] { t->target_vocab_size(); });
        refused([&] { t->has_attention(); });
        refused([&] { t->weights(); });
        refused([&] { t->translate("a"); });
        refused([&] { t->translate({"a", "b"}); });
        refused([&] { t->translate(ids); });
        refused([&] { t->score("a", "b"); });
        refused([&] { t->score(ids, ids); });
        refused([&] { t->encode_source("a"); });
        refused([&] { t->encode_target("a"); });
    }
    empty = moved_to;
    CHECK(empty.source_vocab_size() == moved_to.source_vocab_size());
    const std::string bytes = bytes_of(*model, metadata_of(o));
    CHECK_THROWS_AS(Translator::load(bytes.data(), bytes.size(), static_cast<rnnfast::Weights>(9)),
                    std::invalid_argument);
    CHECK_THROWS_AS(empty.encode_source(std::string_view(nullptr, 2)), std::invalid_argument);
}
