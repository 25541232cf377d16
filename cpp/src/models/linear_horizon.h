// The linear part of rf.Forecaster: what a forecast of z[t + h] is made of when z is known up to t. The equations are
// those of python/rnnfast/estimators/linear_horizon.py, in double precision.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "runtime/named.h"

namespace rnnfast::core {

struct Horizon {
    // What forecasts depart from: nothing, the last value, the value a season before, that and the season's change.
    enum class Base { zero, last, season, season_and_trend };
    size_t steps = 0;    // H: how many are forecast
    size_t season = 0;   // 0: there is none
    size_t seasons = 0;  // how many before t + h are looked at: 0, 1 or 2
    size_t exogenous = 0;
    Base base = Base::zero;

    size_t terms() const { return 5 + exogenous + (season ? 5 + seasons : 0); }  // of the regression
    size_t width() const { return 2 + exogenous + (season ? 4 : 0); }            // of the network's input
};
template <>
struct Named<Horizon::Base> {
    static constexpr std::string_view names[] = {"zero", "last", "season", "season_and_trend"};
};

class HorizonSeries {
public:
    // z: [steps, columns], standardized; outside: [rows, exogenous]. Both must outlive this.
    HorizonSeries(const Horizon& horizon, const std::vector<double>& z, size_t columns,
                  const std::vector<double>& outside);

    size_t steps() const { return z_.size() / columns_; }
    double at(size_t column, size_t t) const { return t < steps() ? z_[t * columns_ + column] : unknown; }
    // The forecast of z[t + ahead] with the coefficients w: [terms]; NaN if a value that it needs is unknown.
    double line(size_t column, size_t t, size_t ahead, const double* w) const;
    // What the network reads at t, x: [width].
    void input(size_t column, size_t t, float* x) const;

private:
    static const double unknown;  // NaN
    double wave(size_t number, size_t t) const;

    const Horizon& horizon_;
    const std::vector<double>&z_, &outside_;
    size_t columns_;
    std::vector<double> sums_;  // [steps + 1, columns]
};

}  // namespace rnnfast::core
