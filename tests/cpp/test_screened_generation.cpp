// Tokens that are drawn from the largest logits alone are those drawn from all of them, in C++ and C.
#include <algorithm>

#include "api/c_api.h"
#include "model_files.h"
#include "rnnfast/rnnfast.hpp"

using namespace rnnfast::tests;

namespace {

constexpr size_t vocabulary = 5000, length = 90;  // the first 65 tokens are drawn from all logits

std::map<std::string, std::string> without_tokens(const ModelSizes& sizes) {
    auto metadata = metadata_of(sizes);
    metadata.erase("vocabulary");
    return metadata;
}

// Step by step, from all logits
std::vector<int32_t> drawn_from_all(const rnnfast::LanguageModel& model, const std::vector<int32_t>& prompt,
                                    const rnnfast::SamplerOptions& options) {
    rnnfast::Sampler sampler(options);
    rnnfast::State state = model.initial_state();
    std::vector<float> logits;
    model.run(prompt, state, logits);
    sampler.read(prompt.data(), prompt.size());
    std::vector<int32_t> ids;
    while (ids.size() < length) {
        if (!ids.empty()) model.step(ids.back(), state, logits);
        ids.push_back(sampler.sample(logits));
    }
    return ids;
}

}  // namespace

TEST_CASE("generation with few candidates draws the same tokens as all logits give, in C++ and C") {
    const ModelSizes sizes{"lstm", 4, vocabulary, 6, 112, 1};
    const TemporaryFile path("screened");
    write_model(path, sizes, without_tokens(sizes));
    const std::vector<int32_t> prompt{7, 4000, 3};
    for (const rnnfast::Weights weights : {rnnfast::Weights::f32, rnnfast::Weights::bf16}) {
        const auto model = rnnfast::LanguageModel::load(path, weights);
        for (const double temperature : {0.0, 0.9})
            for (const size_t top_k : {size_t{0}, size_t{40}, size_t{2000}})
                for (const bool restricted : {false, true}) {
                    rnnfast::SamplerOptions options;
                    options.temperature = temperature;
                    options.top_k = top_k;
                    options.seed = 5;
                    if (restricted) {
                        options.top_p = 0.8;
                        options.no_repeat_ngram_size = 1;
                        options.never = drawn_from_all(model, prompt, options);
                        options.never.resize(10);
                    }
                    const std::vector<int32_t> expected = drawn_from_all(model, prompt, options);
                    rnnfast::Sampler sampler(options);
                    rnnfast::State state = model.initial_state();
                    CHECK(model.generate(prompt, length, sampler, state) == expected);
                }
    }
    const auto model = rnnfast::LanguageModel::load(path);
    rnnfast::SamplerOptions chosen;
    chosen.temperature = 0.9;
    chosen.top_k = 40;
    chosen.seed = 5;
    rnnfast_model* c_model = nullptr;
    rnnfast_state* c_state = nullptr;
    rnnfast_sampler* c_sampler = nullptr;
    rnnfast_generate_options options;
    std::vector<int32_t> ids(length);
    size_t count = length;
    REQUIRE(rnnfast_model_load(path.c_str(), RNNFAST_AS_STORED, &c_model) == RNNFAST_OK);
    REQUIRE(rnnfast_state_new(c_model, &c_state) == RNNFAST_OK);
    REQUIRE(rnnfast_sampler_new(0.9, 40, 1.0, 5, &c_sampler) == RNNFAST_OK);
    REQUIRE(rnnfast_generate_defaults(&options) == RNNFAST_OK);
    options.max_length = length;
    CHECK(rnnfast_generate_ids(c_model, prompt.data(), prompt.size(), &options, c_sampler, c_state, ids.data(),
                               &count) == RNNFAST_OK);
    CHECK(ids == drawn_from_all(model, prompt, chosen));
    rnnfast_model_free(c_model);
    rnnfast_state_free(c_state);
    rnnfast_sampler_free(c_sampler);
}
