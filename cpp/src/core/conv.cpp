#include "core/conv.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/random.h"

namespace rnnfast {

namespace {

// Taps of output step t that fall inside an input of `steps`.
Range taps_inside(const Taps& taps, size_t steps, size_t t) {
    const auto first_from = [&](size_t step) {  // the first tap that reads `step` or later
        const ptrdiff_t gap = static_cast<ptrdiff_t>(step) + taps.before - static_cast<ptrdiff_t>(t);
        if (gap <= 0) return size_t{0};
        return std::min(taps.count, (static_cast<size_t>(gap) + taps.dilation - 1) / taps.dilation);
    };
    return {first_from(0), first_from(steps)};
}

// Output steps [t, end) whose taps are all the same.
size_t end_of_run(const Taps& taps, size_t steps, size_t t, size_t last) {
    const Range first = taps_inside(taps, steps, t);
    for (++t; t < last; ++t) {
        const Range next = taps_inside(taps, steps, t);
        if (next.begin != first.begin || next.end != first.end) break;
    }
    return t;
}

// steps x rows of a layout as a product's rows, near neighbours one after another.
template <class Pattern, class Float>
Pattern pattern(Float* base, const Layout& layout, size_t steps, size_t rows) {
    if (layout.step_stride < layout.row_stride) return {base, layout.step_stride, steps, layout.row_stride};
    return {base, layout.row_stride, rows, layout.step_stride};
}

}  // namespace

void convolve(const Team& team, const PackedMatrix& weights, const float* start, const Taps& taps, const float* x,
              const Layout& in, float* y, const Layout& out) {
    const bool by_step = out.steps >= out.rows;
    const Range steps = by_step ? split(out.steps, team.size, team.index) : Range{0, out.steps};
    const Range rows = by_step ? Range{0, out.rows} : split(out.rows, team.size, team.index);
    if (rows.size() == 0) return;
    const size_t width = weights.width();
    for (size_t t = steps.begin; t < steps.end;) {
        const Range inside = taps_inside(taps, in.steps, t);
        const size_t end = end_of_run(taps, in.steps, t, steps.end);
        if (inside.size() == 0) {  // nothing but padding under all taps
            for (; t < end; ++t)
                for (size_t n = rows.begin; n < rows.end; ++n) std::copy_n(start, out.channels, y + out.offset(t, n));
            continue;
        }
        const size_t from = t + inside.begin * taps.dilation - static_cast<size_t>(taps.before);
        Gemm g;
        g.rows = (end - t) * rows.size();
        g.depth = inside.size() * in.channels;
        g.columns = out.channels;
        g.a = pattern<ConstRows>(x + in.offset(from, rows.begin), in, end - t, rows.size());
        g.inner = in.channels;
        g.outer_step = taps.dilation * in.step_stride;
        g.panels = weights.panel(0) + inside.begin * in.channels * width;
        g.panel_stride = weights.depth() * width;
        g.start = start;
        g.c = pattern<Rows>(y + out.offset(t, rows.begin), out, end - t, rows.size());
        weights.kernel().run(g);
        t = end;
    }
}

void pack_positions(const float* x, const Layout& in, const Positions& positions, size_t width, float* panels) {
    const size_t count = positions.count();
    size_t position = 0;
    for (size_t t = positions.steps.begin; t < positions.steps.end; ++t)
        for (size_t n = positions.rows.begin; n < positions.rows.end; ++n, ++position) {
            const float* row = x + in.offset(t, n);
            for (size_t c = 0; c < in.channels; c += width) {
                float* to = panels + c * count + position * width;
                const size_t valid = std::min(width, in.channels - c);
                std::copy_n(row + c, valid, to);
                std::fill(to + valid, to + width, 0.0f);
            }
        }
}

size_t convolve_gradient_scratch(const Kernels& kernels, size_t inputs, size_t outputs) {
    return position_block * (round_up(inputs, kernels.gemm.width) + round_up(outputs, unit_block));
}

void convolve_gradient(const Team& team, const Kernels& kernels, const Taps& taps, const float* x, const Layout& in,
                       const float* dy, const Layout& out, float* gradient, float* scratch) {
    const Range own = split(out.channels, team.size, team.index, unit_block);
    if (own.size() == 0) return;
    const size_t width = kernels.gemm.width, columns = taps.count * in.channels;
    float* panels = scratch;
    float* left = scratch + position_block * round_up(in.channels, width);  // dy^T: [own / 16][positions][16]
    for_each_block(out.steps, out.rows, [&](const Positions& block) {
        Layout own_dy = out;
        own_dy.channels = own.size();
        pack_positions(dy + own.begin, own_dy, block, unit_block, left);
        for (size_t tap = 0; tap < taps.count; ++tap) {
            const ptrdiff_t shift = static_cast<ptrdiff_t>(tap * taps.dilation) - taps.before;
            const auto clip = [&](size_t t) {  // the input step under output step t, kept inside the sequence
                const ptrdiff_t at = static_cast<ptrdiff_t>(t) + shift;
                return static_cast<size_t>(std::clamp(at, ptrdiff_t{0}, static_cast<ptrdiff_t>(in.steps)));
            };
            const Positions source{{clip(block.steps.begin), clip(block.steps.end)}, block.rows};
            if (source.count() == 0) continue;
            const auto skipped =
                static_cast<size_t>(static_cast<ptrdiff_t>(source.steps.begin) - shift) - block.steps.begin;
            pack_positions(x, in, source, width, panels);
            Gemm g;
            g.rows = own.size();
            g.depth = source.count();
            g.columns = in.channels;
            g.a = {left + skipped * block.rows.size() * unit_block, 1, unit_block, block.count() * unit_block};
            g.step = unit_block;
            g.panels = panels;
            g.c = {gradient + own.begin * columns + tap * in.channels, columns, 0, 0};
            kernels.gemm.run(g);
        }
    });
}

Conv1d::Conv1d(const Conv1dOptions& options, uint64_t seed, const Kernels& kernels)
    : options_(options), kernels_(&kernels) {
    const size_t C = options.in_channels, O = options.out_channels, k = options.kernel_size;
    constexpr size_t most = 0x7fffffff;  // products of two sizes then fit 64 bits
    if (std::max({C, O, k, options.dilation, options.before, options.after}) > most || k * C > most)
        throw std::invalid_argument("Conv1d: sizes must be at most " + std::to_string(most));
    if (std::min({C, O, k, options.dilation}) == 0)
        throw std::invalid_argument("Conv1d: in_channels, out_channels, kernel_size and dilation must be at least 1");
    weight_ = make_parameter("weight", {O, C, k});
    bias_ = make_parameter("bias", {options.bias ? O : 0});
    const double bound = 1.0 / std::sqrt(static_cast<double>(C * k));  // PyTorch's initialisation
    uint64_t stream = 0;
    for (Parameter* p : parameters()) {
        const uint64_t key = random_key(seed, ++stream);
        for (size_t i = 0; i < p->size(); ++i)
            p->value.data()[i] = static_cast<float>((2.0 * random_uniform(key, i) - 1.0) * bound);
    }
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
    Buffer turned(weight_.size(), Buffer::Uninitialised{});
    for (size_t o = 0; o < options_.out_channels; ++o)
        for (size_t tap = 0; tap < k; ++tap)
            for (size_t c = 0; c < C; ++c)
                turned.data()[(o * k + tap) * C + c] = weight_.value.data()[(o * C + c) * k + tap];
    return turned;
}

const Conv1d::Packed& Conv1d::packed_forward() const {
    return forward_.get([&](Packed& p) {
        if (p.weights.depth() == 0) {
            p.weights =
                PackedMatrix(kernels_->gemm, options_.kernel_size * options_.in_channels, options_.out_channels);
            p.start = Buffer(p.weights.padded_columns());
        }
        const Buffer turned = taps_first();
        p.weights.fill_from_columns([&](size_t o) { return turned.data() + o * p.weights.depth(); });
        if (options_.bias) std::copy_n(bias_.value.data(), options_.out_channels, p.start.data());
    });
}

// The input's gradient is a convolution of dy with the taps in reverse.
const Conv1d::Packed& Conv1d::packed_backward() const {
    return backward_.get([&](Packed& p) {
        const size_t C = options_.in_channels, O = options_.out_channels, k = options_.kernel_size;
        if (p.weights.depth() == 0) {
            p.weights = PackedMatrix(kernels_->gemm, k * O, C);
            p.start = Buffer(p.weights.padded_columns());
        }
        const Buffer turned = taps_first();
        p.weights.fill_from_rows([&](size_t i) { return turned.data() + (i % O * k + (k - 1 - i / O)) * C; });
    });
}

void Conv1d::forward(const float* x, const Layout& in, float* y, const Layout& out) const {
    const Packed& packed = packed_forward();
    const double flops = 2.0 * static_cast<double>(out.steps * out.rows) * static_cast<double>(weight_.size());
    parallel(threads_for(flops),
             [&](const Team& team) { convolve(team, packed.weights, packed.start.data(), taps(), x, in, y, out); });
}

void Conv1d::backward(const float* x, const Layout& in, const float* dy, const Layout& out, float* dx) {
    const Packed* packed = dx ? &packed_backward() : nullptr;
    const size_t C = options_.in_channels, O = options_.out_channels, k = options_.kernel_size;
    Taps reversed = taps();
    reversed.before = static_cast<ptrdiff_t>((k - 1) * options_.dilation) - reversed.before;
    const size_t threads =
        threads_for(4.0 * static_cast<double>(out.steps * out.rows) * static_cast<double>(weight_.size()));
    Buffer gradient(k > 1 ? weight_.size() : 0);  // [O, k, C]
    float* sums = k > 1 ? gradient.data() : weight_.grad.data();
    const size_t each = convolve_gradient_scratch(*kernels_, C, O);
    Buffer scratch(threads * each, Buffer::Uninitialised{});
    parallel(threads, [&](const Team& team) {
        if (packed) convolve(team, packed->weights, packed->start.data(), reversed, dy, out, dx, in);
        convolve_gradient(team, *kernels_, taps(), x, in, dy, out, sums, scratch.data() + team.index * each);
        const Range own = split(O, team.size, team.index, unit_block);
        if (own.size() == 0) return;
        if (options_.bias)
            kernels_->column_sums(out.steps * out.rows, own.size(), dy + own.begin, O, bias_.grad.data() + own.begin);
        for (size_t o = own.begin; k > 1 && o < own.end; ++o)
            for (size_t c = 0; c < C; ++c)
                for (size_t tap = 0; tap < k; ++tap)
                    weight_.grad.data()[(o * C + c) * k + tap] += sums[(o * k + tap) * C + c];
    });
}

void Conv1d::step(const float* window, size_t rows, float* y) const {
    const Packed& packed = packed_forward();
    const Layout in = Layout::time_first(options_.kernel_size, rows, options_.in_channels);
    const Layout out = Layout::time_first(1, rows, options_.out_channels);
    const Taps side_by_side{options_.kernel_size, 1, 0};
    convolve(Team{0, 1, nullptr}, packed.weights, packed.start.data(), side_by_side, window, in, y, out);
}

}  // namespace rnnfast
