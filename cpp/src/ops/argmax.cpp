#include "ops/argmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/parallel.h"

namespace rnnfast::core {

namespace {

constexpr float unit = 6e-8f;     // half of float's epsilon: what one operation may round
constexpr float margin = 1.001f;  // for the rounding of the bounds themselves
constexpr size_t block = 16;

double norm_of(const float* x, const float* y, size_t size) {  // |x - y|, or |x| without y
    double sum = 0;
    for (size_t i = 0; i < size; ++i) {
        const double d = static_cast<double>(x[i]) - (y ? static_cast<double>(y[i]) : 0.0);
        sum += d * d;
    }
    return std::sqrt(sum);
}

}  // namespace

void LargestOutput::pack(const Kernels& kernels, const float* weight, const float* bias, size_t inputs,
                         size_t outputs) {
    kernels_ = &kernels;
    rounded_ = PackedLinear(kernels, Weights::int8, inputs, outputs);
    rounded_.pack(weight, nullptr);
    bias_ = Buffer(outputs);
    std::copy_n(bias, outputs, bias_.data());
    error_ = Buffer(outputs);
    norm_ = Buffer(outputs);
    bias_rounding_ = Buffer(outputs);
    // A sum of `inputs` products, each rounded and added with rounding
    const double rounding = 2.0 * static_cast<double>(inputs + 2) * static_cast<double>(unit);
    Buffer row(inputs);
    for (size_t o = 0; o < outputs; ++o) {
        const float* w = weight + o * inputs;
        round_row(kernels, Weights::int8, w, inputs, row.data());
        const double error = norm_of(w, row.data(), inputs), norm = norm_of(row.data(), nullptr, inputs);
        error_.data()[o] = static_cast<float>(error + rounding * (error + norm)) * margin;
        norm_.data()[o] = static_cast<float>(norm) * margin;
        bias_rounding_.data()[o] = 16.0f * unit * std::abs(bias[o]);
    }
}

void LargestOutput::find(const PackedLinear& exact, const float* x, size_t rows, const std::vector<int32_t>& never,
                         int32_t* largest, Scratch& s) const {
    const size_t outputs = exact.outputs(), inputs = exact.inputs();
    // Of each row what int8 makes of it, and of what that leaves over: the weights are read once for both.
    s.parts.reserve(2 * rows * inputs);
    for (size_t r = 0; r < rows; ++r) {
        const float* row = x + r * inputs;
        float *first = s.parts.data() + 2 * r * inputs, *rest = first + inputs;
        round_row(*kernels_, Weights::int8, row, inputs, first);
        for (size_t k = 0; k < inputs; ++k) rest[k] = row[k] - first[k];
    }
    s.outputs.reserve(2 * rows * outputs);
    rounded_.forward(s.parts.data(), inputs, 2 * rows, s.outputs.data(), s.left);
    constexpr double work = 8;  // operations for each output
    const size_t threads = std::min(threads_for(work * static_cast<double>(rows * outputs)), rows);
    const size_t each = round_up(outputs, block), panel = exact.panel_width();
    s.bounds.reserve(threads * each);
    s.exact.reserve(threads * panel);
    parallel(threads, [&](const Team& team) {
        const Range own = split(rows, team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r)
            largest[r] =
                find(exact, x + r * inputs, s.parts.data() + 2 * r * inputs, never, s.outputs.data() + 2 * r * outputs,
                     s.bounds.data() + team.index * each, s.exact.data() + team.index * panel);
    });
}

int32_t LargestOutput::find(const PackedLinear& exact, const float* x, const float* parts,
                            const std::vector<int32_t>& never, float* approximate, float* bounds, float* panel) const {
    const size_t outputs = exact.outputs(), inputs = exact.inputs();
    thread_local std::vector<float> rest;  // grows at a thread's first call
    rest.resize(inputs);
    round_row(*kernels_, Weights::int8, parts + inputs, inputs, rest.data());
    const double length_of_rest = norm_of(parts + inputs, nullptr, inputs);
    const float length = static_cast<float>(norm_of(x, nullptr, inputs)) * margin;
    const float off = static_cast<float>(norm_of(parts + inputs, rest.data(), inputs) +
                                         16.0 * static_cast<double>(unit) * length_of_rest) *
                      margin;
    const float* second = approximate + outputs;
    for (size_t o = 0; o < outputs; ++o) approximate[o] = approximate[o] + second[o] + bias_.data()[o];
    constexpr float none = -std::numeric_limits<float>::infinity();
    for (const int32_t id : never) approximate[id] = none;

    for (const int32_t id : never) bounds[id] = 0.0f;

    float least[block];  // the largest of what outputs are at least
    std::fill(least, least + block, none);
    const float *error = error_.data(), *norm = norm_.data(), *rounding = bias_rounding_.data();
    for (size_t o = 0; o < outputs; ++o)
        bounds[o] =
            margin * (error[o] * length + norm[o] * off + rounding[o] + 16.0f * unit * std::abs(approximate[o]));
    size_t o = 0;
    for (; o + block <= outputs; o += block)
        for (size_t i = 0; i < block; ++i) {
            const float low = approximate[o + i] - bounds[o + i];
            least[i] = low > least[i] ? low : least[i];
        }
    for (; o < outputs; ++o) least[0] = std::max(least[0], approximate[o] - bounds[o]);
    const float bar = *std::max_element(least, least + block);

    float best = none;
    int32_t found = -1;
    bool nan = false;
    const size_t width = exact.panel_width();
    for (size_t first = 0; first < outputs; first += width) {
        const size_t count = std::min(width, outputs - first);
        bool chance = false;  // a NaN has one too: the exact output then tells
        for (size_t i = 0; i < count; ++i) chance |= !(approximate[first + i] + bounds[first + i] < bar);
        if (!chance) continue;
        exact.forward_columns(x, first, count, panel);
        for (const int32_t id : never)
            if (static_cast<size_t>(id) >= first && static_cast<size_t>(id) < first + count)
                panel[static_cast<size_t>(id) - first] = none;
        for (size_t i = 0; i < count; ++i) nan |= panel[i] != panel[i];
        for (size_t i = 0; i < count; ++i)
            if (panel[i] > best) {
                best = panel[i];
                found = static_cast<int32_t>(first + i);
            }
    }
    return nan || !std::isfinite(best) ? -1 : found;
}

}  // namespace rnnfast::core
