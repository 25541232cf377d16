#include "ops/largest_outputs.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "runtime/parallel.h"

namespace rnnfast::core {

namespace {

constexpr float unit = 6e-8f;     // half of float's epsilon: what one operation may round
constexpr float margin = 1.001f;  // for the rounding of the bounds themselves
constexpr float tiny = 1e-30f;    // more than what underflow loses, of a norm or of a sum
constexpr float huge = 1e37f;     // up to here no sum overflows on the way
constexpr float none = -std::numeric_limits<float>::infinity();
constexpr size_t block = unit_block;

// |x - y|, or |x| without y
double norm_of(const float* x, const float* y, size_t size) {
    constexpr size_t lanes = 8;
    double sums[lanes] = {};
    const auto add = [&](size_t i, size_t lane) {
        const double d = static_cast<double>(x[i]) - (y ? static_cast<double>(y[i]) : 0.0);
        sums[lane] += d * d;
    };
    size_t i = 0;
    for (; i + lanes <= size; i += lanes)
        for (size_t lane = 0; lane < lanes; ++lane) add(i + lane, lane);
    for (; i < size; ++i) add(i, 0);
    return std::sqrt(std::accumulate(sums, sums + lanes, 0.0));
}

// round_row in int8. words: [size / 4 + 2]
void round_to_int8(const Kernels& kernels, const float* row, size_t size, float* words, float* rounded) {
    kernels.gemm[gemm_int8][gemm_wide].along(size, row, words);
    const float scale = words[(size + 3) / 4];
    const auto* bytes = reinterpret_cast<const uint8_t*>(words);
    for (size_t i = 0; i < size; ++i) rounded[i] = static_cast<float>(static_cast<int>(bytes[i]) - 128) * scale;
}

// Numbers that a loop takes at a time: not so few that the compiler unrolls it, which leaves it scalar.
constexpr size_t strip = 64;
// Groups of 16 outputs, a strip apart from each other: the k largest of the groups' maxima are of k outputs.
constexpr size_t group = 16;
size_t groups(size_t outputs) { return (outputs + group * strip - 1) / (group * strip) * strip; }

// Reorders x.
float kth_largest(float* x, size_t size, size_t k) {
    std::nth_element(x, x + (k - 1), x + size, std::greater<>());
    return x[k - 1];
}

// The largest of some bounds; infinity if one is NaN.
float most_of(const float* bounds, size_t count) {
    float most = none;
    for (size_t i = 0; i < count; ++i)
        if (!(bounds[i] <= most)) most = bounds[i] == bounds[i] ? bounds[i] : -none;
    return most;
}

bool below(const float* bounds, size_t count, float bar) {
    int all = 1;
    for (size_t i = 0; i < count; ++i) all &= bounds[i] < bar;
    return all != 0;
}

}  // namespace

void LargestOutputs::pack(const Kernels& kernels, const float* weight, const float* bias, size_t inputs,
                          size_t outputs) {
    kernels_ = &kernels;
    rounded_ = PackedLinear(kernels, Weights::int8, inputs, outputs);
    rounded_.pack(weight, nullptr);
    bias_ = Buffer(outputs);
    std::copy_n(bias, outputs, bias_.data());
    error_ = Buffer(outputs);
    // A sum of `inputs` products, each rounded and added with rounding
    const double rounding = 2.0 * static_cast<double>(inputs + 2) * static_cast<double>(unit);
    const size_t threads = threads_for(4.0 * static_cast<double>(inputs * outputs));
    const size_t row_size = round_up(inputs, block), words_size = round_up(inputs / 4 + 2, block);
    Buffer rows(threads * (row_size + words_size));
    std::vector<float> longest(threads, 0.0f);
    parallel(threads, [&](const Team& team) {
        const Range own = split(outputs, team.size, team.index, block);
        float *row = rows.data() + team.index * (row_size + words_size), most = 0;
        for (size_t o = own.begin; o < own.end; ++o) {
            const float* w = weight + o * inputs;
            round_to_int8(kernels, w, inputs, row + row_size, row);
            const double error = norm_of(w, row, inputs), norm = norm_of(row, nullptr, inputs);
            error_.data()[o] = static_cast<float>(error + rounding * (error + norm)) * margin + tiny;
            most = std::max(most, static_cast<float>(norm) * margin + error_.data()[o]);  // not a NaN: the bound is one
        }
        longest[team.index] = most;
    });
    longest_ = *std::max_element(longest.begin(), longest.end());
}

// Of each row what int8 makes of it, and of what that leaves over: the weights are read once for both.
void LargestOutputs::approximate(const float* x, size_t rows, Scratch& s, size_t most_threads) const {
    const size_t outputs = rounded_.outputs(), inputs = rounded_.inputs();
    s.parts.reserve(2 * rows * inputs);
    for (size_t r = 0; r < rows; ++r) {
        const float* row = x + r * inputs;
        float *first = s.parts.data() + 2 * r * inputs, *rest = first + inputs;
        round_row(*kernels_, Weights::int8, row, inputs, first);
        for (size_t k = 0; k < inputs; ++k) rest[k] = row[k] - first[k];
    }
    s.outputs.reserve(2 * rows * outputs);
    rounded_.product(s.parts.data(), inputs, 2 * rows, s.outputs.data(), s.left, most_threads);
}

// Returns what at least `count` outputs reach. An output whose upper bound is below it is not among the `count`
// largest; a NaN is not below it, so that output is computed and tells.
float LargestOutputs::bounds(const Row& row, const std::vector<int32_t>& never, size_t count) const {
    const size_t outputs = rounded_.outputs(), inputs = rounded_.inputs();
    thread_local std::vector<float> rest;  // grows at a thread's first call
    rest.resize(inputs);
    round_row(*kernels_, Weights::int8, row.parts + inputs, inputs, rest.data());
    const double length_of_rest = norm_of(row.parts + inputs, nullptr, inputs);
    const float length = static_cast<float>(norm_of(row.x, nullptr, inputs)) * margin * margin + tiny;
    const float off = static_cast<float>(norm_of(row.parts + inputs, rest.data(), inputs) +
                                         16.0 * static_cast<double>(unit) * length_of_rest) *
                          margin +
                      tiny;
    float* y = row.outputs;
    for (const int32_t id : never) y[id] = none;
    const float *second = y + outputs, *bias = bias_.data(), *error = error_.data();
    const float of_x = margin * longest_ * off + tiny, rounding = 17.0f * unit;
    float* tops = row.tops;
    const auto bound = [&](size_t first, size_t valid) {
        for (size_t i = 0; i < valid; ++i) {
            const size_t o = first + i;
            const float about = y[o] + second[o] + bias[o];
            const float most_error = error[o] * length + of_x + rounding * (std::abs(about) + std::abs(bias[o]));
            const float least = about - most_error;
            tops[i] = least > tops[i] ? least : tops[i];
            y[o] = about + most_error;
        }
    };
    std::fill_n(tops, groups(outputs), none);
    for (size_t first = 0; first < outputs; first += strip, tops += first % (group * strip) ? 0 : strip)
        bound(first, std::min(strip, outputs - first));
    for (const int32_t id : never) y[id] = none;
    if (groups(outputs) < count) return none;
    const float bar = kth_largest(row.tops, groups(outputs), count);
    return longest_ * length < huge && std::abs(bar) < huge ? bar : none;
}

// Outputs s.chances[begin] ... [end] exactly, into y.
void LargestOutputs::compute(const Exact& exact, Range range, float* y, Scratch& s) const {
    const PackedLinear& linear = exact.linear;
    const size_t outputs = linear.outputs(), inputs = linear.inputs();
    for (size_t i = range.begin; i < range.end && !exact.weight; ++i) {
        const size_t first = s.chances[i].first;
        linear.forward_columns(exact.x, first, std::min(block, outputs - first), y + first);
    }
    float sums[block], zeros[block] = {};
    const float* lines[block];
    for (size_t i = range.begin; i < range.end && exact.weight; i += block) {
        const size_t count = std::min(block, range.end - i);
        for (size_t j = 0; j < block; ++j)
            lines[j] = exact.weight + s.chances[i + std::min(j, count - 1)].first * inputs;
        UnpackedProduct p;
        p.depth = inputs;
        p.columns = block;
        p.a = exact.x;
        p.lines = lines;
        p.start = zeros;
        p.c = sums;
        kernels_->product().with_columns(p);
        for (size_t j = 0; j < count; ++j) {
            const size_t o = s.chances[i + j].first;
            y[o] = sums[j] + bias_.data()[o];
        }
    }
}

// What at least `count` outputs reach, of those computed so far.
float LargestOutputs::reached(size_t computed, size_t together, size_t count, const float* y, Scratch& s) const {
    s.found.clear();
    for (size_t i = 0; i < computed; ++i)
        for (size_t o = s.chances[i].first; o < std::min(s.chances[i].first + together, rounded_.outputs()); ++o)
            if (y[o] == y[o]) s.found.push_back(y[o]);
    return s.found.size() < count ? none : kth_largest(s.found.data(), s.found.size(), count);
}

void LargestOutputs::largest(const Exact& exact, size_t count, float* y, Scratch& s, size_t most_threads) const {
    const size_t outputs = rounded_.outputs(), inputs = rounded_.inputs();
    approximate(exact.x, 1, s, most_threads);
    s.tops.reserve(groups(outputs));
    const size_t together = exact.weight ? 1 : block;  // outputs of a chance: in panels, the weights of a block
    const float bar = bounds({exact.x, s.parts.data(), s.outputs.data(), s.tops.data()}, {}, count);
    s.chances.clear();
    for (size_t first = 0; first < outputs; first += strip) {
        const size_t end = std::min(first + strip, outputs);
        if (below(s.outputs.data() + first, end - first, bar)) continue;
        for (size_t o = first; o < end; o += together)
            if (const float most = most_of(s.outputs.data() + o, std::min(together, end - o)); most >= bar)
                s.chances.push_back({most, o});
    }
    if (s.chances.size() > outputs / block / 2)
        return exact.linear.forward(exact.x, inputs, 1, y, s.left, most_threads);
    std::fill_n(y, outputs, none);
    const auto compute_all = [&](size_t begin, size_t end) {
        const double work = 2.0 * static_cast<double>((end - begin) * block * inputs);
        parallel(std::min(threads_for(work), most_threads), [&](const Team& team) {
            const Range own = split(end - begin, team.size, team.index, block);
            compute(exact, {begin + own.begin, begin + own.end}, y, s);
        });
    };
    // The outputs that promise most raise the bar for the others: exact, they are nearer to it than their bounds.
    s.found.resize(s.chances.size());
    std::transform(s.chances.begin(), s.chances.end(), s.found.begin(), [](const Chance& c) { return c.most; });
    const float first_bar = s.found.size() < count ? bar : kth_largest(s.found.data(), s.found.size(), count);
    const auto rest =
        std::partition(s.chances.begin(), s.chances.end(), [&](const Chance& c) { return c.most >= first_bar; });
    const auto some = static_cast<size_t>(rest - s.chances.begin());
    compute_all(0, some);
    const float raised = std::max(bar, reached(some, together, count, y, s));
    const auto end = std::remove_if(rest, s.chances.end(), [&](const Chance& c) { return c.most < raised; });
    compute_all(some, static_cast<size_t>(end - s.chances.begin()));
}

void LargestOutputs::argmax(const PackedLinear& exact, const float* x, size_t rows, const std::vector<int32_t>& never,
                            int32_t* largest, Scratch& s) const {
    const size_t outputs = exact.outputs(), inputs = exact.inputs();
    approximate(x, rows, s, all_threads);
    constexpr double work = 8;  // operations for each output
    const size_t threads = std::min(threads_for(work * static_cast<double>(rows * outputs)), rows);
    const size_t each = groups(outputs), panel = exact.panel_width();
    s.tops.reserve(threads * each);
    s.exact.reserve(threads * panel);
    parallel(threads, [&](const Team& team) {
        const Range own = split(rows, team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r)
            largest[r] = argmax(exact,
                                {x + r * inputs, s.parts.data() + 2 * r * inputs, s.outputs.data() + 2 * r * outputs,
                                 s.tops.data() + team.index * each},
                                never, s.exact.data() + team.index * panel);
    });
}

int32_t LargestOutputs::argmax(const PackedLinear& exact, const Row& row, const std::vector<int32_t>& never,
                               float* panel) const {
    const size_t outputs = exact.outputs(), width = exact.panel_width();
    const float bar = bounds(row, never, 1);
    float best = none;
    int32_t found = -1;
    bool nan = false;
    for (size_t first = 0; first < outputs; first += width) {
        const size_t count = std::min(width, outputs - first);
        if (below(row.outputs + first, count, bar)) continue;
        exact.forward_columns(row.x, first, count, panel);
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
