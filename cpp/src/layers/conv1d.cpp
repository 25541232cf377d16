#include "layers/conv1d.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

Conv1d::Conv1d(const Conv1dOptions& options, std::optional<uint64_t> seed, const Kernels& kernels)
    : options_(options), kernels_(&kernels) {
    const size_t C = options.in_channels, O = options.out_channels, k = options.kernel_size;
    constexpr size_t most = 0x7fffffff;  // products of two sizes then fit 64 bits
    const size_t groups = options.groups;
    if (std::max({C, O, k, options.dilation, options.stride, options.before, options.after}) > most || k * C > most)
        refuse({"Conv1d: sizes must be at most ", most});
    if (std::min({C, O, k, options.dilation, options.stride, groups}) == 0)
        refuse({"Conv1d: in_channels, out_channels, kernel_size, dilation, stride and groups must be at least 1"});
    if (C % groups || O % groups)
        refuse({"Conv1d: groups is ", groups, ", in_channels ", C, " and out_channels ", O,
                ": expected a divisor of both"});
    weight_ = make_parameter("weight", {O, inputs(), k}, seed.has_value());
    bias_ = make_parameter("bias", {options.bias ? O : 0}, seed.has_value());
    const double bound = 1.0 / std::sqrt(static_cast<double>(inputs() * k));  // PyTorch's initialization
    uint64_t number = 0;
    for (Parameter* p : parameters()) uniform_(*p, bound, random_key(seed.value_or(0), ++number));
}

void Conv1d::load(const FileValues& values) {
    for (Parameter* p : parameters()) copy_values(*p, values);
    packed_forward();
    for (Parameter* p : parameters()) p->value = {};
}

void Conv1d::weights_changed() {
    forward_.weights_changed();
    backward_.weights_changed();
    stamp_.renew();
}

Parameters Conv1d::parameters() { return options_.bias ? Parameters{&weight_, &bias_} : Parameters{&weight_}; }

size_t Conv1d::output_steps(size_t steps) const {
    if (steps == 0) refuse({"Conv1d: the input has no steps, expected at least one step"});
    const size_t given = options_.output_steps(steps);
    if (given == 0)
        refuse({"Conv1d: the input has ", steps, " steps, with padding ", steps + options_.before + options_.after,
                "; the kernel spans ", options_.reach() + 1, ". Give more steps or more padding."});
    return given;
}

// The weight as [O, k, C], so that the channels of a tap lie side by side.
Buffer Conv1d::taps_first() const {
    const size_t C = inputs(), k = options_.kernel_size;
    Buffer turned(weights(), Buffer::Uninitialised{});
    for (size_t o = 0; o < options_.out_channels; ++o)
        for (size_t tap = 0; tap < k; ++tap)
            for (size_t c = 0; c < C; ++c)
                turned.data()[(o * k + tap) * C + c] = weight_.value.data()[(o * C + c) * k + tap];
    return turned;
}

const Conv1d::Groups& Conv1d::packed_forward() const {
    return forward_.get([&](Groups& groups) {
        const size_t O = outputs(), depth = options_.kernel_size * inputs();
        groups.resize(options_.groups);
        const Buffer turned = taps_first();
        for (size_t g = 0; g < groups.size(); ++g) {
            Panels& p = groups[g];
            if (p.weights.depth() == 0) {
                p.weights = PackedMatrix(kernels_->product(), depth, O);
                p.start = Buffer(p.weights.padded_columns());
            }
            p.weights.fill_from_columns([&](size_t o) { return turned.data() + (g * O + o) * depth; });
            if (options_.bias) std::copy_n(bias_.value.data() + g * O, O, p.start.data());
        }
    });
}

// The input's gradient is a convolution of dy with the taps in reverse.
const Conv1d::Groups& Conv1d::packed_backward() const {
    return backward_.get([&](Groups& groups) {
        const size_t C = inputs(), O = outputs(), k = options_.kernel_size;
        groups.resize(options_.groups);
        const Buffer turned = taps_first();
        for (size_t g = 0; g < groups.size(); ++g) {
            Panels& p = groups[g];
            if (p.weights.depth() == 0) {
                p.weights = PackedMatrix(kernels_->product(), k * O, C);
                p.start = Buffer(p.weights.padded_columns());
            }
            p.weights.fill_from_rows(
                [&](size_t i) { return turned.data() + ((g * O + i % O) * k + (k - 1 - i / O)) * C; });
        }
    });
}

