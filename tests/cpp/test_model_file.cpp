// Untrusted model files: every file gives either a model or an Error with a message.
#include "model_files.h"

#include "rnnfast/rnnfast.hpp"

using namespace rnnfast::tests;
using rnnfast::LanguageModel;

namespace {

// The error message for a changed model; empty if it loads.
std::string refused(const std::string& key, const std::string& value, const ModelSizes& tensors = {}) {
    auto metadata = metadata_of(tensors);
    metadata[key] = value;
    if (value.empty()) metadata.erase(key);
    const TemporaryFile path("hostile");
    write_model(path, tensors, metadata);
    std::string sentence;
    try {
        LanguageModel::load(path);
    } catch (const rnnfast::Error& error) {
        sentence = error.what();
        CHECK(sentence.find(path) == 0);
    }
    return sentence;
}

}  // namespace

TEST_CASE("a model whose configuration and tensors disagree is refused") {
    CHECK(refused("format_version", "1") == "");
    CHECK(contains(refused("format_version", "4"), "format version \"4\""));
    CHECK(contains(refused("format", "other"), "not a model of rnnfast"));
    CHECK(contains(refused("kind", "seq2seq"), "expected a language_model"));
    CHECK(contains(refused("config", ""), "has no configuration"));
    CHECK(contains(refused("config", "{"), "configuration cannot be used"));
    CHECK(contains(refused("vocabulary", R"({"tokenizer":"char","tokens":["<unk>","a"]})"), "the vocabulary has 2"));
    CHECK(contains(refused("vocabulary", R"({"tokenizer":"char","tokens":["<unk>","a","a","b","c","d"]})"), "twice"));
    CHECK(contains(refused("vocabulary", R"({"tokenizer":"char","tokens":["a"]})"), "<unk>"));
    CHECK(contains(refused("vocabulary", R"({"tokenizer":"bytes","tokens":["<unk>"]})"), "tokenizer"));
    CHECK(contains(refused("vocabulary", R"({"tokenizer":"char","lower":1,"tokens":["<unk>"]})"), "true or false"));
    CHECK(refused("vocabulary", "") == "");
    const auto config = [](const ModelSizes& m) { return refused("config", config_of(m)); };
    CHECK(contains(config({"rnn", 1}), "has shape"));
    CHECK(contains(config({"gpt", 1}), "unknown cell"));
    CHECK(contains(config({"lstm", 4, 7}), "vocabulary"));
    CHECK(contains(config({"lstm", 4, 6, 4}), "has shape"));
    CHECK(contains(config({"lstm", 4, 6, 3, 6}), "has shape"));
    CHECK(contains(config({"lstm", 4, 6, 3, 0}), "hidden_size must be"));
    CHECK(contains(config({"lstm", 4, 6, 3, 5, 3}), "rnn.weight_ih_l2 are missing"));
    CHECK(contains(config({"lstm", 4, 6, 3, 5, 1}), "has rnn.bias_hh_l1, which its configuration does not"));
    CHECK(contains(config({"lstm", 4, 6, 3, 5, 2000000000}), "are missing"));
    CHECK(contains(config({"lstm", 4, 6, 3, 5, 99999999999}), "num_layers must be"));
    CHECK(contains(refused("config", R"({"cell":"lstm","tie":true})"), "\"tie\" is not known"));
}

TEST_CASE("every damaged byte gives a model or an Error") {
    const std::string bytes = model_bytes({});
    size_t loaded = 0;
    for (size_t i = 0; i < bytes.size(); ++i)
        for (const int flip : {1, 0x80, 0xff}) {
            std::string damaged = bytes;
            damaged[i] = static_cast<char>(damaged[i] ^ flip);
            try {
                LanguageModel::load(damaged.data(), damaged.size());
                ++loaded;
            } catch (const rnnfast::Error&) {
            }
        }
    CHECK(loaded > 0);  // a flipped bit of a weight is another weight
}

TEST_CASE("training options outside their ranges are refused [R3]") {
    const auto with = [](const std::string& option) {
        std::string config = config_of({});
        config.resize(config.find(",\"dropout\""));
        return refused("config", config + "," + option + "}");
    };
    for (const char* good : {R"("dropout":0)", R"("dropout":0.99)", R"("seed":0)", R"("seed":18446744073709551615)",
                             R"("variational":true)", R"("weights":"int8")"})
        CHECK(with(good) == "");
    for (const char* bad :
         {R"("dropout":1)", R"("dropout":-0.1)", R"("dropout":"0")", R"("dropout":null)", R"("dropout":1e999)",
          R"("seed":-1)", R"("seed":1.5)", R"("seed":null)", R"("seed":18446744073709551616)", R"("variational":1)",
          R"("weights":"f16")", R"("weights":1)", R"("tie_weights":1)", R"("init_scale":1)"})
        CHECK(contains(with(bad), "configuration cannot be used"));
}

TEST_CASE("the error for a file of another kind names the kind [R13]") {
    CHECK(contains(refused("kind", "sequence_classifier"), "load it as a Classifier"));
    CHECK(contains(refused("kind", "autoregressor"), "load it as an Autoregressor"));
    CHECK(contains(refused("kind", "seq2seq"), "load it as a Translator"));
    CHECK(contains(refused("kind", "new"), "update rnnfast"));
}

TEST_CASE("a few very long rows are refused before they are packed") {
    const ModelSizes wide{"rnn", 1, 6, 400000, 1, 1};
    const TemporaryFile path("wide");
    auto metadata = metadata_of({"rnn", 1, 6, 0, 1, 1});
    metadata.erase("vocabulary");
    metadata["config"] = config_of(wide);
    write_model(path, wide, metadata);
    CHECK_THROWS_AS(LanguageModel::load(path), rnnfast::Error);
}
