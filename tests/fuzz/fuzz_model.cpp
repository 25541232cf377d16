// libFuzzer on everything that reads a file from outside: a model, its tensors, JSON, a saved state or sampler. Each
// input either loads or is refused by an exception with a sentence, and takes no memory out of proportion.
//
//     cmake --preset fuzz && cmake --build --preset fuzz
//     build/fuzz/tests/fuzz/fuzz_model -max_len=8192 corpus tests/fuzz/corpus
//
// The preset fuzz-fast runs 5,800 inputs a second on one idle core: undefined behavior and the standard library's
// assertions end the program, but there is no AddressSanitizer, and comparisons are not traced (with them it was
// 2,300). Add -entropic=0, and pass the corpus that it leaves through the first build (-runs=0), which checks it for
// memory errors.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "files/json.h"
#include "fuzz.h"
#include "rnnfast/estimators.hpp"
#include "rnnfast/layers.hpp"
#include "rnnfast/translator.hpp"

extern "C" {
// Missing in the fast build, which has no sanitizer's allocator.
[[gnu::weak]] int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*, size_t),
                                                            void (*on_free)(const volatile void*));
}

namespace {

// One allocation may take four times the input, and what packing rounds up: every row to blocks of 64 columns, at most
// 1 MiB for inputs of 8 KiB; larger files are held to docs/model-file.md's bound by the library itself.
constexpr size_t packing = 1 << 20;
size_t limit = SIZE_MAX;

void check_size(const volatile void*, size_t size) {
    if (size <= limit) return;
    std::fprintf(stderr, "an allocation of %zu bytes, allowed are %zu\n", size, limit);
    std::abort();
}

void use(const rnnfast::LanguageModel& model) {
    std::vector<float> logits;
    rnnfast::State state = model.initial_state();
    model.step(0, state, logits);
    model.step(static_cast<int32_t>(model.vocab_size() - 1), state, logits);
    if (!model.vocab().size()) return;
    const std::string tokenizer = model.vocab().tokenizer();
    if (tokenizer == "bpe") return;  // in Python only
    const std::string text = model.vocab().decode({0, 0});
    if (tokenizer != "unicode" && tokenizer != "jieba" && model.vocab().encode(text).size() > 100000) std::abort();
}

void use(const rnnfast::Translator& translator) {
    rnnfast::TranslateOptions options;
    options.beam_size = options.n_best = 2;
    options.max_length = 3;
    const auto last = static_cast<int32_t>(translator.source_vocab_size() - 1);
    using Sentences = std::vector<std::vector<int32_t>>;
    translator.translate(Sentences{{0, last}, {last}}, options);
    translator.score(Sentences{{last}}, Sentences{{static_cast<int32_t>(translator.target_vocab_size() - 1)}});
}

void use(const rnnfast::v1::Network& network) {
    std::vector<std::vector<float>> numbers, results;
    const std::vector<int32_t> ids(2);
    std::vector<rnnfast::NetworkData> inputs;
    std::vector<float*> outputs;
    for (const auto& input : network.inputs()) {
        if (input.ids)
            inputs.emplace_back(ids.data());
        else
            inputs.emplace_back(numbers.emplace_back(2 * input.size).data());
    }
    for (size_t i = 0; i < network.outputs().size(); ++i)
        outputs.push_back(
            results.emplace_back(std::max<size_t>(2, network.output_steps(i, 2)) * network.outputs()[i].width).data());
    network.run(inputs.data(), {2, 1}, outputs.data());
    if (!network.no_stream().empty()) return;
    rnnfast::NetworkState state = network.initial_state();
    network.read(inputs.data(), 2, state, outputs.data());
    std::vector<uint8_t> saved = state.save();
    state.restore(saved.data(), saved.size());
    for (const float number : {-5.0f, 1e30f}) {  // numbers that no step leaves
        for (size_t at = 16; at < saved.size(); at += sizeof number)
            std::memcpy(saved.data() + at, &number, sizeof number);
        state.restore(saved.data(), saved.size());
        network.read(inputs.data(), 2, state, outputs.data());
    }
}

template <class Labeller>  // a Classifier or a Tagger
void use_labeller(const Labeller& classifier) {
    use(classifier.network());
    if (const size_t features = classifier.features()) {
        const std::vector<double> numbers(features);
        classifier.most_probable(classifier.probabilities(numbers.data(), 1));
    } else {
        const int32_t last = static_cast<int32_t>(classifier.vocab().size() - 1);
        classifier.most_probable(classifier.probabilities(&last, 1));
    }
}

void use(const rnnfast::Autoregressor& forecaster) {
    use(forecaster.network());
    forecaster.forecast(2);
    const std::vector<double> numbers(forecaster.width());
    forecaster.forecast(2, numbers.data(), 1);
}

void use(const rnnfast::Forecaster& forecaster) {
    const std::vector<double> outside(forecaster.exogenous() * 3), series(2 * forecaster.width());
    forecaster.predict_interval(1, outside.data());
    forecaster.predict_interval(1, series.data(), 2, outside.data());
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    rnnfast::set_num_threads(1);
    if (__sanitizer_install_malloc_and_free_hooks) __sanitizer_install_malloc_and_free_hooks(check_size, nullptr);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    limit = 4 * size + packing;
    const auto weights = static_cast<rnnfast::Weights>(size % 3);
    fuzz::use_or_refuse([&] { use(rnnfast::LanguageModel::load(data, size, weights)); });
    fuzz::use_or_refuse([&] { use(rnnfast::Translator::load(data, size, weights)); });
    fuzz::use_or_refuse([&] { use(rnnfast::v1::Network::load(data, size, weights)); });
    fuzz::use_or_refuse([&] { use_labeller(rnnfast::Classifier::load(data, size, weights)); });
    fuzz::use_or_refuse([&] { use_labeller(rnnfast::Tagger::load(data, size, weights)); });
    fuzz::use_or_refuse([&] { use(rnnfast::Forecaster::load(data, size, weights)); });
    fuzz::use_or_refuse([&] { use(rnnfast::Autoregressor::load(data, size, weights)); });
    fuzz::use_or_refuse([&] {
        const auto tensors = rnnfast::Tensors::parse(data, size);
        for (const std::string& name : tensors.names())
            fuzz::use_or_refuse([&] { tensors.values(name); });  // refused for its dtype, or numbers too large
        fuzz::use_or_refuse([&] {
            const auto names = tensors.names();
            if (names.empty()) return;
            const rnnfast::Linear linear(tensors, names[0], names.size() > 1 ? names[1] : "", weights);
            const std::vector<float> x(linear.in_features());
            std::vector<float> y(linear.out_features());
            linear.forward(x.data(), y.data());
        });
        const rnnfast::Recurrent gru(tensors, "rnn.", size % 2 ? "gru" : "lstm", weights);
        const std::vector<float> x(gru.input_size());
        std::vector<float> y(gru.hidden_size());
        rnnfast::State state = gru.initial_state();
        gru.step(x.data(), state, y.data());
        state.restore(data, size);
    });
    fuzz::use_or_refuse([&] {
        rnnfast::Sampler sampler;
        sampler.restore(data, size);
        sampler.save();
    });
    fuzz::use_or_refuse([&] { rnnfast::core::parse_json({reinterpret_cast<const char*>(data), size}); });
    limit = SIZE_MAX;
    return 0;
}
