// Classifiers and forecasters in the public C++ and C APIs: what their files hold, and refusals. tests/python compares
// their results with Python's.
#include "network_files.h"

#include <cstring>
#include <numeric>

#include "allocations.h"
#include "rnnfast/estimators.hpp"
#include "rnnfast/rnnfast.h"

using namespace rnnfast::tests;
using rnnfast::Autoregressor;
using rnnfast::Classifier;
using rnnfast::Forecaster;
using rnnfast::Tagger;

namespace {

const std::string params = R"("params":{"cell":"gru","hidden_size":5,"num_layers":2,"embedding_size":3,
    "pooling":"mean","tokenizer":"char","epochs":1,"batch_size":1,"lr":0.1,"clip_norm":null,"seed":1,"input":"auto",
    "verbose":false})";
const std::string of_tokens = "{" + params + R"(,"classes":["no","yes"],"labels":"strings",
    "vocabulary":{"tokenizer":"char","tokens":["<unk>","a","b"]}})";
const std::string of_numbers = "{" + params + R"(,"classes":[-2,7],"labels":"int64","mean":[1,-2.5],"scale":[2,0.5],
    "loss_curve":[)" + [] {
    std::string many = "1";
    for (int i = 0; i < 2000; ++i) many += ",0.5";
    return many;
}() + "]}";
const std::string of_series = R"({"params":{"cell":"lstm","hidden_size":4,"num_layers":2,"num_steps":3,"epochs":1,
    "batch_size":1,"lr":0.1,"clip_norm":1.0,"seed":null,"verbose":false},
    "mean":[10,20],"scale":[2,3],"flat":false,"features":null})";

const std::string layers = R"({"name":"rnn","type":"recurrent","cell":"gru","hidden_size":5,"num_layers":2},
    {"name":"pool","type":"pool","function":"mean"},{"name":"output","type":"linear","out_features":2}]})";

std::string classifier_bytes(const std::string& config) {
    const bool tokens = contains(config, "vocabulary");
    const std::string input = tokens ? R"({"inputs":[{"name":"x","ids":3}],"layers":[
        {"name":"embedding","type":"embedding","embedding_dim":3},)"
                                     : R"({"inputs":[{"name":"x","size":2}],"layers":[)";
    return model_of_network(input + layers, "sequence_classifier", config);
}

std::string forecaster_bytes(const std::string& config, const std::string& cell = "lstm") {
    const std::vector<float> h = random_vector(8, 5), c = random_vector(8, 6);
    std::map<std::string, rnnfast::TensorView> state = {{"state.h", {{2, 1, 4}, h.data(), 8}}};
    if (cell == "lstm") state["state.c"] = {{2, 1, 4}, c.data(), 8};
    return model_of_network(R"({"inputs":[{"name":"x","size":2}],"layers":[
        {"name":"rnn","type":"recurrent","cell":")" +
                                cell + R"(","hidden_size":4,"num_layers":2},
        {"name":"output","type":"linear","out_features":2}]})",
                            "autoregressor", config, state);
}

const std::string of_steps = R"({"params":{"cell":"gru","hidden_size":5,"num_layers":2,"embedding_size":3,
    "bidirectional":true,"dropout":0.1,"tokenizer":"char","epochs":1,"batch_size":1,"lr":0.1,"clip_norm":null,"seed":1,
    "input":"auto","verbose":false},"classes":["no","yes"],"labels":"strings",
    "vocabulary":{"tokenizer":"char","tokens":["<unk>","a","b"]}})";

std::string tagger_bytes(const std::string& config) {
    return model_of_network(R"({"inputs":[{"name":"x","ids":3}],"layers":[
        {"name":"embedding","type":"embedding","embedding_dim":3},
        {"name":"rnn","type":"recurrent","cell":"gru","hidden_size":5,"num_layers":2,"bidirectional":true},
        {"name":"output","type":"linear","out_features":2}]})",
                            "sequence_tagger", config);
}

