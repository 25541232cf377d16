#include "layers/conv1d.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "runtime/random.h"

namespace rnnfast::core {

Conv1d::Conv1d(const Conv1dOptions& options, std::optional<uint64_t> seed, const Kernels& kernels)
    : options_(options), kernels_(&kernels) {
    const size_t C = options.in_channels, O = options.out_channels, k = options.kernel_size;
    constexpr size_t most = 0x7fffffff;  // products of two sizes then fit 64 bits
    if (std::max({C, O, k, options.dilation, options.before, options.after}) > most || k * C > most)
        throw std::invalid_argument("Conv1d: sizes must be at most " + std::to_string(most));
    if (std::min({C, O, k, options.dilation}) == 0)
        throw std::invalid_argument("Conv1d: in_channels, out_channels, kernel_size and dilation must be at least 1");
    weight_ = make_parameter("weight", {O, C, k}, seed.has_value());
    bias_ = make_parameter("bias", {options.bias ? O : 0}, seed.has_value());
    const double bound = 1.0 / std::sqrt(static_cast<double>(C * k));  // PyTorch's initialization
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
    const size_t padded = steps + options_.before + options_.after;
    const size_t reach = options_.dilation * (options_.kernel_size - 1);
    if (steps == 0) throw std::invalid_argument("Conv1d: the input has no steps, expected at least one step");
    if (padded <= reach)
        throw std::invalid_argument("Conv1d: the input has " + std::to_string(steps) + " steps, with padding " +
                                    std::to_string(padded) + "; the kernel spans " + std::to_string(reach + 1) +
                                    ". Give more steps or more padding.");
    return padded - reach;
}

// The weight as [O, k, C], so that the channels of a tap lie side by side.
Buffer Conv1d::taps_first() const {
    const size_t C = options_.in_channels, k = options_.kernel_size;
    Buffer turned(weights(), Buffer::Uninitialised{});
    for (size_t o = 0; o < options_.out_channels; ++o)
        for (size_t tap = 0; tap < k; ++tap)
            for (size_t c = 0; c < C; ++c)
                turned.data()[(o * k + tap) * C + c] = weight_.value.data()[(o * C + c) * k + tap];
    return turned;
}

const Conv1d::Panels& Conv1d::packed_forward() const {
    return forward_.get([&](Panels& p) {
        if (p.weights.depth() == 0) {
            p.weights =
                PackedMatrix(kernels_->product(), options_.kernel_size * options_.in_channels, options_.out_channels);
            p.start = Buffer(p.weights.padded_columns());
        }
        const Buffer turned = taps_first();
        p.weights.fill_from_columns([&](size_t o) { return turned.data() + o * p.weights.depth(); });
        if (options_.bias) std::copy_n(bias_.value.data(), options_.out_channels, p.start.data());
    });
}

// The input's gradient is a convolution of dy with the taps in reverse.
const Conv1d::Panels& Conv1d::packed_backward() const {
    return backward_.get([&](Panels& p) {
        const size_t C = options_.in_channels, O = options_.out_channels, k = options_.kernel_size;
        if (p.weights.depth() == 0) {
            p.weights = PackedMatrix(kernels_->product(), k * O, C);
            p.start = Buffer(p.weights.padded_columns());
        }
        const Buffer turned = taps_first();
        p.weights.fill_from_rows([&](size_t i) { return turned.data() + (i % O * k + (k - 1 - i / O)) * C; });
    });
}

void Conv1d::forward(const ConstSequence& x, const Sequence& y) const {
    const Panels& packed = packed_forward();
    const auto positions = static_cast<double>(y.layout.steps * y.layout.rows);
    const Filter filter{packed.weights, packed.start.data(), taps()};
    parallel(threads_for(2.0 * positions * static_cast<double>(weights())),
             [&](const Team& team) { convolve(team, filter, x, y); });
}

void Conv1d::backward(const ConstSequence& x, const ConstSequence& dy, float* dx) {
    const Panels* packed = dx ? &packed_backward() : nullptr;
    const size_t positions = dy.layout.steps * dy.layout.rows;
    const size_t C = options_.in_channels, O = options_.out_channels, k = options_.kernel_size;
    Taps reversed = taps();
    reversed.before = static_cast<ptrdiff_t>((k - 1) * options_.dilation) - reversed.before;
    const size_t threads = threads_for(4.0 * static_cast<double>(positions) * static_cast<double>(weights()));
    Buffer gradient(k > 1 ? weights() : 0);  // [O, k, C]
    float* sums = k > 1 ? gradient.data() : weight_.grad.data();
    const size_t each = convolve_gradient_scratch(*kernels_, C, O);
    Buffer scratch(threads * each, Buffer::Uninitialised{});
    parallel(threads, [&](const Team& team) {
        if (packed) convolve(team, {packed->weights, packed->start.data(), reversed}, dy, {dx, x.layout});
        convolve_gradient(team, *kernels_, taps(), x, dy, sums, scratch.data() + team.index * each);
        const Range own = split(O, team.size, team.index, unit_block);
        if (own.size() == 0) return;
        if (options_.bias)
            kernels_->column_sums(positions, own.size(), dy.base + own.begin, O, bias_.grad.data() + own.begin);
        for (size_t o = own.begin; k > 1 && o < own.end; ++o)
            for (size_t c = 0; c < C; ++c)
                for (size_t tap = 0; tap < k; ++tap)
                    weight_.grad.data()[(o * C + c) * k + tap] += sums[(o * k + tap) * C + c];
    });
}

void Conv1d::step(const float* window, size_t rows, float* y) const {
    const Panels& packed = packed_forward();
    const Layout in = Layout::time_first(options_.kernel_size, rows, options_.in_channels);
    const Layout out = Layout::time_first(1, rows, options_.out_channels);
    const Filter side_by_side{packed.weights, packed.start.data(), {options_.kernel_size, 1, 0}};
    convolve(Team{0, 1, nullptr}, side_by_side, {window, in}, {y, out});
}

}  // namespace rnnfast::core
