// The public C++ API as an embedding program uses it.
#include "model_files.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>
#include <set>
#include <thread>

#include "allocations.h"
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

TEST_CASE("streams stepped together are bit-identical to streams stepped alone") {
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

TEST_CASE("run and score are bit-identical to single steps, for every length") {
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

TEST_CASE("a state that occurs twice in a batched step is refused, and no state changes [R7]") {
    const LanguageModel model = small_model({});
    State first = model.initial_state(), second = model.initial_state();
    std::vector<float> logits(3 * model.vocab_size());
    State* const twice[] = {&first, &second, &first};
    const int32_t tokens[] = {1, 2, 3};
    const std::vector<uint8_t> before = first.save();
    CHECK_THROWS_WITH_AS(model.step(tokens, twice, 3, logits.data()),
                         "states[2] is also states[0]: a state can take one step in a call; copy it to "
                         "continue it in two ways",
                         std::invalid_argument);
    CHECK(first.save() == before);
    CHECK(second.save() == before);
    State copy = first;
    State* const once[] = {&first, &second, &copy};
    model.step(tokens, once, 3, logits.data());  // the refused call did not change the states

    const std::string bytes = model_bytes({});
    const rnnfast::Recurrent lstm(rnnfast::Tensors::parse(bytes.data(), bytes.size()), "rnn.", "lstm");
    State layer_state = lstm.initial_state();
    State* const layer_twice[] = {&layer_state, &layer_state};
    const std::vector<float> x(6, 0.5f);
    std::vector<float> y(10);
    CHECK_THROWS_AS(lstm.step(x.data(), layer_twice, 2, y.data()), std::invalid_argument);
}

namespace {

// Every use of a default-constructed or moved-from handle throws an error with a message.
template <class Handle>
void check_empty_handles(const Handle& good, const std::vector<std::function<void(Handle&)>>& uses) {
    Handle original = good, empty;
    const Handle moved_to = std::move(original);
    CHECK(moved_to);
    CHECK_FALSE(original);
    CHECK_FALSE(empty);
    for (const auto& use : uses)
        for (Handle* handle : {&original, &empty})
            CHECK(contains(sentence_of([&] { use(*handle); }), "it was default-constructed or moved from; "));
    Handle copy = empty;  // an empty one may be copied, assigned to, and destroyed
    CHECK_FALSE(copy);
    copy = good;
    CHECK(copy);
    copy = empty;
    CHECK_FALSE(copy);
    original = good;
    for (const auto& use : uses) CHECK_NOTHROW(use(original));
}

}  // namespace

TEST_CASE("empty and moved-from handles throw an error at every use [R9]") {
    const std::string bytes = model_bytes({});
    const LanguageModel model = LanguageModel::load(bytes.data(), bytes.size());
    const auto tensors = rnnfast::Tensors::parse(bytes.data(), bytes.size());
    const rnnfast::Recurrent lstm(tensors, "rnn.", "lstm");
    const rnnfast::Linear output(tensors, "output.weight", "output.bias");
    State good = model.initial_state();
    State* const states[] = {&good};
    const std::vector<int32_t> tokens{1, 2};
    std::vector<float> logits(6), h(5);
    std::vector<double> log_p(2);
    check_empty_handles<LanguageModel>(model,
                                       {
                                           [](LanguageModel& m) { m.vocab(); },
                                           [](LanguageModel& m) { m.vocab_size(); },
                                           [](LanguageModel& m) { m.hidden_size(); },
                                           [](LanguageModel& m) { m.num_layers(); },
                                           [](LanguageModel& m) { m.cell(); },
                                           [](LanguageModel& m) { m.weights(); },
                                           [](LanguageModel& m) { m.initial_state(); },
                                           [&](LanguageModel& m) { m.step(1, good, logits); },
                                           [&](LanguageModel& m) { m.step(1, good, logits.data()); },
                                           [&](LanguageModel& m) { m.step(tokens.data(), states, 1, logits.data()); },
                                           [&](LanguageModel& m) { m.run(tokens, good, logits); },
                                           [&](LanguageModel& m) { m.run(tokens.data(), 2, good, logits.data()); },
                                           [&](LanguageModel& m) { m.score(tokens, good); },
                                           [&](LanguageModel& m) { m.score(tokens.data(), 2, good, log_p.data()); },
                                           [](LanguageModel& m) {
                                               rnnfast::Sampler sampler;
                                               m.generate("a", 1, sampler);
                                           },
                                           [&](LanguageModel& m) {
                                               rnnfast::Sampler sampler;
                                               m.generate(tokens, 1, sampler, good);
                                           },
                                       });
    check_empty_handles<rnnfast::Vocabulary>(model.vocab(), {
                                                                [](rnnfast::Vocabulary& v) { v.size(); },
                                                                [](rnnfast::Vocabulary& v) { v.encode("a"); },
                                                                [](rnnfast::Vocabulary& v) { v.decode({1}); },
                                                                [](rnnfast::Vocabulary& v) { v.decode(nullptr, 0); },
                                                                [](rnnfast::Vocabulary& v) { v.token(0); },
                                                                [](rnnfast::Vocabulary& v) { v.tokenizer(); },
                                                            });
    check_empty_handles<State>(good, {
                                         [](State& s) { s.reset(); },
                                         [](State& s) { s.save(); },
                                         [](State& s) { s.saved_size(); },
                                         [](State& s) { s.hidden(0); },
                                         [&](State& s) { model.step(1, s, logits); },
                                         [&](State& s) { model.run(tokens, s, logits); },
                                         [&](State& s) { model.score(tokens, s); },
                                         [&](State& s) {
                                             const auto saved = good.save();
                                             s.restore(saved.data(), saved.size());
                                         },
                                         [&](State& s) {
                                             State* const one[] = {&s};
                                             model.step(tokens.data(), one, 1, logits.data());
                                         },
                                     });
    check_empty_handles<rnnfast::Tensors>(tensors,
                                          {
                                              [](rnnfast::Tensors& t) { t.names(); },
                                              [](rnnfast::Tensors& t) { t.shape("output.bias"); },
                                              [](rnnfast::Tensors& t) { t.values("output.bias"); },
                                              [](rnnfast::Tensors& t) { rnnfast::Recurrent(t, "rnn.", "lstm"); },
                                              [](rnnfast::Tensors& t) { rnnfast::Linear(t, "output.weight", ""); },
                                          });
    State layer_state = lstm.initial_state();
    State* const layer_states[] = {&layer_state};
    const float x[] = {1, 2, 3};
    check_empty_handles<rnnfast::Recurrent>(lstm,
                                            {
                                                [](rnnfast::Recurrent& r) { r.input_size(); },
                                                [](rnnfast::Recurrent& r) { r.hidden_size(); },
                                                [](rnnfast::Recurrent& r) { r.num_layers(); },
                                                [](rnnfast::Recurrent& r) { r.cell(); },
                                                [](rnnfast::Recurrent& r) { r.weights(); },
                                                [](rnnfast::Recurrent& r) { r.initial_state(); },
                                                [&](rnnfast::Recurrent& r) { r.step(x, layer_state, h.data()); },
                                                [&](rnnfast::Recurrent& r) { r.step(x, layer_states, 1, h.data()); },
                                                [&](rnnfast::Recurrent& r) { r.run(x, 1, layer_state, h.data()); },
                                            });
    check_empty_handles<rnnfast::Linear>(output, {
                                                     [](rnnfast::Linear& l) { l.in_features(); },
                                                     [](rnnfast::Linear& l) { l.out_features(); },
                                                     [&](rnnfast::Linear& l) { l.forward(h.data(), logits.data()); },
                                                 });
}

TEST_CASE("null with a count above 0 is refused wherever a pointer and a count are taken [R9]") {
    const LanguageModel model = small_model({});
    State state = model.initial_state();
    std::vector<float> logits(6);
    double log_p;
    const auto null = [](auto body) { CHECK(contains(sentence_of(body), "null")); };
    null([&] { model.vocab().decode(nullptr, 3); });
    null([&] { model.vocab().encode(std::string_view(nullptr, 3)); });
    null([&] { state.restore(nullptr, 3); });
    null([&] { LanguageModel::load(nullptr, 3); });
    null([&] { LanguageModel::load(nullptr, 3, Weights::f32); });
    null([&] { rnnfast::Tensors::parse(nullptr, 3); });
    CHECK(model.vocab().decode(nullptr, 0) == "");
    State* const states[] = {&state};
    State* const hole[] = {&state, nullptr};
    const int32_t tokens[] = {1, 2};
    null([&] { model.step(nullptr, states, 1, logits.data()); });
    null([&] { model.step(tokens, states, 1, nullptr); });
    null([&] { model.step(tokens, hole, 2, logits.data()); });
    null([&] { model.run(tokens, 2, state, nullptr); });
    null([&] { model.score(tokens, 2, state, nullptr); });
    CHECK_THROWS_AS(model.run(nullptr, 2, state, logits.data()), std::invalid_argument);
    CHECK_THROWS_AS(model.score(nullptr, 2, state, &log_p), std::invalid_argument);
    CHECK_THROWS_AS(model.step(tokens, nullptr, 2, logits.data()), std::invalid_argument);
    const std::string bytes = model_bytes({});
    const auto tensors = rnnfast::Tensors::parse(bytes.data(), bytes.size());
    const rnnfast::Linear output(tensors, "output.weight", "");
    const float x[5] = {};
    null([&] { output.forward(nullptr, logits.data()); });
    null([&] { output.forward(x, nullptr); });
    output.forward(nullptr, nullptr, 0);
}

TEST_CASE("a precision that does not exist is refused [R10]") {
    const auto none = static_cast<Weights>(9);
    const std::string bytes = model_bytes({});
    const auto tensors = rnnfast::Tensors::parse(bytes.data(), bytes.size());
    const auto refused = [](auto body) { CHECK(contains(sentence_of(body), "weights is 9: expected Weights::f32")); };
    refused([&] { LanguageModel::load(bytes.data(), bytes.size(), none); });
    refused([&] { rnnfast::Recurrent(tensors, "rnn.", "lstm", none); });
    refused([&] { rnnfast::Linear(tensors, "output.weight", "", none); });
}

TEST_CASE("the copy of a state that has made a step allocates nothing in its own first step [R10]") {
    for_each_model([](const LanguageModel& model) {
        std::vector<float> logits(model.vocab_size());
        State warm = model.initial_state();
        model.step(1, warm, logits);
        State copy = warm, assigned = model.initial_state();
        assigned = warm;
        for (State* state : {&copy, &assigned}) {
            const long before = allocations;
            model.step(2, *state, logits);
            CHECK(allocations == before);
        }
    });
    const std::string bytes = model_bytes({"lstm", 4, 6, 3, 40, 2});
    for (const Weights weights : precisions) {
        const rnnfast::Recurrent lstm(rnnfast::Tensors::parse(bytes.data(), bytes.size()), "rnn.", "lstm", weights);
        State warm = lstm.initial_state();
        const float x[] = {1, 2, 3};
        float y[40];
        lstm.step(x, warm, y);
        State copy = warm;
        const long before = allocations;
        lstm.step(x, copy, y);
        CHECK(allocations == before);
    }
}

TEST_CASE("a state never takes NaN, from an input or from saved bytes [R10]") {
    const std::string bytes = model_bytes({"gru", 3, 6, 3, 5, 2});
    const rnnfast::Recurrent gru(rnnfast::Tensors::parse(bytes.data(), bytes.size()), "rnn.", "gru");
    State state = gru.initial_state(), other = gru.initial_state();
    float x[6] = {0.5f, -1, 2, 1, 1, 1}, y[10];
    gru.step(x, state, y);
    const std::vector<uint8_t> before = state.save();
    CHECK(before.size() == state.saved_size());
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
        x[4] = bad;
        CHECK_THROWS_WITH_AS(gru.run(x, 2, state, y),
                             "x has NaN or infinity at step 1, stream 0, input 1: fill in missing values first",
                             std::invalid_argument);
        State* const both[] = {&other, &state};
        CHECK_THROWS_WITH_AS(gru.step(x, both, 2, y),
                             "x has NaN or infinity at step 0, stream 1, input 1: fill in missing values first",
                             std::invalid_argument);
        CHECK_THROWS_AS(gru.step(x + 3, state, y), std::invalid_argument);
        CHECK(state.save() == before);
    }

    // Weights and inputs so large that the state becomes infinite: save does not write what restore refuses.
    const std::string relu = model_bytes({"rnn_relu", 1, 6, 30, 5, 1});
    const auto tensors = rnnfast::Tensors::parse(relu.data(), relu.size());
    const rnnfast::Recurrent large(tensors, "rnn.", "rnn_relu");
    State infinite = large.initial_state();
    std::vector<float> huge = tensors.values("rnn.weight_ih_l0");  // of unit 0, whose sum becomes infinite
    for (float& v : huge) v = v < 0 ? -3e38f : 3e38f;
    large.step(huge.data(), infinite, y);
    CHECK_THROWS_AS(infinite.save(), std::domain_error);
    infinite.reset();
    CHECK_NOTHROW(infinite.save());
}

TEST_CASE("wrong arguments are refused with a sentence and change nothing") {
    const LanguageModel model = small_model({});
    State state = model.initial_state();
    std::vector<float> logits(6);
    CHECK_THROWS_WITH_AS(
        model.step(6, state, logits),
        "token id 6 at position 0: expected 0 to 5 (the model's vocabulary; was the text encoded with another one?)",
        std::out_of_range);
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

TEST_CASE("words keep their combining marks, but not in the files of version 0.1 [N19]") {
    const auto encode = [](const std::string& tokenizer, const std::string& text) {
        const ModelSizes sizes{};
        auto metadata = metadata_of(sizes);
        metadata["vocabulary"] =
            "{\"tokenizer\":\"" + tokenizer +
            "\",\"lower\":true,\"tokens\":[\"<unk>\",\"हिन्दी\",\"e\u0301té\",\"שָׁלוֹם\",\"مَرْحَبًا\",\"i\u0307ki\"]}";
        const TemporaryFile path("words");
        write_model(path, sizes, metadata);
        const LanguageModel model = LanguageModel::load(path);
        CHECK(model.vocab().tokenizer() == (tokenizer == "word" ? "word-v1" : "word"));
        return model.vocab().encode(text);
    };
    const std::string text = "हिन्दी É\u0301té, E\u0301té «שָׁלוֹם» مَرْحَبًا İki";
    CHECK(encode("word-v2", text) == std::vector<int32_t>{1, 0, 0, 2, 0, 3, 0, 4, 5});
    CHECK(encode("word", "E\u0301té") == std::vector<int32_t>{0, 0, 0});
    CHECK_THROWS_AS(encode("word-v1", "a"), rnnfast::Error);
}

TEST_CASE("a sampler refuses non-finite logits except minus infinity, which forbids a token [N7]") {
    const float infinite = std::numeric_limits<float>::infinity();
    for (const size_t place : {0, 1, 17, 39})
        for (const double temperature : {0.0, 0.8}) {
            std::vector<float> logits(40, 0.5f);
            logits[place] = -infinite;
            rnnfast::Sampler sampler(temperature, 0, 1);
            for (int draw = 0; draw < 50; ++draw) CHECK(sampler.sample(logits) != static_cast<int32_t>(place));
            for (const float bad : {std::nanf(""), infinite}) {
                logits[place] = bad;
                CHECK_THROWS_AS(sampler.sample(logits), std::domain_error);
            }
            CHECK_THROWS_AS(sampler.sample(std::vector<float>(40, -infinite)), std::domain_error);
        }
    CHECK_THROWS_AS(rnnfast::Sampler(std::nan("")), std::invalid_argument);
    CHECK_THROWS_AS(rnnfast::Sampler(static_cast<double>(infinite)), std::invalid_argument);
    CHECK_THROWS_AS(rnnfast::Sampler(1.0, 0, 0, std::nan("")), std::invalid_argument);
    CHECK_THROWS_AS(rnnfast::Sampler(1.0, static_cast<size_t>(-1)), std::invalid_argument);
}

TEST_CASE("a model whose weights hold NaN neither scores nor generates [N7]") {
    const LanguageModel model = small_model({});
    State state = model.initial_state();
    const_cast<float*>(state.hidden(0))[0] = std::nanf("");
    rnnfast::Sampler sampler;
    CHECK_THROWS_AS(model.generate({1, 2}, 3, sampler, state), std::domain_error);
    CHECK_THROWS_AS(model.score({1, 2, 3}, state), std::domain_error);
}

TEST_CASE("forbidden tokens, n-grams that do not repeat, samples with independent random streams") {
    const LanguageModel model = small_model({});
    const auto generated = [&](const rnnfast::SamplerOptions& options, size_t length) {
        rnnfast::Sampler sampler(options);
        State state = model.initial_state();
        std::vector<int32_t> ids{1, 2}, added = model.generate(ids, length, sampler, state);
        ids.insert(ids.end(), added.begin(), added.end());
        return ids;
    };
    rnnfast::SamplerOptions options;
    rnnfast::Sampler old(1.0, 0, 0);
    State state = model.initial_state();
    std::vector<int32_t> ids{1, 2};
    const auto added = model.generate(ids, 30, old, state);
    ids.insert(ids.end(), added.begin(), added.end());
    CHECK(generated(options, 30) == ids);
    options.sample = 1;
    CHECK(generated(options, 30) != ids);
    options.never = {0, 3};
    for (const int32_t id : generated(options, 200)) CHECK((id != 0 && id != 3));
    options.no_repeat_ngram_size = 2;
    ids = generated(options, 6);
    std::set<std::pair<int32_t, int32_t>> pairs;
    for (size_t i = 1; i < ids.size(); ++i) CHECK(pairs.insert({ids[i - 1], ids[i]}).second);
    CHECK_THROWS_AS(generated(options, 17), std::domain_error);  // four tokens make sixteen pairs
    options.never = {6};
    CHECK_THROWS_AS(generated(options, 1), std::out_of_range);
}

TEST_CASE("a generation stops, is cancelled, and continues elsewhere from saved bytes [R11]") {
    const LanguageModel model = small_model({});
    rnnfast::SamplerOptions chosen;
    chosen.temperature = 2;
    chosen.seed = 5;
    chosen.no_repeat_ngram_size = 4;
    chosen.never = {0};
    rnnfast::Sampler whole(chosen), sampler(chosen);
    State whole_state = model.initial_state(), state = model.initial_state();
    const std::vector<int32_t> expected = model.generate({1, 2}, 40, whole, whole_state);

    rnnfast::GenerateOptions options;
    options.max_length = 15;
    std::vector<int32_t> found = model.generate({1, 2}, options, sampler, state), seen;
    const std::vector<uint8_t> state_bytes = state.save(), sampler_bytes = sampler.save();
    State elsewhere = model.initial_state();
    rnnfast::Sampler restored, copy = sampler;
    elsewhere.restore(state_bytes.data(), state_bytes.size());
    restored.restore(sampler_bytes.data(), sampler_bytes.size());
    CHECK(restored.save() == sampler_bytes);
    // Token by token, as generate() continues: the last token was sampled, but the state has not read it yet.
    const auto continued = [&](rnnfast::Sampler& from, State& at) {
        std::vector<int32_t> all = found;
        std::vector<float> logits;
        while (all.size() < expected.size()) {
            model.step(all.back(), at, logits);
            all.push_back(from.sample(logits));
        }
        return all;
    };
    CHECK(continued(restored, elsewhere) == expected);
    CHECK(continued(copy, state) == expected);
    for (size_t size = 0; size < sampler_bytes.size(); ++size)
        CHECK_THROWS_AS(restored.restore(sampler_bytes.data(), size), std::invalid_argument);
    for (size_t i = 0; i < sampler_bytes.size(); ++i) {  // damaged bytes are another sampler, or none
        std::vector<uint8_t> damaged = sampler_bytes;
        damaged[i] ^= 0x80;
        try {
            restored.restore(damaged.data(), damaged.size());
        } catch (const std::invalid_argument&) {
        }
    }

    rnnfast::Sampler stopping(chosen), cancelled(chosen);
    options.max_length = 40;
    options.stop = {expected[6]};
    const auto end = std::find(expected.begin(), expected.end(), expected[6]);
    CHECK(model.generate({1, 2}, options, stopping, whole_state = model.initial_state()) ==
          std::vector<int32_t>(expected.begin(), end));
    options.stop.clear();
    options.on_token = [&](int32_t token) {
        seen.push_back(token);
        return seen.size() < 9;
    };
    CHECK(model.generate({1, 2}, options, cancelled, whole_state = model.initial_state()) == seen);
    CHECK(seen == std::vector<int32_t>(expected.begin(), expected.begin() + 9));
    options.stop = {6};
    CHECK_THROWS_AS(model.generate({1, 2}, options, cancelled, whole_state), std::out_of_range);
    options = {};
    options.max_length = 5;
    rnnfast::Sampler one(0.9, 3, 7), two(0.9, 3, 7);
    CHECK(model.generate("ab", options, one) == model.generate("ab", 5, two));

    rnnfast::Sampler moved = std::move(one);
    CHECK_FALSE(one);
    CHECK_THROWS_AS(one.save(), std::invalid_argument);
    CHECK_THROWS_AS(one.sample({1, 2}), std::invalid_argument);
    CHECK_THROWS_AS(one.read(nullptr, 0), std::invalid_argument);
    CHECK_THROWS_AS(moved.read(nullptr, 1), std::invalid_argument);
    rnnfast::Sampler empty_copy = one;
    CHECK_FALSE(empty_copy);
    empty_copy = moved;
    CHECK(empty_copy.save() == moved.save());
}

TEST_CASE("eight threads share a model, each with its own state") {
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
