// Classifiers, taggers, autoregressors and forecasters in the C API.
#include "api/c_api.h"
#include "rnnfast/estimators.hpp"

using namespace rnnfast::c_api;

struct rnnfast_classifier : Handle<rnnfast::Classifier, Kind::classifier> {
    using Handle::Handle;
};
struct rnnfast_autoregressor : Handle<rnnfast::Autoregressor, Kind::autoregressor> {
    using Handle::Handle;
};
struct rnnfast_tagger : Handle<rnnfast::Tagger, Kind::tagger> {
    using Handle::Handle;
};
struct rnnfast_forecaster : Handle<rnnfast::Forecaster, Kind::forecaster> {
    using Handle::Handle;
};

namespace {

const rnnfast::Classifier& checked_classifier(const rnnfast_classifier* c) {
    return checked(const_cast<rnnfast_classifier*>(c), "classifier");
}
const rnnfast::Tagger& checked_tagger(const rnnfast_tagger* t) {
    return checked(const_cast<rnnfast_tagger*>(t), "tagger");
}
const rnnfast::Autoregressor& checked_autoregressor(const rnnfast_autoregressor* f) {
    return checked(const_cast<rnnfast_autoregressor*>(f), "forecaster");
}
const rnnfast::Forecaster& checked_forecaster(const rnnfast_forecaster* f) {
    return checked(const_cast<rnnfast_forecaster*>(f), "forecaster");
}

// RNNFAST_AS_STORED is f32: estimators store nothing else.
rnnfast::Weights estimator_precision(int weights) {
    check_loadable(weights);
    return weights == RNNFAST_AS_STORED ? rnnfast::Weights::f32 : precision(weights);
}

// A classifier's probabilities, if there is room for them.
template <class Compute>
rnnfast_status classified(const rnnfast_classifier* classifier, double* p, size_t* labels, Compute compute) {
    return guarded([&] {
        const auto& c = checked_classifier(classifier);
        if (given(labels, "labels") < c.labels().size() || !p)
            return too_small(labels, c.labels().size(), "probabilities");
        const std::vector<double> found = compute(c);
        return give(found.data(), found.size(), p, labels, "probabilities");
    });
}

template <class Model>
rnnfast_status sizes(const Model& model, size_t* labels, size_t* features) {
    if (labels) *labels = model.labels().size();
    if (features) *features = model.features();
    return RNNFAST_OK;
}

rnnfast_status give_label(const std::vector<std::string>& labels, size_t number, char* label, size_t* size) {
    given(size, "size");
    if (number >= labels.size()) refuse_index({"label ", number, ": there are ", labels.size(), ", counted from 0"});
    return give_text(labels[number], label, size);
}

// A tagger's probabilities of `steps` steps, if there is room for them.
template <class X>
rnnfast_status tagged(const rnnfast::Tagger& t, const X* x, size_t steps, double* p, size_t* size) {
    const size_t needed = product(steps, t.labels().size(), "steps");
    if (given(size, "size") < needed || !p) return too_small(size, needed, "probabilities");
    const std::vector<double> found = t.probabilities(x, steps);
    return give(found.data(), found.size(), p, size, "probabilities");
}

}  // namespace

