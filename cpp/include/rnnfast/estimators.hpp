// Classifiers, taggers and forecasters without Python: load a file that rf.SequenceClassifier, rf.SequenceTagger,
// rf.Autoregressor or rf.Forecaster has saved.
//
//     const auto classifier = rnnfast::Classifier::load("names.safetensors");
//     std::vector<double> p = classifier.probabilities("Nakamura");             // of classifier.labels()
//     const auto forecaster = rnnfast::Autoregressor::load("sunspots.safetensors");
//     std::vector<double> next = forecaster.forecast(12);                       // after the fitted series
//
// The file holds the labels, the vocabulary, and the mean and scale of the numbers. All are immutable, so threads share
// them. Wrong arguments throw std::invalid_argument or std::out_of_range; bad files throw rnnfast::Error.
#pragma once

#include "rnnfast/network.hpp"

namespace rnnfast {
inline namespace v1 {

class RNNFAST_API Classifier {
public:
    Classifier() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // Without `weights`, products are in f32.
    static Classifier load(const std::string& path, Weights weights = Weights::f32);
    // From the bytes of a file, which are not needed afterwards.
    static Classifier load(const void* bytes, size_t size, Weights weights = Weights::f32);

    // The classes, as Python prints them; bytes in hexadecimal, times as their numbers.
    const std::vector<std::string>& labels() const;
    const Vocabulary& vocab() const;  // size 0: it reads numbers
    size_t features() const;          // numbers a step; 0: it reads tokens

    // P(label) of a sequence, in the order of labels().
    std::vector<double> probabilities(std::string_view text) const;
    std::vector<double> probabilities(const int32_t* ids, size_t steps) const;
    std::vector<double> probabilities(const double* numbers, size_t steps) const;  // [steps, features]
    const std::string& most_probable(const std::vector<double>& probabilities) const;

    // For streams: the network whose one output is the logits of the sequence so far, what it reads of one step
    // [features], and the probabilities of its logits [labels].
    const Network& network() const;
    void scale(const double* numbers, float* x) const;
    void softmax(const float* logits, double* probabilities) const;

    struct Impl;

private:
    explicit Classifier(std::shared_ptr<const Impl> impl);
    const Impl& impl() const;
    std::shared_ptr<const Impl> impl_;
};

// A label for every token or step of a sequence.
class RNNFAST_API Tagger {
public:
    Tagger() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // Without `weights`, products are in f32.
    static Tagger load(const std::string& path, Weights weights = Weights::f32);
    // From the bytes of a file, which are not needed afterwards.
    static Tagger load(const void* bytes, size_t size, Weights weights = Weights::f32);

    const std::vector<std::string>& labels() const;  // as those of a Classifier
    const Vocabulary& vocab() const;                 // size 0: it reads numbers
    size_t features() const;                         // numbers a step; 0: it reads tokens

    // P(label) of each token or step, [steps, labels].
    std::vector<double> probabilities(std::string_view text) const;
    std::vector<double> probabilities(const int32_t* ids, size_t steps) const;
    std::vector<double> probabilities(const double* numbers, size_t steps) const;  // [steps, features]
    // The numbers of the most probable labels, [steps], of probabilities [steps, labels].
    std::vector<size_t> most_probable(const std::vector<double>& probabilities) const;

    // For streams, which a tagger that reads in both directions does not have; as those of a Classifier.
    const Network& network() const;
    void scale(const double* numbers, float* x) const;
    void softmax(const float* logits, double* probabilities) const;

    struct Impl;

private:
    explicit Tagger(std::shared_ptr<const Impl> impl);
    const Impl& impl() const;
    std::shared_ptr<const Impl> impl_;
};

class RNNFAST_API Autoregressor {
public:
    Autoregressor() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // Without `weights`, products are in f32.
    static Autoregressor load(const std::string& path, Weights weights = Weights::f32);
    // From the bytes of a file, which are not needed afterwards.
    static Autoregressor load(const void* bytes, size_t size, Weights weights = Weights::f32);

    size_t width() const;            // numbers a step
    const Network& network() const;  // scaled numbers of a step -> scaled numbers of the next one

    // The `k` steps [k, width] after the fitted series, each forecast from those before it; or after another series
    // [steps, width].
    std::vector<double> forecast(size_t k) const;
    std::vector<double> forecast(size_t k, const double* series, size_t steps) const;

    // For streams: a state before any step, or after the fitted series. step reads the numbers of a step [width] and
    // writes the forecast of the next one [width]. Allocates nothing after the first step of a state and of a
    // thread.
    NetworkState initial_state() const;
    NetworkState fitted_state() const;
    void step(const double* numbers, NetworkState& state, double* forecast) const;

    struct Impl;

private:
    explicit Autoregressor(std::shared_ptr<const Impl> impl);
    const Impl& impl() const;
    std::shared_ptr<const Impl> impl_;
};

// Forecasts of the next steps of one or several series, with intervals: rf.Forecaster.
class RNNFAST_API Forecaster {
public:
    struct Interval {
        std::vector<double> median, lower, upper;  // [k, width] each
    };

    Forecaster() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // Without `weights`, products are in f32.
    static Forecaster load(const std::string& path, Weights weights = Weights::f32);
    // From the bytes of a file, which are not needed afterwards.
    static Forecaster load(const void* bytes, size_t size, Weights weights = Weights::f32);

    size_t width() const;      // series
    size_t horizon() const;    // steps that can be forecast
    size_t exogenous() const;  // columns that are known in advance

    // The `k` steps, at most horizon(), after the fitted series; exogenous: [k, exogenous] of these steps.
    Interval predict_interval(size_t k, const double* exogenous = nullptr) const;
    // After another series [steps, width], whose newest errors calibrate the interval; exogenous: [steps + k,
    // exogenous].
    Interval predict_interval(size_t k, const double* series, size_t steps, const double* exogenous = nullptr) const;

    struct Impl;

private:
    explicit Forecaster(std::shared_ptr<const Impl> impl);
    const Impl& impl() const;
    std::shared_ptr<const Impl> impl_;
};

}  // namespace v1
}  // namespace rnnfast
