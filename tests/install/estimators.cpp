// Classifies and forecasts in C++ and in C, for a comparison with Python.
//
//     estimators texts MODEL < lines           a text a line
//     estimators numbers MODEL < lines         a sequence a line: numbers separated by spaces, step after step
//     estimators tag-texts, tag-numbers        the same for a tagger: a label and its probabilities for each step
//     estimators forecast MODEL K < numbers    after the fitted series, after the numbers on stdin, and step by step
//     estimators interval MODEL K STEPS < numbers      after the fitted series; stdin: its exogenous columns
//     estimators interval-of MODEL K STEPS < numbers   after a series of STEPS steps; stdin: the series, its columns
//
// Prints a line for each result: the most probable label and the probabilities, or the forecasts. Fails if C and C++
// differ.
#include <rnnfast/rnnfast.h>
#include <rnnfast/estimators.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Doubles = std::vector<double>;

void check(rnnfast_status status) {
    if (status != RNNFAST_OK) throw std::runtime_error(rnnfast_last_error());
}
void check_equal(const Doubles& a, const Doubles& b) {
    if (a != b) throw std::runtime_error("C and C++ differ");
}
void print(const Doubles& values) {
    for (const double value : values) std::printf(" %.17g", value);
    std::printf("\n");
}

Doubles numbers_of(const std::string& text) {
    std::istringstream words(text);
    Doubles all;
    for (double value; words >> value;) all.push_back(value);
    return all;
}

void classify(const std::string& path, bool texts) {
    const auto classifier = rnnfast::Classifier::load(path);
    rnnfast_classifier* handle;
    check(rnnfast_classifier_load(path.c_str(), RNNFAST_AS_STORED, &handle));
    size_t labels, features;
    check(rnnfast_classifier_sizes(handle, &labels, &features));
    for (size_t i = 0; i < labels; ++i) {
        char label[200];
        size_t size = sizeof label;
        check(rnnfast_classifier_label(handle, i, label, &size));
        if (label != classifier.labels()[i]) throw std::runtime_error("labels differ");
    }
    for (std::string line; std::getline(std::cin, line);) {
        Doubles p, in_c(labels);
        size_t count = labels;
        if (texts) {
            p = classifier.probabilities(line);
            check(rnnfast_classify(handle, line.data(), line.size(), in_c.data(), &count));
        } else {
            const Doubles numbers = numbers_of(line);
            const size_t steps = numbers.size() / features;
            p = classifier.probabilities(numbers.data(), steps);
            check(rnnfast_classify_numbers(handle, numbers.data(), steps, in_c.data(), &count));
            // The same step by step
            rnnfast::NetworkState state = classifier.network().initial_state();
            std::vector<float> x(features), logits(labels);
            Doubles streamed(labels);
            for (size_t t = 0; t < steps; ++t) {
                classifier.scale(numbers.data() + t * features, x.data());
                classifier.network().step({x.data()}, state, {logits.data()});
            }
            classifier.softmax(logits.data(), streamed.data());
            check_equal(p, streamed);
        }
        check_equal(p, in_c);
        std::printf("%s", classifier.most_probable(p).c_str());
        print(p);
    }
    rnnfast_classifier_free(handle);
}

void tag(const std::string& path, bool texts) {
    const auto tagger = rnnfast::Tagger::load(path);
    rnnfast_tagger* handle;
    check(rnnfast_tagger_load(path.c_str(), RNNFAST_AS_STORED, &handle));
    size_t labels, features;
    check(rnnfast_tagger_sizes(handle, &labels, &features));
    for (std::string line; std::getline(std::cin, line);) {
        Doubles p, in_c;
        size_t room = 0;
        const Doubles numbers = texts ? Doubles() : numbers_of(line);
        const auto in_c_gives = [&] {
            return texts ? rnnfast_tag(handle, line.data(), line.size(), in_c.data(), &room)
                         : rnnfast_tag_numbers(handle, numbers.data(), numbers.size() / features, in_c.data(), &room);
        };
        p = texts ? tagger.probabilities(line) : tagger.probabilities(numbers.data(), numbers.size() / features);
        if (in_c_gives() != RNNFAST_BUFFER_TOO_SMALL) throw std::runtime_error("a buffer of size 0 suffices");
        in_c.resize(room);
        check(in_c_gives());
        check_equal(p, in_c);
        for (size_t t = 0; t * labels < p.size(); ++t) {
            char label[200];
            size_t size = sizeof label;
            const Doubles of_step(p.begin() + static_cast<long>(t * labels),
                                  p.begin() + static_cast<long>((t + 1) * labels));
            check(rnnfast_tagger_label(handle, tagger.most_probable(p)[t], label, &size));
            std::printf("%s", label);
            print(of_step);
        }
    }
    rnnfast_tagger_free(handle);
}