rnnfast_status rnnfast_classifier_load(const char* path, int weights, rnnfast_classifier** classifier) {
    return guarded([&] {
        given(classifier, "the place for the classifier") = nullptr;
        *classifier =
            new rnnfast_classifier(rnnfast::Classifier::load(&given(path, "path"), estimator_precision(weights)));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_classifier_load_memory(const void* bytes, size_t size, int weights,
                                              rnnfast_classifier** classifier) {
    return guarded([&] {
        given(classifier, "the place for the classifier") = nullptr;
        *classifier = new rnnfast_classifier(rnnfast::Classifier::load(bytes, size, estimator_precision(weights)));
        return RNNFAST_OK;
    });
}

void rnnfast_classifier_free(rnnfast_classifier* classifier) {
    if (classifier && classifier->tag == Kind::classifier) delete classifier;
}

rnnfast_status rnnfast_classifier_sizes(const rnnfast_classifier* classifier, size_t* labels, size_t* features) {
    return guarded([&] { return sizes(checked_classifier(classifier), labels, features); });
}

rnnfast_status rnnfast_classifier_label(const rnnfast_classifier* classifier, size_t number, char* label,
                                        size_t* size) {
    return guarded([&] { return give_label(checked_classifier(classifier).labels(), number, label, size); });
}

rnnfast_status rnnfast_classify(const rnnfast_classifier* classifier, const char* text, size_t size,
                                double* probabilities, size_t* labels) {
    return classified(classifier, probabilities, labels, [&](const rnnfast::Classifier& c) {
        return c.probabilities(std::string_view(size ? &given(text, "text") : "", size));
    });
}

rnnfast_status rnnfast_classify_ids(const rnnfast_classifier* classifier, const int32_t* ids, size_t count,
                                    double* probabilities, size_t* labels) {
    return classified(classifier, probabilities, labels,
                      [&](const rnnfast::Classifier& c) { return c.probabilities(ids, count); });
}

rnnfast_status rnnfast_classify_numbers(const rnnfast_classifier* classifier, const double* numbers, size_t steps,
                                        double* probabilities, size_t* labels) {
    return classified(classifier, probabilities, labels, [&](const rnnfast::Classifier& c) {
        product(steps, c.features(), "steps");
        return c.probabilities(numbers, steps);
    });
}

rnnfast_status rnnfast_tagger_load(const char* path, int weights, rnnfast_tagger** tagger) {
    return guarded([&] {
        given(tagger, "the place for the tagger") = nullptr;
        *tagger = new rnnfast_tagger(rnnfast::Tagger::load(&given(path, "path"), estimator_precision(weights)));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_tagger_load_memory(const void* bytes, size_t size, int weights, rnnfast_tagger** tagger) {
    return guarded([&] {
        given(tagger, "the place for the tagger") = nullptr;
        *tagger = new rnnfast_tagger(rnnfast::Tagger::load(bytes, size, estimator_precision(weights)));
        return RNNFAST_OK;
    });
}

void rnnfast_tagger_free(rnnfast_tagger* tagger) {
    if (tagger && tagger->tag == Kind::tagger) delete tagger;
}

rnnfast_status rnnfast_tagger_sizes(const rnnfast_tagger* tagger, size_t* labels, size_t* features) {
    return guarded([&] { return sizes(checked_tagger(tagger), labels, features); });
}

rnnfast_status rnnfast_tagger_label(const rnnfast_tagger* tagger, size_t number, char* label, size_t* size) {
    return guarded([&] { return give_label(checked_tagger(tagger).labels(), number, label, size); });
}

rnnfast_status rnnfast_tag(const rnnfast_tagger* tagger, const char* text, size_t size, double* probabilities,
                           size_t* room) {
    return guarded([&] {
        const auto& t = checked_tagger(tagger);
        const auto ids = t.vocab().encode(std::string_view(size ? &given(text, "text") : "", size));
        return tagged(t, ids.data(), ids.size(), probabilities, room);
    });
}

rnnfast_status rnnfast_tag_ids(const rnnfast_tagger* tagger, const int32_t* ids, size_t count, double* probabilities,
                               size_t* room) {
    return guarded([&] { return tagged(checked_tagger(tagger), ids, count, probabilities, room); });
}

rnnfast_status rnnfast_tag_numbers(const rnnfast_tagger* tagger, const double* numbers, size_t steps,
                                   double* probabilities, size_t* room) {
    return guarded([&] {
        const auto& t = checked_tagger(tagger);
        product(steps, t.features(), "steps");
        return tagged(t, numbers, steps, probabilities, room);
    });
}

rnnfast_status rnnfast_autoregressor_load(const char* path, int weights, rnnfast_autoregressor** forecaster) {
    return guarded([&] {
        given(forecaster, "the place for the forecaster") = nullptr;
        *forecaster =
            new rnnfast_autoregressor(rnnfast::Autoregressor::load(&given(path, "path"), estimator_precision(weights)));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_autoregressor_load_memory(const void* bytes, size_t size, int weights,
                                                 rnnfast_autoregressor** forecaster) {
    return guarded([&] {
        given(forecaster, "the place for the forecaster") = nullptr;
        *forecaster =
            new rnnfast_autoregressor(rnnfast::Autoregressor::load(bytes, size, estimator_precision(weights)));
        return RNNFAST_OK;
    });
}

void rnnfast_autoregressor_free(rnnfast_autoregressor* forecaster) {
    if (forecaster && forecaster->tag == Kind::autoregressor) delete forecaster;
}

rnnfast_status rnnfast_autoregressor_width(const rnnfast_autoregressor* forecaster, size_t* width) {
    return guarded([&] {
        given(width, "width") = checked_autoregressor(forecaster).width();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_autoregressor_state_new(const rnnfast_autoregressor* forecaster, int fitted,
                                               rnnfast_network_state** state) {
    return guarded([&] {
        given(state, "the place for the state") = nullptr;
        const auto& f = checked_autoregressor(forecaster);
        *state = new rnnfast_network_state(fitted ? f.fitted_state() : f.initial_state());
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_autoregressor_step(const rnnfast_autoregressor* forecaster, const double* numbers,
                                          rnnfast_network_state* state, double* forecast, size_t size) {
    return guarded([&] {
        const auto& f = checked_autoregressor(forecaster);
        if (const rnnfast_status room = check_room(size, f.width(), "forecast")) return room;
        f.step(numbers, checked(state, "state"), forecast);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_forecast(const rnnfast_autoregressor* forecaster, size_t k, const double* series, size_t steps,
                                double* forecast, size_t size) {
    return guarded([&] {
        const auto& f = checked_autoregressor(forecaster);
        size_t room = size;
        const size_t needed = product(k, f.width(), "k");
        if (size < needed || !forecast) return too_small(&room, needed, "forecast");
        product(steps, f.width(), "steps");
        const std::vector<double> found = series ? f.forecast(k, series, steps) : f.forecast(k);
        return give(found.data(), found.size(), forecast, &room, "forecast");
    });
}

rnnfast_status rnnfast_forecaster_load(const char* path, int weights, rnnfast_forecaster** forecaster) {
    return guarded([&] {
        given(forecaster, "the place for the forecaster") = nullptr;
        *forecaster =
            new rnnfast_forecaster(rnnfast::Forecaster::load(&given(path, "path"), estimator_precision(weights)));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_forecaster_load_memory(const void* bytes, size_t size, int weights,
                                              rnnfast_forecaster** forecaster) {
    return guarded([&] {
        given(forecaster, "the place for the forecaster") = nullptr;
        *forecaster = new rnnfast_forecaster(rnnfast::Forecaster::load(bytes, size, estimator_precision(weights)));
        return RNNFAST_OK;
    });
}

void rnnfast_forecaster_free(rnnfast_forecaster* forecaster) {
    if (forecaster && forecaster->tag == Kind::forecaster) delete forecaster;
}

rnnfast_status rnnfast_forecaster_sizes(const rnnfast_forecaster* forecaster, size_t* width, size_t* horizon,
                                        size_t* exogenous) {
    return guarded([&] {
        const auto& f = checked_forecaster(forecaster);
        if (width) *width = f.width();
        if (horizon) *horizon = f.horizon();
        if (exogenous) *exogenous = f.exogenous();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_predict_interval(const rnnfast_forecaster* forecaster, size_t k, const double* series,
                                        size_t steps, const double* exogenous, const rnnfast_interval* interval) {
    return guarded([&] {
        const auto& f = checked_forecaster(forecaster);
        const rnnfast_interval& to = given(interval, "interval");
        if (const rnnfast_status room = check_room(to.size, product(k, f.width(), "k"), "each result")) return room;
        product(product(steps, f.width(), "steps"), f.exogenous(), "steps");
        const auto found = series ? f.predict_interval(k, series, steps, exogenous) : f.predict_interval(k, exogenous);
        const auto copy = [&](const std::vector<double>& from, double* place) {
            if (place) std::memcpy(place, from.data(), from.size() * sizeof(double));
        };
        copy(found.median, to.median);
        copy(found.lower, to.lower);
        copy(found.upper, to.upper);
        return RNNFAST_OK;
    });
}