// Two series with one exogenous column: 3 steps ahead, 2 errors calibrate.
const std::string of_two_series = R"({"params":{"cell":"gru","hidden_size":4,"horizon":3,"season":2,"log":"auto",
    "interval":0.8,"calibration":2,"num_layers":1,"num_steps":3,"epochs":1,"batch_size":1,"lr":0.1,"clip_norm":1.0,
    "seed":null,"verbose":false},"mean":[10,0],"scale":[2,3],"flat":false,"features":null,"base":"last","penalty":0.1,
    "logs":[false,true],"terms":12,"exogenous":1,"index":null,"loss_curve":[]})";

std::string interval_bytes(const std::string& config, size_t series_columns = 3) {
    std::vector<std::vector<double>> held;
    std::map<std::string, rnnfast::TensorView> tensors;
    const auto hold = [&](const char* name, size_t rows, size_t columns, double start) {
        std::vector<double>& values = held.emplace_back(rows * columns);
        for (size_t i = 0; i < values.size(); ++i) values[i] = start + 0.01 * static_cast<double>(i % 7);
        tensors[name] = {{rows, 8 * columns}, values.data(), 8 * values.size(), rnnfast::Dtype::i8};
    };
    hold("linear", 6, 12, -0.02);
    hold("spread", 2, 3, 0.5);
    hold("scores", 6, 2, 0.1);
    hold("series", 9, series_columns, 8);
    return model_of_network(R"({"inputs":[{"name":"x","size":7}],"layers":[
        {"name":"0","type":"recurrent","cell":"gru","hidden_size":4},{"name":"1","type":"linear","out_features":9}]})",
                            "forecaster", config, tensors);
}

std::string changed(std::string text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}

template <class Model>
std::string refusal_of(const std::string& bytes) {
    try {
        Model::load(bytes.data(), bytes.size());
    } catch (const rnnfast::Error& error) {
        return error.what();
    }
    return "";
}

}  // namespace

TEST_CASE("a classifier's file holds its labels, vocabulary and scaling") {
    const std::string text = classifier_bytes(of_tokens), numbers = classifier_bytes(of_numbers);
    const auto of_text = Classifier::load(text.data(), text.size());
    CHECK(of_text.labels() == std::vector<std::string>{"no", "yes"});
    CHECK(of_text.vocab().size() == 3);
    CHECK(of_text.features() == 0);
    const std::vector<double> p = of_text.probabilities("abba");
    CHECK(std::abs(std::accumulate(p.begin(), p.end(), 0.0) - 1) < 1e-15);
    CHECK(of_text.most_probable({0.4, 0.6}) == "yes");
    const int32_t ids[] = {1, 2, 2, 1};
    CHECK(of_text.probabilities(ids, 4) == p);
    CHECK(contains(sentence_of([&] { of_text.probabilities(""); }), "the sequence is empty"));
    const double x[] = {1, -2.5, 3, -2};
    CHECK(contains(sentence_of([&] { of_text.probabilities(x, 1); }), "reads tokens"));
    CHECK(contains(sentence_of([&] { of_text.most_probable({1}); }), "1 probabilities, expected 2"));

    const auto of_real = Classifier::load(numbers.data(), numbers.size(), rnnfast::Weights::int8);
    CHECK(of_real.labels() == std::vector<std::string>{"-2", "7"});
    CHECK(of_real.network().weights() == rnnfast::Weights::int8);
    CHECK(of_real.features() == 2);
    float scaled[2];
    of_real.scale(x + 2, scaled);
    CHECK(scaled[0] == 1);
    CHECK(scaled[1] == 1);
    CHECK(of_real.probabilities(x, 2).size() == 2);
    const double bad[] = {0, 1, 1e300, 0};
    CHECK(contains(sentence_of([&] { of_real.probabilities(bad, 2); }), "number 0 of step 1 is 1e+300"));
    CHECK(contains(sentence_of([&] { of_real.probabilities("a"); }), "give 2 of them a step"));
    CHECK(contains(sentence_of([] { Classifier().labels(); }), "this Classifier is empty"));
}

