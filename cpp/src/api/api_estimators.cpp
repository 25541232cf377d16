// The public classifiers, taggers and autoregressors: checks at the boundary, then networks.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "models/estimator_file.h"
// Inner headers first, because the public headers declare other classes with the same names.
#include "api/api_network.h"
#include "rnnfast/estimators.hpp"
#include "runtime/sentence.h"

namespace rnnfast {
inline namespace v1 {

namespace {

SafetensorsFile in_memory(const void* bytes, size_t size) {
    return SafetensorsFile::view(checked_bytes(bytes, size), "the model in memory");
}

}  // namespace

// What classifiers and taggers share: how sequences are read, and the probabilities of logits.
struct Labeller {
    Labeller(LabellerFile&& file, Weights weights)
        : network(network_in(file.network, checked(weights))),
          vocabulary(std::make_shared<Vocabulary::Impl>(Vocabulary::Impl{std::move(file.tokens)})),
          scaling(std::move(file.scaling)),
          labels(std::move(file.labels)) {}
    Network network;
    Vocabulary vocabulary;
    Scaling scaling;
    std::vector<std::string> labels;

    void softmax(const float* logits, double* p) const {
        check_pointer(logits, "logits");
        check_pointer(p, "the place for the probabilities");
        const float most = *std::max_element(logits, logits + labels.size());
        double sum = 0;
        for (size_t i = 0; i < labels.size(); ++i) {
            p[i] = std::exp(static_cast<double>(logits[i]) - static_cast<double>(most));
            sum += p[i];
        }
        for (size_t i = 0; i < labels.size(); ++i) p[i] /= sum;
        if (!std::all_of(p, p + labels.size(), [](double x) { return std::isfinite(x); }))
            throw std::domain_error("the probabilities are not finite: weights or numbers are too large");
    }
    // [network's output steps, labels]
    std::vector<double> probabilities(const NetworkData& input, size_t steps) const {
        if (steps == 0) refuse({"the sequence is empty: expected at least one step"});
        const size_t each = labels.size();
        std::vector<float> logits(network.output_steps(0, steps) * each);
        std::vector<double> p(logits.size());
        network.run({input}, {steps, 1}, {logits.data()});
        for (size_t i = 0; i < p.size(); i += each) softmax(logits.data() + i, p.data() + i);
        return p;
    }
    std::vector<double> of_ids(const int32_t* ids, size_t steps) const {
        check_reads(false);
        return probabilities(ids, steps);
    }
    std::vector<double> of_text(std::string_view text) const {
        check_reads(false);
        const std::vector<int32_t> ids = vocabulary.encode(text);
        return probabilities(ids.data(), ids.size());
    }
    std::vector<double> of_numbers(const double* numbers, size_t steps) const {
        check_reads(true);
        if (steps) check_pointer(numbers, "the numbers");
        std::vector<float> x(steps * scaling.size());
        scaling.apply(numbers, steps, x.data());
        return probabilities(x.data(), steps);
    }
    void scale(const double* numbers, float* x) const {
        check_reads(true);
        check_pointer(numbers, "the numbers");
        check_pointer(x, "x");
        scaling.apply(numbers, 1, x);
    }
    void check_reads(bool numbers) const {
        if (numbers == (scaling.size() != 0)) return;
        refuse({numbers ? "this model reads tokens: give a text or ids" : "this model reads numbers: give ",
                scaling.size(), " of them a step"});
    }
    size_t most_probable(const double* p) const {
        return static_cast<size_t>(std::max_element(p, p + labels.size()) - p);
    }
};

struct Classifier::Impl : Labeller {
    using Labeller::Labeller;
};

Classifier::Classifier(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
const Classifier::Impl& Classifier::impl() const { return held(impl_, "Classifier", "load one with Classifier::load"); }
Classifier Classifier::load(const std::string& path, Weights weights) {
    LabellerFile file(SafetensorsFile::open(path), LabelsOf::sequences);
    return Classifier(std::make_shared<const Impl>(std::move(file), weights));
}
Classifier Classifier::load(const void* bytes, size_t size, Weights weights) {
    LabellerFile file(in_memory(bytes, size), LabelsOf::sequences);
    return Classifier(std::make_shared<const Impl>(std::move(file), weights));
}

const std::vector<std::string>& Classifier::labels() const { return impl().labels; }
const Vocabulary& Classifier::vocab() const { return impl().vocabulary; }
size_t Classifier::features() const { return impl().scaling.size(); }
const Network& Classifier::network() const { return impl().network; }
std::vector<double> Classifier::probabilities(std::string_view text) const { return impl().of_text(text); }
std::vector<double> Classifier::probabilities(const int32_t* ids, size_t n) const { return impl().of_ids(ids, n); }
std::vector<double> Classifier::probabilities(const double* x, size_t n) const { return impl().of_numbers(x, n); }
const std::string& Classifier::most_probable(const std::vector<double>& p) const {
    if (p.size() != labels().size())
        refuse({p.size(), " probabilities, expected ", labels().size(), ", one for each label"});
    return labels()[impl().most_probable(p.data())];
}
void Classifier::scale(const double* numbers, float* x) const { impl().scale(numbers, x); }
void Classifier::softmax(const float* logits, double* probabilities) const { impl().softmax(logits, probabilities); }

struct Tagger::Impl : Labeller {
    using Labeller::Labeller;
};

Tagger::Tagger(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
const Tagger::Impl& Tagger::impl() const { return held(impl_, "Tagger", "load one with Tagger::load"); }
Tagger Tagger::load(const std::string& path, Weights weights) {
    LabellerFile file(SafetensorsFile::open(path), LabelsOf::steps);
    return Tagger(std::make_shared<const Impl>(std::move(file), weights));
}
Tagger Tagger::load(const void* bytes, size_t size, Weights weights) {
    LabellerFile file(in_memory(bytes, size), LabelsOf::steps);
    return Tagger(std::make_shared<const Impl>(std::move(file), weights));
}

const std::vector<std::string>& Tagger::labels() const { return impl().labels; }
const Vocabulary& Tagger::vocab() const { return impl().vocabulary; }
size_t Tagger::features() const { return impl().scaling.size(); }
const Network& Tagger::network() const { return impl().network; }
std::vector<double> Tagger::probabilities(std::string_view text) const { return impl().of_text(text); }
std::vector<double> Tagger::probabilities(const int32_t* ids, size_t n) const { return impl().of_ids(ids, n); }
std::vector<double> Tagger::probabilities(const double* x, size_t n) const { return impl().of_numbers(x, n); }
std::vector<size_t> Tagger::most_probable(const std::vector<double>& p) const {
    const size_t each = labels().size();
    if (p.size() % each) refuse({p.size(), " probabilities, expected ", each, " for each step, one for each label"});
    std::vector<size_t> best;
    for (size_t i = 0; i < p.size(); i += each) best.push_back(impl().most_probable(p.data() + i));
    return best;
}
void Tagger::scale(const double* numbers, float* x) const { impl().scale(numbers, x); }
void Tagger::softmax(const float* logits, double* probabilities) const { impl().softmax(logits, probabilities); }

struct Autoregressor::Impl {
    Impl(AutoregressorFile&& file, Weights weights)
        : network(network_in(file.network, checked(weights))),
          head(network_in(file.head, weights)),
          scaling(std::move(file.scaling)),
          fitted(network.initial_state()) {
        fitted.impl().layers.at(0).set(file.h.data(), file.c.empty() ? nullptr : file.c.data());
        last.assign(file.h.end() - static_cast<std::ptrdiff_t>(head.inputs()[0].size), file.h.end());
    }
    Network network, head;
    Scaling scaling;
    NetworkState fitted;
    std::vector<float> last;  // h of the top layer after the fitted series

    void check_bounded(const double* forecast) const {
        if (!std::all_of(forecast, forecast + scaling.size(), [](double x) { return std::isfinite(x); }))
            throw std::domain_error("the forecast overflows: it grows without bound");
    }

    // `ahead` is the forecast of the step after the state's.
    std::vector<double> forecast(size_t k, NetworkState& state, std::vector<float>& ahead) const {
        std::vector<double> all(k * scaling.size());
        for (size_t i = 0; i < k; ++i) {
            if (i) network.step({ahead.data()}, state, {ahead.data()});
            scaling.undo(ahead.data(), 1, all.data() + i * scaling.size());
            check_bounded(all.data() + i * scaling.size());
        }
        return all;
    }
};

Autoregressor::Autoregressor(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
const Autoregressor::Impl& Autoregressor::impl() const {
    return held(impl_, "Autoregressor", "load one with Autoregressor::load");
}
Autoregressor Autoregressor::load(const std::string& path, Weights weights) {
    return Autoregressor(std::make_shared<const Impl>(AutoregressorFile(SafetensorsFile::open(path)), weights));
}
Autoregressor Autoregressor::load(const void* bytes, size_t size, Weights weights) {
    return Autoregressor(std::make_shared<const Impl>(AutoregressorFile(in_memory(bytes, size)), weights));
}

size_t Autoregressor::width() const { return impl().scaling.size(); }
const Network& Autoregressor::network() const { return impl().network; }
NetworkState Autoregressor::initial_state() const { return impl().network.initial_state(); }
NetworkState Autoregressor::fitted_state() const { return impl().fitted; }

std::vector<double> Autoregressor::forecast(size_t k) const {
    const Impl& f = impl();
    std::vector<float> ahead(width());
    f.head.run({f.last.data()}, {1, 1}, {ahead.data()});
    NetworkState state = f.fitted;
    return f.forecast(k, state, ahead);
}

std::vector<double> Autoregressor::forecast(size_t k, const double* series, size_t steps) const {
    const Impl& f = impl();
    if (steps == 0) refuse({"the series is empty: expected at least one step"});
    check_pointer(series, "the series");
    std::vector<float> x(steps * width()), y(steps * width());
    f.scaling.apply(series, steps, x.data());
    NetworkState state = f.network.initial_state();
    const NetworkData inputs[] = {x.data()};
    float* const outputs[] = {y.data()};
    f.network.read(inputs, steps, state, outputs);
    std::vector<float> ahead(y.end() - static_cast<std::ptrdiff_t>(width()), y.end());
    return f.forecast(k, state, ahead);
}

void Autoregressor::step(const double* numbers, NetworkState& state, double* forecast) const {
    const Impl& f = impl();
    check_pointer(numbers, "the numbers");
    check_pointer(forecast, "the place for the forecast");
    thread_local std::vector<float> x;  // grows at the first call of a thread
    x.resize(width());
    f.scaling.apply(numbers, 1, x.data());
    f.network.step({x.data()}, state, {x.data()});
    f.scaling.undo(x.data(), 1, forecast);
    f.check_bounded(forecast);
}

}  // namespace v1
}  // namespace rnnfast