void Conv1d::convolve_groups(const Team& team, const Groups& groups, const Taps& taps, const ConstSequence& x,
                             const Sequence& y) {
    const size_t C = x.layout.channels / groups.size(), O = y.layout.channels / groups.size();
    for (size_t g = 0; g < groups.size(); ++g)
        convolve(team, {groups[g].weights, groups[g].start.data(), taps}, channels_of(x, g * C, C),
                 channels_of(y, g * O, O));
}

void Conv1d::forward(const ConstSequence& x, const Sequence& y, size_t most_threads) const {
    const Groups& packed = packed_forward();
    const auto positions = static_cast<double>(y.layout.steps * y.layout.rows);
    parallel(std::min(most_threads, threads_for(2.0 * positions * static_cast<double>(weights()))),
             [&](const Team& team) { convolve_groups(team, packed, taps(), x, y); });
}

namespace {

// dy with zeros for the steps that a stride leaves out.
Sequence spread(const ConstSequence& dy, size_t stride, Buffer& memory) {
    const Layout& l = dy.layout;
    const Layout wide = Layout::time_first(l.steps ? (l.steps - 1) * stride + 1 : 0, l.rows, l.channels);
    memory = Buffer(wide.size());
    const Sequence all{memory.data(), wide};
    for (size_t t = 0; t < l.steps; ++t)
        for (size_t n = 0; n < l.rows; ++n) std::copy_n(dy.at(t, n), l.channels, all.at(t * stride, n));
    return all;
}

}  // namespace

// weight += sums [O, k, C / groups], unless they are the weight's own gradient; bias += sums of dy: of the outputs that
// this thread owns.
void Conv1d::add_bias_and_weights(const Team& team, const ConstSequence& dy, const float* sums) {
    const size_t C = inputs(), O = options_.out_channels, k = options_.kernel_size;
    const size_t positions = dy.layout.steps * dy.layout.rows;
    const Range own = split(O, team.size, team.index, unit_block);
    if (own.size() == 0) return;
    if (options_.bias)
        kernels_->column_sums(positions, own.size(), dy.base + own.begin, O, bias_.grad.data() + own.begin);
    for (size_t o = own.begin; sums != weight_.grad.data() && o < own.end; ++o)
        for (size_t c = 0; c < C; ++c)
            for (size_t tap = 0; tap < k; ++tap)
                weight_.grad.data()[(o * C + c) * k + tap] += sums[(o * k + tap) * C + c];
}

void Conv1d::backward(const ConstSequence& x, const ConstSequence& dy, float* dx) {
    const Groups* packed = dx ? &packed_backward() : nullptr;
    const size_t positions = dy.layout.steps * dy.layout.rows;
    const size_t C = inputs(), O = outputs(), groups = options_.groups, k = options_.kernel_size;
    const Taps reversed{k, options_.dilation, static_cast<ptrdiff_t>(options_.reach()) - taps().before};
    const size_t threads = threads_for(4.0 * static_cast<double>(positions) * static_cast<double>(weights()));
    Buffer gradient(k > 1 ? weights() : 0), wide;  // [O, k, C]
    float* sums = k > 1 ? gradient.data() : weight_.grad.data();
    const size_t each = convolve_gradient_scratch(*kernels_, C, O);
    Buffer scratch(threads * each, Buffer::Uninitialised{});
    const ConstSequence dy_of_dx = dx && options_.stride > 1 ? spread(dy, options_.stride, wide) : dy;
    parallel(threads, [&](const Team& team) {
        if (packed) convolve_groups(team, *packed, reversed, dy_of_dx, {dx, x.layout});
        // A thread owns some outputs of the only group, or some of several groups.
        const Team share = groups > 1 ? Team{0, 1, nullptr} : team;
        const Range own = groups > 1 ? split(groups, team.size, team.index) : Range{0, 1};
        for (size_t g = own.begin; g < own.end; ++g)
            convolve_gradient(share, *kernels_, taps(), channels_of(x, g * C, C), channels_of(dy, g * O, O),
                              sums + g * O * k * C, scratch.data() + team.index * each);
        if (groups > 1) team.wait();
        add_bias_and_weights(team, dy, sums);
    });
}

void Conv1d::step(const float* window, size_t rows, float* y) const {
    const Layout in = Layout::time_first(options_.kernel_size, rows, options_.in_channels);
    const Layout out = Layout::time_first(1, rows, options_.out_channels);
    convolve_groups(Team{0, 1, nullptr}, packed_forward(), {options_.kernel_size, 1, 0}, {window, in}, {y, out});
}

}  // namespace rnnfast::core