TEST_CASE("labels are those that Python prints") {
    const auto labels = [&](const std::string& classes, const std::string& type) {
        const std::string config = changed(changed(of_tokens, R"(["no","yes"])", classes), "strings", type);
        const std::string bytes = classifier_bytes(config);
        return Classifier::load(bytes.data(), bytes.size()).labels();
    };
    using Labels = std::vector<std::string>;
    CHECK(labels("[false,true]", "bool") == Labels{"False", "True"});
    CHECK(labels("[0.5,2]", "float64") == Labels{"0.5", "2.0"});
    CHECK(labels("[0,1]", "datetime64[D]") == Labels{"0", "1"});
    CHECK(labels(R"(["2020-01-01","2020-01-02"])", "dates") == Labels{"2020-01-01", "2020-01-02"});
}

TEST_CASE("a forecaster continues the fitted series, another series, and a stream") {
    const std::string bytes = forecaster_bytes(of_series);
    const auto forecaster = Autoregressor::load(bytes.data(), bytes.size());
    CHECK(forecaster.width() == 2);
    const std::vector<double> four = forecaster.forecast(4);
    CHECK(four.size() == 8);
    // A stream from the fitted state that reads its own forecasts, through float32
    rnnfast::NetworkState state = forecaster.fitted_state();
    std::vector<double> next(four.begin(), four.begin() + 2);
    for (size_t t = 1; t < 4; ++t) {
        forecaster.step(next.data(), state, next.data());
        for (size_t i = 0; i < 2; ++i) CHECK(next[i] == doctest::Approx(four[2 * t + i]).epsilon(1e-6));
    }
    const double series[] = {10, 20, 11, 21, 12, 22};
    rnnfast::NetworkState fresh = forecaster.initial_state();
    for (size_t t = 0; t < 3; ++t) forecaster.step(series + 2 * t, fresh, next.data());
    CHECK(forecaster.forecast(1, series, 3) == next);
    const long before = allocations;
    forecaster.step(series, fresh, next.data());
    CHECK(allocations == before);
    CHECK(forecaster.forecast(0).empty());
    CHECK(contains(sentence_of([&] { forecaster.forecast(1, series, 0); }), "the series is empty"));
    const double infinite[] = {INFINITY, 0};
    CHECK(contains(sentence_of([&] { forecaster.step(infinite, fresh, next.data()); }), "number 0 of step 0 is"));
    const std::string gru = forecaster_bytes(changed(of_series, "lstm", "gru"), "gru");
    CHECK(Autoregressor::load(gru.data(), gru.size()).forecast(2).size() == 4);
}

TEST_CASE("a tagger gives each step the probabilities of its network's logits") {
    const std::string bytes = tagger_bytes(of_steps);
    const auto tagger = Tagger::load(bytes.data(), bytes.size());
    const std::vector<double> p = tagger.probabilities("abba");
    CHECK(p.size() == 8);
    const int32_t ids[] = {1, 2, 2, 1};
    CHECK(tagger.probabilities(ids, 4) == p);
    float logits[8];
    tagger.network().run({ids}, {4, 1}, {logits});
    for (size_t t = 0; t < 4; ++t) {
        double of_step[2];
        tagger.softmax(logits + 2 * t, of_step);
        CHECK(of_step[0] == p[2 * t]);
        CHECK(of_step[0] + of_step[1] == doctest::Approx(1).epsilon(1e-15));
        CHECK(tagger.most_probable(p)[t] == (p[2 * t] < p[2 * t + 1]));
    }
    CHECK(contains(tagger.network().no_stream(), "rnn"));
    CHECK(contains(sentence_of([&] { tagger.probabilities(""); }), "the sequence is empty"));
    CHECK(contains(sentence_of([&] { tagger.most_probable({1}); }), "1 probabilities, expected 2 for each step"));
    CHECK(contains(sentence_of([] { Tagger().labels(); }), "this Tagger is empty"));
    CHECK(contains(refusal_of<Tagger>(classifier_bytes(of_tokens)), "load it as a Classifier"));
    CHECK(contains(refusal_of<Classifier>(bytes), "load it as a Tagger"));
    CHECK(contains(refusal_of<Tagger>(tagger_bytes(changed(of_steps, "dropout", "pooling"))),
                   "\"pooling\" is not known"));
}

