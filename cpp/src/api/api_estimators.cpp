// The public classifiers and forecasters: checks at the boundary, then networks.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "models/estimator_file.h"
// Inner headers first, because the public headers declare other classes with the same names.
#include "api/api_network.h"
#include "rnnfast/estimators.hpp"

namespace rnnfast {
inline namespace v1 {

namespace {

SafetensorsFile in_memory(const void* bytes, size_t size) {
    return SafetensorsFile::view(checked_bytes(bytes, size), "the model in memory");
}

}  // namespace

struct Classifier::Impl {
    Impl(ClassifierFile&& file, Weights weights)
        : network(network_in(file.network, checked(weights))),
          vocabulary(std::make_shared<Vocabulary::Impl>(Vocabulary::Impl{std::move(file.tokens)})),
          scaling(std::move(file.scaling)),
          labels(std::move(file.labels)) {}
    Network network;
    Vocabulary vocabulary;
    Scaling scaling;
    std::vector<std::string> labels;

    void softmax(const float* logits, double* p) const {
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
    std::vector<double> probabilities(const NetworkData& input, size_t steps) const {
        if (steps == 0) throw std::invalid_argument("the sequence is empty: expected at least one step");
        std::vector<float> logits(labels.size());
        std::vector<double> p(labels.size());
        network.run({input}, {steps, 1}, {logits.data()});
        softmax(logits.data(), p.data());
        return p;
    }
    void check_reads(bool numbers) const {
        if (numbers == (scaling.size() != 0)) return;
        refuse({numbers ? "this classifier reads tokens: give a text or ids" : "this classifier reads numbers: give ",
                scaling.size(), " of them a step"});
    }
};

Classifier::Classifier(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
const Classifier::Impl& Classifier::impl() const { return held(impl_, "Classifier", "load one with Classifier::load"); }
Classifier Classifier::load(const std::string& path, Weights weights) {
    return Classifier(std::make_shared<const Impl>(ClassifierFile(SafetensorsFile::open(path)), weights));
}
Classifier Classifier::load(const void* bytes, size_t size, Weights weights) {
    return Classifier(std::make_shared<const Impl>(ClassifierFile(in_memory(bytes, size)), weights));
}

const std::vector<std::string>& Classifier::labels() const { return impl().labels; }
const Vocabulary& Classifier::vocab() const { return impl().vocabulary; }
size_t Classifier::features() const { return impl().scaling.size(); }
const Network& Classifier::network() const { return impl().network; }

std::vector<double> Classifier::probabilities(std::string_view text) const {
    impl().check_reads(false);
    const std::vector<int32_t> ids = vocab().encode(text);
    return probabilities(ids.data(), ids.size());
}
std::vector<double> Classifier::probabilities(const int32_t* ids, size_t steps) const {
    impl().check_reads(false);
    return impl().probabilities(ids, steps);
}
std::vector<double> Classifier::probabilities(const double* numbers, size_t steps) const {
    const Impl& c = impl();
    c.check_reads(true);
    if (steps) check_pointer(numbers, "the numbers");
    std::vector<float> x(steps * features());
    c.scaling.apply(numbers, steps, x.data());
    return c.probabilities(x.data(), steps);
}
const std::string& Classifier::most_probable(const std::vector<double>& p) const {
    if (p.size() != labels().size())
        refuse({p.size(), " probabilities, expected ", labels().size(), ", one for each label"});
    return labels()[static_cast<size_t>(std::max_element(p.begin(), p.end()) - p.begin())];
}

void Classifier::scale(const double* numbers, float* x) const {
    impl().check_reads(true);
    check_pointer(numbers, "the numbers");
    check_pointer(x, "x");
    impl().scaling.apply(numbers, 1, x);
}
void Classifier::softmax(const float* logits, double* probabilities) const {
    check_pointer(logits, "logits");
    check_pointer(probabilities, "the place for the probabilities");
    impl().softmax(logits, probabilities);
}

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
    if (steps == 0) throw std::invalid_argument("the series is empty: expected at least one step");
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
