// The public forecaster: a linear part, a network that runs over the series as streams, and conformal margins. The
// equations are those of python/rnnfast/estimators/quantiles.py.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>

#include "models/estimator_file.h"
// Inner headers first, because the public headers declare other classes with the same names.
#include "api/api_network.h"
#include "rnnfast/estimators.hpp"
#include "runtime/sentence.h"

namespace rnnfast {
inline namespace v1 {

namespace {

void check_finite(const double* values, size_t steps, size_t width, const char* what) {
    for (size_t i = 0; i < steps * width; ++i)
        if (!std::isfinite(values[i]))
            refuse({what, " has NaN or infinity at step ", i / width, ", column ", i % width});
}

// The conformal quantile of scores whose unknown ones are NaN: the ceil(level (n + 1))th smallest of n; 0 if none.
double margin_of(const double* scores, size_t count, double level) {
    std::vector<double> known;
    std::copy_if(scores, scores + count, std::back_inserter(known), [](double x) { return std::isfinite(x); });
    if (known.empty()) return 0;
    std::sort(known.begin(), known.end());
    const double place = std::ceil(level * static_cast<double>(known.size() + 1));
    return known[std::min(known.size(), static_cast<size_t>(std::max(place, 1.0))) - 1];
}

}  // namespace

struct Forecaster::Impl {
    Impl(ForecasterFile&& opened, Weights weights)
        : network(network_in(opened.network, checked(weights))), file(std::move(opened)) {}
    Network network;
    ForecasterParts file;

    size_t width() const { return file.scaling.size(); }
    size_t fitted_steps() const { return file.series.size() / (width() + file.horizon.exogenous); }
    double fitted(size_t t, size_t i) const { return file.series[t * (width() + file.horizon.exogenous) + i]; }

    // The series' numbers as the model reads them.
    std::vector<double> standardized(const std::vector<double>& x) const {
        std::vector<double> z(x.size());
        for (size_t i = 0; i < x.size(); ++i) {
            const size_t d = i % width();
            if (file.logs[d] && x[i] <= 0)
                refuse({"the series has ", json_number(x[i]), " at step ", i / width(),
                        ", and the model forecasts logarithms: expected numbers above 0"});
            z[i] = ((file.logs[d] ? std::log(x[i]) : x[i]) - file.scaling.mean[d]) / file.scaling.scale[d];
        }
        return z;
    }
    double natural(double z, size_t d) const {
        double x = z * file.scaling.scale[d] + file.scaling.mean[d];
        if (file.logs[d]) x = std::exp(x);
        if (!std::isfinite(x)) throw std::domain_error("the forecast overflows: it grows without bound");
        return x;
    }
    // The quantiles of z[t + h + 1] of column d, from what the network makes of it at t, y: [H, 3].
    void quantiles(const HorizonSeries& s, size_t d, size_t t, size_t h, const float* y, double* q) const {
        const size_t row = d * file.horizon.steps + h;
        const double line = s.line(d, t, h + 1, file.linear.data() + row * file.horizon.terms());
        for (size_t i = 0; i < 3; ++i) q[i] = line + file.spread[row] * static_cast<double>(y[3 * h + i]);
    }
    // Adds the errors that are known at the end of the series to the newest scores. The linear part has learnt from
    // the fitted series, so errors at its values are too small to count.
    void measure(const HorizonSeries& s, size_t t, const float* y, size_t from, std::vector<double>& scores) const {
        const size_t steps = file.horizon.steps, count = file.calibration;
        for (size_t d = 0; d < width(); ++d) {
            for (size_t h = 0; h < steps && t + h + 1 < s.steps(); ++h) {
                if (t + h + 1 < from) continue;
                double q[3];
                quantiles(s, d, t, h, y + d * 3 * steps, q);
                const double wanted = s.at(d, t + h + 1), score = std::max(q[0] - wanted, wanted - q[2]);
                if (!std::isfinite(score)) continue;
                double* newest = scores.data() + (d * steps + h) * count;
                std::copy(newest + 1, newest + count, newest);
                newest[count - 1] = score;
            }
        }
    }

    // x: [steps, width]; outside: [steps + k, exogenous]; from: the first step whose errors count.
    Interval predict(size_t k, const std::vector<double>& x, const std::vector<double>& outside, size_t from) const {
        const size_t horizon = file.horizon.steps;
        const std::vector<double> z = standardized(x);
        const HorizonSeries s(file.horizon, z, width(), outside);
        std::vector<NetworkState> states(width(), network.initial_state());
        std::vector<NetworkState*> at;
        for (NetworkState& state : states) at.push_back(&state);
        std::vector<float> read(width() * file.horizon.width()), y(width() * 3 * horizon);
        std::vector<double> scores = file.scores;
        const NetworkData inputs[] = {read.data()};
        float* const outputs[] = {y.data()};
        for (size_t t = 0; t < s.steps(); ++t) {
            for (size_t d = 0; d < width(); ++d) s.input(d, t, read.data() + d * file.horizon.width());
            if (!std::all_of(read.begin(), read.end(), [](float v) { return std::isfinite(v); }))
                refuse({"the series is too far from the fitted one for single precision"});
            network.step(inputs, at.data(), width(), outputs);
            measure(s, t, y.data(), from, scores);
        }
        Interval found;
        for (std::vector<double>* part : {&found.median, &found.lower, &found.upper}) part->resize(k * width());
        for (size_t d = 0; d < width(); ++d) {
            for (size_t h = 0; h < k; ++h) {
                double q[3];
                quantiles(s, d, s.steps() - 1, h, y.data() + d * 3 * horizon, q);
                if (!std::isfinite(q[0]) || !std::isfinite(q[1]) || !std::isfinite(q[2]))
                    refuse({"the series has ", s.steps(), " values, too few to look a season back; give more"});
                const double* of_h = scores.data() + (d * horizon + h) * file.calibration;
                const double margin = margin_of(of_h, file.calibration, file.interval);
                found.median[h * width() + d] = natural(q[1], d);
                found.lower[h * width() + d] = natural(std::min(q[0] - margin, q[1]), d);
                found.upper[h * width() + d] = natural(std::max(q[2] + margin, q[1]), d);
            }
        }
        return found;
    }
    std::vector<double> checked_outside(const double* exogenous, size_t k, size_t steps) const {
        const size_t columns = file.horizon.exogenous, rows = steps + k;
        if (k == 0 || k > file.horizon.steps)
            refuse({"k is ", k, ", expected 1 to ", file.horizon.steps, ", the fitted horizon"});
        if (columns == 0) return {};
        if (!exogenous) refuse({"exogenous is null, expected [", rows, ", ", columns, "]: the columns of the fit"});
        check_finite(exogenous, rows, columns, "exogenous");
        return {exogenous, exogenous + rows * columns};
    }
};

Forecaster::Forecaster(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
const Forecaster::Impl& Forecaster::impl() const { return held(impl_, "Forecaster", "load one with Forecaster::load"); }
Forecaster Forecaster::load(const std::string& path, Weights weights) {
    return Forecaster(std::make_shared<const Impl>(ForecasterFile(SafetensorsFile::open(path)), weights));
}
Forecaster Forecaster::load(const void* bytes, size_t size, Weights weights) {
    ForecasterFile file(SafetensorsFile::view(checked_bytes(bytes, size), "the model in memory"));
    return Forecaster(std::make_shared<const Impl>(std::move(file), weights));
}

size_t Forecaster::width() const { return impl().width(); }
size_t Forecaster::horizon() const { return impl().file.horizon.steps; }
size_t Forecaster::exogenous() const { return impl().file.horizon.exogenous; }

Forecaster::Interval Forecaster::predict_interval(size_t k, const double* exogenous) const {
    const Impl& f = impl();
    const std::vector<double> ahead = f.checked_outside(exogenous, k, 0);
    std::vector<double> x, outside;
    for (size_t t = 0; t < f.fitted_steps(); ++t) {
        for (size_t i = 0; i < width(); ++i) x.push_back(f.fitted(t, i));
        for (size_t i = 0; i < f.file.horizon.exogenous; ++i) outside.push_back(f.fitted(t, width() + i));
    }
    outside.insert(outside.end(), ahead.begin(), ahead.end());
    return f.predict(k, x, outside, f.fitted_steps());
}

Forecaster::Interval Forecaster::predict_interval(size_t k, const double* series, size_t steps,
                                                  const double* exogenous) const {
    const Impl& f = impl();
    if (steps == 0) refuse({"the series is empty: expected at least one step"});
    check_pointer(series, "the series");
    check_finite(series, steps, width(), "the series");
    const std::vector<double> x(series, series + steps * width());
    bool same = true;  // so far as both go
    for (size_t i = 0; same && i < std::min(steps, f.fitted_steps()) * width(); ++i)
        same = x[i] == f.fitted(i / width(), i % width());
    return f.predict(k, x, f.checked_outside(exogenous, k, steps), same ? f.fitted_steps() : 0);
}

}  // namespace v1
}  // namespace rnnfast