TEST_CASE("a forecaster with intervals continues the fitted series and another one") {
    const std::string bytes = interval_bytes(of_two_series);
    const auto forecaster = Forecaster::load(bytes.data(), bytes.size());
    CHECK(forecaster.width() == 2);
    CHECK(forecaster.horizon() == 3);
    CHECK(forecaster.exogenous() == 1);
    std::vector<double> outside(20, 0.5), series;
    for (size_t i = 0; i < 27; ++i)  // as the file has it
        (i % 3 == 2 ? outside[i / 3] : series.emplace_back()) = 8 + 0.01 * static_cast<double>(i % 7);
    const Forecaster::Interval after = forecaster.predict_interval(3, outside.data() + 9);
    const Forecaster::Interval same = forecaster.predict_interval(3, series.data(), 9, outside.data());
    CHECK(after.median == same.median);
    CHECK(after.lower == same.lower);
    CHECK(after.upper == same.upper);
    for (size_t i = 0; i < 6; ++i) {
        CHECK(after.lower[i] <= after.median[i]);
        CHECK(after.median[i] <= after.upper[i]);
    }
    // Another series: its own errors calibrate, and each step is forecast from those before it.
    for (double& value : series) value += 1;
    const Forecaster::Interval other = forecaster.predict_interval(2, series.data(), 9, outside.data());
    CHECK(other.median.size() == 4);
    CHECK(other.median[0] != after.median[0]);
    const auto sentence = [&](size_t k, const std::vector<double>& x, const double* columns) {
        return sentence_of([&] { forecaster.predict_interval(k, x.data(), x.size() / 2, columns); });
    };
    CHECK(contains(sentence(0, series, outside.data()), "k is 0, expected 1 to 3"));
    CHECK(contains(sentence(4, series, outside.data()), "k is 4, expected 1 to 3"));
    CHECK(contains(sentence(2, series, nullptr), "exogenous is null, expected [11, 1]"));
    CHECK(contains(sentence(2, {}, outside.data()), "the series is empty"));
    CHECK(contains(sentence(2, {1, 1}, outside.data()), "the series has 1 values, too few"));
    CHECK(contains(sentence(2, {1, 1, 2, 0}, outside.data()),
                   "the series has 0.0 at step 1, and the model forecasts log"));
    CHECK(contains(sentence(2, {1, INFINITY}, outside.data()), "the series has NaN or infinity at step 0, column 1"));
    CHECK(contains(sentence(1, {1e60, 1, 1e60, 1}, outside.data()), "too far from the fitted one"));
    CHECK(contains(sentence_of([] { Forecaster().width(); }), "this Forecaster is empty"));

    const auto refused = [](const std::string& from, const std::string& to) {
        return refusal_of<Forecaster>(interval_bytes(changed(of_two_series, from, to)));
    };
    CHECK(contains(refused("\"terms\":12", "\"terms\":14"), "terms do not fit"));
    CHECK(contains(refused("\"terms\":12", "\"terms\":13"), "linear is not of type I8 and shape [6, 104]"));
    CHECK(contains(refused("\"last\"", "\"first\""), "base is 'first'"));
    CHECK(contains(refused("\"season\":2", "\"season\":null"), "terms do not fit"));
    CHECK(contains(refused("[false,true]", "[false]"), "logs must hold"));
    CHECK(contains(refused("\"calibration\":2", "\"calibration\":3"), "scores is not of type I8 and shape [6, 24]"));
    CHECK(contains(refused("\"horizon\":3", "\"horizon\":2147483647"), "linear is not of type I8"));
    CHECK(contains(refused("\"cell\":\"gru\"", "\"cell\":\"lstm\""), "shape"));
    CHECK(contains(refusal_of<Forecaster>(interval_bytes(of_two_series, 2)), "series is not of type I8 and shape"));
    CHECK(contains(refusal_of<Autoregressor>(bytes), "load it as a Forecaster"));
}

