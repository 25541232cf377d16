#include "models/linear_horizon.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rnnfast::core {

constexpr size_t level_width = 8;  // values whose mean is the level of a series without a season

const double HorizonSeries::unknown = std::numeric_limits<double>::quiet_NaN();

HorizonSeries::HorizonSeries(const Horizon& horizon, const std::vector<double>& z, size_t columns,
                             const std::vector<double>& outside)
    : horizon_(horizon), z_(z), outside_(outside), columns_(columns), sums_(z.size() + columns) {
    for (size_t i = 0; i < z.size(); ++i) sums_[i + columns] = sums_[i] + z[i];
}

// Number 0 to 3: sine and cosine of one period a season, then of two.
double HorizonSeries::wave(size_t number, size_t t) const {
    constexpr double pi = 3.141592653589793;
    const double angle =
        2 * pi * static_cast<double>(1 + number / 2) * static_cast<double>(t) / static_cast<double>(horizon_.season);
    return number % 2 ? std::cos(angle) : std::sin(angle);
}

double HorizonSeries::line(size_t column, size_t t, size_t ahead, const double* w) const {
    const size_t season = horizon_.season, width = season ? season : level_width, count = std::min(t + 1, width);
    const double now = at(column, t);
    double sum = 0;
    const auto term = [&](double value) { sum += *w++ * value; };
    // Places before the start of the series wrap around, to places beyond its end.
    term(1);
    term(now);
    term(at(column, t - 1));
    term(at(column, t - 2));
    term((sums_[(t + 1) * columns_ + column] - sums_[(t + 1 - count) * columns_ + column]) /
         static_cast<double>(count));
    const size_t back =
        season ? t + ahead - season * ((ahead + season - 1) / season) : 0;  // in the season of t + ahead
    if (season) {
        term(at(column, t - season));
        for (size_t i = 0; i < horizon_.seasons; ++i) term(at(column, back - i * season));
        for (size_t i = 0; i < 4; ++i) term(wave(i, t + ahead));
    }
    for (size_t i = 0; i < horizon_.exogenous; ++i) {
        const size_t place = (t + ahead) * horizon_.exogenous + i;
        term(place < outside_.size() ? outside_[place] : unknown);
    }
    switch (horizon_.base) {
        case Horizon::Base::zero:
            return sum;
        case Horizon::Base::last:
            return now + sum;
        case Horizon::Base::season:
            return at(column, back) + sum;
        case Horizon::Base::season_and_trend:
            break;
    }
    return at(column, back) + now - at(column, t - season) + sum;
}

void HorizonSeries::input(size_t column, size_t t, float* x) const {
    const auto put = [&](double value) { *x++ = static_cast<float>(value); };
    put(at(column, t));
    put(t ? at(column, t) - at(column, t - 1) : 0);
    for (size_t i = 0; horizon_.season && i < 4; ++i) put(wave(i, t));
    for (size_t i = 0; i < horizon_.exogenous; ++i) put(outside_[t * horizon_.exogenous + i]);
}

}  // namespace rnnfast::core