void interval(const std::string& path, size_t k, size_t steps, bool other) {
    const auto forecaster = rnnfast::Forecaster::load(path);
    rnnfast_forecaster* handle;
    check(rnnfast_forecaster_load(path.c_str(), RNNFAST_AS_STORED, &handle));
    size_t width, horizon, exogenous;
    check(rnnfast_forecaster_sizes(handle, &width, &horizon, &exogenous));
    if (horizon != forecaster.horizon()) throw std::runtime_error("C and C++ differ");
    std::ostringstream text;
    text << std::cin.rdbuf();
    const Doubles numbers = numbers_of(text.str());
    const double* series = other ? numbers.data() : nullptr;
    const double* columns = numbers.data() + (other ? steps * width : 0);
    const auto found =
        other ? forecaster.predict_interval(k, series, steps, columns) : forecaster.predict_interval(k, columns);
    Doubles median(k * width), lower(k * width), upper(k * width);
    const rnnfast_interval results = {median.data(), lower.data(), upper.data(), k * width};
    check(rnnfast_predict_interval(handle, k, series, steps, columns, &results));
    check_equal(found.median, median);
    check_equal(found.lower, lower);
    check_equal(found.upper, upper);
    for (const Doubles& part : {median, lower, upper}) {
        std::printf("interval");
        print(part);
    }
    rnnfast_forecaster_free(handle);
}

void forecast(const std::string& path, size_t k) {
    const auto forecaster = rnnfast::Autoregressor::load(path);
    rnnfast_autoregressor* handle;
    check(rnnfast_autoregressor_load(path.c_str(), RNNFAST_AS_STORED, &handle));
    const size_t width = forecaster.width();
    std::ostringstream text;
    text << std::cin.rdbuf();
    const Doubles series = numbers_of(text.str());
    const size_t steps = series.size() / width;
    Doubles in_c(k * width);
    print(forecaster.forecast(k));
    check(rnnfast_forecast(handle, k, nullptr, 0, in_c.data(), in_c.size()));
    check_equal(forecaster.forecast(k), in_c);
    print(forecaster.forecast(k, series.data(), steps));
    check(rnnfast_forecast(handle, k, series.data(), steps, in_c.data(), in_c.size()));
    check_equal(forecaster.forecast(k, series.data(), steps), in_c);
    rnnfast_network_state* state_in_c;
    check(rnnfast_autoregressor_state_new(handle, 1, &state_in_c));
    rnnfast::NetworkState state = forecaster.fitted_state();
    Doubles next(width), next_in_c(width), all;
    for (size_t t = 0; t < steps; ++t) {
        forecaster.step(series.data() + t * width, state, next.data());
        check(rnnfast_autoregressor_step(handle, series.data() + t * width, state_in_c, next_in_c.data(), width));
        check_equal(next, next_in_c);
        all.insert(all.end(), next.begin(), next.end());
    }
    print(all);
    rnnfast_network_state_free(state_in_c);
    rnnfast_autoregressor_free(handle);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    try {
        const std::string what = argv[1];
        const auto number = [&](int i) { return static_cast<size_t>(i < argc ? std::atoi(argv[i]) : 0); };
        if (what == "interval" || what == "interval-of")
            interval(argv[2], number(3), number(4), what == "interval-of");
        else if (what == "tag-texts" || what == "tag-numbers")
            tag(argv[2], what == "tag-texts");
        else if (what == "forecast")
            forecast(argv[2], number(3));
        else
            classify(argv[2], what == "texts");
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