TEST_CASE("C: taggers and forecasters with intervals, and their refusals") {
    const auto refused = [](rnnfast_status status, rnnfast_status expected = RNNFAST_INVALID_ARGUMENT) {
        CHECK(status == expected);
        CHECK(std::string(rnnfast_last_error()).size() > 8);
    };
    const std::string bytes = tagger_bytes(of_steps), series = interval_bytes(of_two_series);
    rnnfast_tagger *tagger, *none;
    rnnfast_forecaster *forecaster, *nobody;
    REQUIRE(rnnfast_tagger_load_memory(bytes.data(), bytes.size(), RNNFAST_AS_STORED, &tagger) == RNNFAST_OK);
    REQUIRE(rnnfast_forecaster_load_memory(series.data(), series.size(), RNNFAST_INT8, &forecaster) == RNNFAST_OK);
    double p[4], y[6];
    const double outside[] = {1, 2, 3};
    size_t room = 3, labels, features, size = 8;
    const int32_t ids[] = {1, 2, 7};
    char text[8];
    refused(rnnfast_tag(tagger, "ab", 2, p, &room), RNNFAST_BUFFER_TOO_SMALL);
    CHECK(room == 4);
    CHECK(rnnfast_tag(tagger, "ab", 2, p, &room) == RNNFAST_OK);
    CHECK(rnnfast_tag_ids(tagger, ids, 2, p, &room) == RNNFAST_OK);
    refused(rnnfast_tag_ids(tagger, ids + 1, 2, p, &room), RNNFAST_OUT_OF_RANGE);
    refused(rnnfast_tag_ids(tagger, nullptr, 2, p, &room));
    refused(rnnfast_tag_numbers(tagger, p, 1, p, &room));
    refused(rnnfast_tag(tagger, "ab", 2, p, nullptr));
    refused(rnnfast_tag(nullptr, "ab", 2, p, &room));
    CHECK(rnnfast_tagger_sizes(tagger, &labels, &features) == RNNFAST_OK);
    CHECK(labels == 2);
    CHECK(features == 0);
    CHECK(rnnfast_tagger_label(tagger, 0, text, &size) == RNNFAST_OK);
    CHECK(std::string(text) == "no");
    refused(rnnfast_tagger_label(tagger, 2, text, &size), RNNFAST_OUT_OF_RANGE);
    refused(rnnfast_tagger_load("/nowhere", RNNFAST_F32, &none), RNNFAST_BAD_FILE);
    refused(rnnfast_tagger_load_memory(series.data(), series.size(), RNNFAST_F32, &none), RNNFAST_BAD_FILE);

    size_t width, horizon, columns;
    CHECK(rnnfast_forecaster_sizes(forecaster, &width, &horizon, &columns) == RNNFAST_OK);
    CHECK(width * horizon * columns == 6);
    const rnnfast_interval median = {y, nullptr, nullptr, 6}, small = {y, y, y, 5};
    CHECK(rnnfast_predict_interval(forecaster, 3, nullptr, 0, outside, &median) == RNNFAST_OK);
    refused(rnnfast_predict_interval(forecaster, 3, nullptr, 0, outside, &small), RNNFAST_BUFFER_TOO_SMALL);
    refused(rnnfast_predict_interval(forecaster, 3, nullptr, 0, outside, nullptr));
    refused(rnnfast_predict_interval(forecaster, 3, nullptr, 0, nullptr, &median));
    refused(rnnfast_predict_interval(forecaster, 3, y, 0, outside, &median));
    refused(rnnfast_predict_interval(nullptr, 3, nullptr, 0, outside, &median));
    refused(rnnfast_forecaster_load("/nowhere", 7, &nobody));
    refused(rnnfast_forecaster_load("/nowhere", RNNFAST_F32, &nobody), RNNFAST_BAD_FILE);
    rnnfast_tagger_free(tagger);
    rnnfast_forecaster_free(forecaster);
    rnnfast_tagger_free(nullptr);
    rnnfast_forecaster_free(nullptr);
}

