// Classifies and forecasts in C++ and in C, for a comparison with Python.
//
//     estimators texts MODEL < lines           a text a line
//     estimators numbers MODEL < lines         a sequence a line: numbers separated by spaces, step after step
//     estimators forecast MODEL K < numbers    after the fitted series, after the numbers on stdin, and step by step
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
        if (what == "forecast")
            forecast(argv[2], static_cast<size_t>(std::atoi(argv[3])));
        else
            classify(argv[2], what == "texts");
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
