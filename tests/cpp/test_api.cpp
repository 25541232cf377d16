// The public C++ API as an embedding program uses it.
#include "model_files.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <thread>

#include "rnnfast/layers.hpp"

using namespace rnnfast::tests;
using rnnfast::LanguageModel;
using rnnfast::State;
using rnnfast::Weights;

namespace {

const ModelSizes cells[] = {{"rnn", 1, 6, 0, 5, 1},  {"rnn_relu", 1, 6, 3, 20, 2}, {"gru", 3, 6, 0, 17, 2},
                            {"gru", 3, 6, 4, 64, 1}, {"lstm", 4, 6, 3, 5, 2},      {"lstm", 4, 6, 0, 33, 1}};
const Weights precisions[] = {Weights::f32, Weights::bf16, Weights::int8};

LanguageModel small_model(const ModelSizes& sizes, Weights weights = Weights::f32) {
    const std::string bytes = model_bytes(sizes);
    return LanguageModel::load(bytes.data(), bytes.size(), weights);
}

std::vector<int32_t> tokens_of(size_t count, uint64_t seed) {
    std::vector<int32_t> ids(count);
    for (size_t i = 0; i < count; ++i) ids[i] = static_cast<int32_t>(rnnfast::random_bits(seed, i) % 6);
    return ids;
}

// Calls body for every cell in every precision.
void for_each_model(const std::function<void(const LanguageModel&)>& body) {
    for (const ModelSizes& sizes : cells)
        for (const Weights weights : precisions) {
            CAPTURE(sizes.cell);
            CAPTURE(static_cast<int>(weights));
            body(small_model(sizes, weights));
        }
}

}  // namespace

TEST_CASE("streams stepped together have the bits of streams stepped alone") {
    for_each_model([](const LanguageModel& model) {
        constexpr size_t streams = 101, steps = 4;
        std::vector<State> together(streams, model.initial_state()), alone(streams, model.initial_state());
        std::vector<State*> pointers;
        for (State& state : together) pointers.push_back(&state);
        std::vector<float> logits(streams * model.vocab_size()), one;
        for (size_t t = 0; t < steps; ++t) {
            const std::vector<int32_t> tokens = tokens_of(streams, t);
            model.step(tokens.data(), pointers.data(), streams, logits.data());
            for (size_t i = 0; i < streams; ++i) {
                model.step(tokens[i], alone[i], one);
                CHECK(std::equal(one.begin(), one.end(), logits.begin() + static_cast<ptrdiff_t>(i * one.size())));
            }
        }
        for (size_t i = 0; i < streams; ++i) CHECK(together[i].save() == alone[i].save());
    });
}

TEST_CASE("run and score give the bits of steps, whatever the length") {
    for_each_model([](const LanguageModel& model) {
        const std::vector<int32_t> tokens = tokens_of(150, 3);
        State stepped = model.initial_state(), ran = model.initial_state(), scored = model.initial_state();
        std::vector<float> logits, last;
        double worst = 0;
        const std::vector<double> log_p = model.score(tokens, scored);
        REQUIRE(log_p.size() == tokens.size() - 1);
        for (size_t i = 0; i < tokens.size(); ++i) {
            if (i + 1 == tokens.size()) CHECK(scored.save() == stepped.save());
            model.step(tokens[i], stepped, logits);
            if (i + 1 == tokens.size()) continue;
            double sum = 0;
            const auto top = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
            for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
            const double wanted = static_cast<double>(logits[static_cast<size_t>(tokens[i + 1])]) - top - std::log(sum);
            worst = std::max(worst, std::abs(log_p[i] - wanted) / (1 + std::abs(wanted)));
        }
        CHECK(worst < 1e-5);  // the softmax kernel sums in float
        model.run(tokens, ran, last);
        CHECK(last == logits);
        CHECK(ran.save() == stepped.save());
    });
}

TEST_CASE("a state can be copied, saved, restored and reset") {
    const LanguageModel model = small_model({});
    std::vector<float> first, second;
    State state = model.initial_state();
    model.step(1, state, first);
    const State copy = state;
    const auto bytes = state.save();
    model.step(2, state, first);
    State other = copy;
    model.step(2, other, second);
    CHECK(first == second);
    other.reset();
    CHECK(other.save() == model.initial_state().save());
    other.restore(bytes.data(), bytes.size());
    model.step(2, other, second);
    CHECK(first == second);
    CHECK(std::equal(copy.hidden(1), copy.hidden(1) + 5, State(copy).hidden(1)));
    CHECK_THROWS_AS(copy.hidden(2), std::out_of_range);

    for (size_t size = 0; size < bytes.size(); ++size)
        CHECK_THROWS_AS(other.restore(bytes.data(), size), std::invalid_argument);
    CHECK_THROWS_AS(other.restore(nullptr, bytes.size()), std::invalid_argument);
    auto damaged = bytes;
    damaged[damaged.size() - 1] = damaged[damaged.size() - 2] = 0xff;  // NaN
    CHECK_THROWS_AS(other.restore(damaged.data(), damaged.size()), std::invalid_argument);
    State gru = small_model({"gru", 3, 6, 3, 5, 2}).initial_state();
    CHECK_THROWS_AS(gru.restore(bytes.data(), bytes.size()), std::invalid_argument);
    CHECK_THROWS_AS(model.step(1, gru, first), std::invalid_argument);
    const State moved = std::move(other);
    CHECK_THROWS_AS(model.step(1, other, first), std::invalid_argument);
}