TEST_CASE("an estimator's file that cannot be used is refused in one sentence") {
    const auto classifier = [](const std::string& from, const std::string& to) {
        return refusal_of<Classifier>(classifier_bytes(changed(of_numbers, from, to)));
    };
    CHECK(classifier("2.5", "2.5") == "");
    CHECK(contains(classifier("-2.5", "null"), "mean must be a list of finite numbers"));
    CHECK(contains(classifier("[2,0.5]", "[2,0]"), "scale must hold a positive number"));
    CHECK(contains(classifier("[2,0.5]", "[2]"), "scale must hold a positive number"));
    CHECK(contains(classifier("[-2,7]", "[]"), "classes must be a list"));
    CHECK(contains(classifier("[-2,7]", "[-2,[7]]"), "classes must be a list"));
    CHECK(contains(classifier("[-2,7]", "[-2,1e17]"), "beyond 2^53"));
    CHECK(contains(classifier("[-2,7]", "[-2,7,9]"), "output.weight has shape [2, 5], expected [3, 5]"));
    CHECK(contains(classifier("\"verbose\"", "\"new\""), "option \"new\" is not known here; update rnnfast"));
    CHECK(contains(classifier("\"loss_curve\"", "\"attention\""), "option \"attention\" is not known here"));
    CHECK(contains(classifier("\"mean\":", "\"features\":"), "mean is missing"));
    CHECK(contains(classifier("\"params\"", "\"tokens\""), "version 0.1"));
    CHECK(contains(classifier("\"gru\"", "\"none\""), "none"));
    CHECK(contains(classifier("\"mean\",", "\"median\","), "median"));
    CHECK(contains(refusal_of<Classifier>(classifier_bytes(changed(of_tokens, "\"a\"", "\"b\""))), "occurs twice"));

    const auto forecaster = [](const std::string& from, const std::string& to) {
        return refusal_of<Autoregressor>(forecaster_bytes(changed(of_series, from, to)));
    };
    CHECK(forecaster("10", "10") == "");
    CHECK(contains(forecaster("\"flat\"", "\"differences\""), "option \"differences\" is not known here"));
    CHECK(contains(forecaster("\"num_layers\":2", "\"num_layers\":1"), "state.h has shape [2, 1, 4]"));
    CHECK(contains(refusal_of<Autoregressor>(forecaster_bytes(of_series, "gru")), "state.c are missing"));
    CHECK(contains(refusal_of<Autoregressor>(classifier_bytes(of_tokens)), "load it as a Classifier"));
    CHECK(contains(refusal_of<Classifier>(forecaster_bytes(of_series)), "load it as an Autoregressor"));
    CHECK(contains(refusal_of<rnnfast::v1::Network>(forecaster_bytes(of_series)), "load it as an Autoregressor"));
}

TEST_CASE("C: classifiers and forecasters, and their refusals") {
    const auto refused = [](rnnfast_status status, rnnfast_status expected = RNNFAST_INVALID_ARGUMENT) {
        CHECK(status == expected);
        CHECK(std::string(rnnfast_last_error()).size() > 8);
    };
    const std::string bytes = classifier_bytes(of_tokens), series = forecaster_bytes(of_series);
    rnnfast_classifier *classifier, *none;
    rnnfast_autoregressor *forecaster, *nobody;
    REQUIRE(rnnfast_classifier_load_memory(bytes.data(), bytes.size(), RNNFAST_AS_STORED, &classifier) == RNNFAST_OK);
    REQUIRE(rnnfast_autoregressor_load_memory(series.data(), series.size(), RNNFAST_BF16, &forecaster) == RNNFAST_OK);
    size_t labels = 2, features = 9, size = 2;
    double p[2], y[8];
    char text[8];
    const int32_t ids[] = {1, 2, 7};
    CHECK(rnnfast_classify_ids(classifier, ids, 2, p, &labels) == RNNFAST_OK);
    refused(rnnfast_classify_ids(classifier, ids, 3, p, &labels), RNNFAST_OUT_OF_RANGE);
    refused(rnnfast_classify_ids(classifier, nullptr, 3, p, &labels));
    refused(rnnfast_classify(classifier, nullptr, 3, p, &labels));
    refused(rnnfast_classify(nullptr, "a", 1, p, &labels));
    refused(rnnfast_classify(classifier, "a", 1, p, nullptr));
    refused(rnnfast_classify_numbers(classifier, y, 1, p, &labels));
    labels = 1;
    refused(rnnfast_classify(classifier, "a", 1, p, &labels), RNNFAST_BUFFER_TOO_SMALL);
    CHECK(labels == 2);
    CHECK(rnnfast_classifier_sizes(classifier, &labels, &features) == RNNFAST_OK);
    CHECK(features == 0);
    refused(rnnfast_classifier_label(classifier, 1, text, &size), RNNFAST_BUFFER_TOO_SMALL);
    CHECK(rnnfast_classifier_label(classifier, 1, text, &size) == RNNFAST_OK);
    CHECK(std::string(text) == "yes");
    refused(rnnfast_classifier_label(classifier, 2, text, &size), RNNFAST_OUT_OF_RANGE);
    refused(rnnfast_classifier_load("/nowhere", RNNFAST_F32, &none), RNNFAST_BAD_FILE);
    refused(rnnfast_classifier_load(nullptr, RNNFAST_F32, &none));
    refused(rnnfast_classifier_load("/nowhere", 7, &none));
    refused(rnnfast_autoregressor_load_memory(bytes.data(), bytes.size(), RNNFAST_F32, &nobody), RNNFAST_BAD_FILE);
    refused(rnnfast_autoregressor_load("/nowhere", 7, &nobody));

    CHECK(rnnfast_autoregressor_width(forecaster, &size) == RNNFAST_OK);
    CHECK(size == 2);
    CHECK(rnnfast_forecast(forecaster, 4, nullptr, 0, y, 8) == RNNFAST_OK);
    refused(rnnfast_forecast(forecaster, 4, nullptr, 0, y, 7), RNNFAST_BUFFER_TOO_SMALL);
    refused(rnnfast_forecast(forecaster, 4, y, 0, y, 8));
    refused(rnnfast_forecast(nullptr, 4, nullptr, 0, y, 8));
    rnnfast_network_state* state;
    REQUIRE(rnnfast_autoregressor_state_new(forecaster, 0, &state) == RNNFAST_OK);
    CHECK(rnnfast_autoregressor_step(forecaster, y, state, y, 2) == RNNFAST_OK);
    refused(rnnfast_autoregressor_step(forecaster, nullptr, state, y, 2));
    refused(rnnfast_autoregressor_step(forecaster, y, nullptr, y, 2));
    refused(rnnfast_autoregressor_step(forecaster, y, state, y, 1), RNNFAST_BUFFER_TOO_SMALL);
    rnnfast_network_state_free(state);
    refused(rnnfast_autoregressor_state_new(reinterpret_cast<rnnfast_autoregressor*>(classifier), 1, &state));
    CHECK(state == nullptr);
    rnnfast_classifier_free(classifier);
    rnnfast_autoregressor_free(forecaster);
    rnnfast_classifier_free(nullptr);
    rnnfast_autoregressor_free(nullptr);
}