TEST_CASE("wrong arguments are refused with a sentence and change nothing") {
    const LanguageModel model = small_model({});
    State state = model.initial_state();
    std::vector<float> logits(6);
    CHECK_THROWS_WITH_AS(model.step(6, state, logits),
                         "token id 6 at position 0: expected 0 to 5 (the model's vocabulary)", std::out_of_range);
    CHECK_THROWS_AS(model.step(-1, state, logits), std::out_of_range);
    CHECK_THROWS_AS(model.step(1, state, static_cast<float*>(nullptr)), std::invalid_argument);
    CHECK_THROWS_AS(model.run({}, state, logits), std::invalid_argument);
    CHECK_THROWS_AS(model.score({1}, state), std::invalid_argument);
    CHECK_THROWS_AS(LanguageModel::load(nullptr, 5), std::invalid_argument);
    CHECK_THROWS_AS(LanguageModel::load("/nowhere/at/all"), rnnfast::Error);
    CHECK_THROWS_AS(rnnfast::Sampler(-1.0), std::invalid_argument);
    CHECK(state.save() == model.initial_state().save());
}

TEST_CASE("a vocabulary reads text as characters and says what it does not know") {
    const LanguageModel model = small_model({});
    CHECK(model.vocab().encode("abcz") == std::vector<int32_t>{1, 2, 3, 0});
    CHECK(model.vocab().decode({3, 2, 1}) == "cba");
    CHECK(model.vocab().token(0) == "<unk>");
    CHECK_THROWS_AS(model.vocab().encode("\xff"), std::invalid_argument);
    CHECK_THROWS_AS(model.vocab().decode({6}), std::out_of_range);
    rnnfast::Sampler one(0.9, 3, 7), two(0.9, 3, 7);
    CHECK(model.generate("ab", 30, one) == model.generate("ab", 30, two));
}

TEST_CASE("eight threads share a model, each with a state of its own") {
    for (const Weights weights : precisions) {
        const LanguageModel model = small_model({"lstm", 4, 6, 3, 40, 2}, weights);
        const std::vector<int32_t> tokens = tokens_of(200, 5);
        State alone = model.initial_state();
        std::vector<float> expected;
        model.run(tokens, alone, expected);
        std::vector<std::vector<float>> found(8);
        std::vector<std::thread> threads;
        for (auto& logits : found)
            threads.emplace_back([&model, &tokens, &logits] {
                State state = model.initial_state();
                for (const int32_t token : tokens) model.step(token, state, logits);
            });
        for (std::thread& thread : threads) thread.join();
        for (const auto& logits : found) CHECK(logits == expected);
    }
}

TEST_CASE("layers run on tensors of one's own") {
    const std::string bytes = model_bytes({"gru", 3, 6, 4, 17, 2});
    const auto tensors = rnnfast::Tensors::parse(bytes.data(), bytes.size());
    CHECK(tensors.shape("rnn.weight_hh_l1") == std::vector<size_t>{51, 17});
    const rnnfast::Recurrent gru(tensors, "rnn.", "gru");
    CHECK(gru.input_size() == 4);
    CHECK(gru.num_layers() == 2);
    const rnnfast::Linear output(tensors, "output.weight", "output.bias");
    const std::vector<float> table = tensors.values("embedding.weight");

    const LanguageModel model = LanguageModel::load(bytes.data(), bytes.size());
    State model_state = model.initial_state(), state = gru.initial_state();
    std::vector<float> expected, logits(6), h(17);
    for (const int32_t token : {1, 2, 3}) {
        model.step(token, model_state, expected);
        gru.step(table.data() + 4 * token, state, h.data());
        output.forward(h.data(), logits.data());
        CHECK(logits == expected);
    }
    CHECK_THROWS_AS(rnnfast::Recurrent(tensors, "rnn.", "lstm"), std::invalid_argument);
    CHECK_THROWS_AS(rnnfast::Recurrent(tensors, "other.", "gru"), std::invalid_argument);
    CHECK_THROWS_AS(rnnfast::Linear(tensors, "output.bias", ""), std::invalid_argument);
}
