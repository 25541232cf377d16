#include "ops/convolve.h"

#include <algorithm>

namespace rnnfast::core {

namespace {

// Taps of output step t that fall inside an input of `steps`.
Range taps_inside(const Taps& taps, size_t steps, size_t t) {
    const auto first_from = [&](size_t step) {  // the first tap that reads `step` or later
        const ptrdiff_t gap = static_cast<ptrdiff_t>(step) + taps.before - static_cast<ptrdiff_t>(t * taps.stride);
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

// steps x rows of a layout as a product's rows: the steps of a row one after another, or the rows of a step.
template <class Pattern, class Float>
Pattern pattern(const SequenceOf<Float>& from, const Positions& positions, bool by_steps) {
    const auto& [steps, rows] = positions;
    const size_t by_step = from.layout.step_stride, by_row = from.layout.row_stride;
    Float* base = from.at(steps.begin, rows.begin);
    if (by_steps) return {base, by_step, steps.size(), by_row};
    return {base, by_row, rows.size(), by_step};
}

// The steps `first`, `first + stride`, ... of a sequence, which has them.
ConstSequence every(size_t stride, ConstSequence x, size_t first) {
    x.base = x.at(first, 0);
    x.layout.step_stride *= stride;
    return x;
}

// Output steps among those of a block whose tap, `shift` steps from where the output's stride puts it, lies in a
// sequence of `steps`.
Range steps_under(Range block, size_t stride, ptrdiff_t shift, size_t steps) {
    const auto first_from = [&](size_t step) {
        const ptrdiff_t gap = static_cast<ptrdiff_t>(step) - shift;
        const size_t t = gap <= 0 ? 0 : (static_cast<size_t>(gap) + stride - 1) / stride;
        return std::clamp(t, block.begin, block.end);
    };
    return {first_from(0), first_from(steps)};
}

}  // namespace

void convolve(const Team& team, const Filter& filter, const ConstSequence& x, const Sequence& y) {
    const auto& [weights, start, taps] = filter;
    const Layout &in = x.layout, &out = y.layout;
    const bool by_step = out.steps >= out.rows;
    const Range steps = by_step ? split(out.steps, team.size, team.index) : Range{0, out.steps};
    const Range rows = by_step ? Range{0, out.rows} : split(out.rows, team.size, team.index);
    if (rows.size() == 0) return;
    const bool side_by_side = out.step_stride < out.row_stride;  // a row's steps in y
    const size_t width = weights.width();
    for (size_t t = steps.begin; t < steps.end;) {
        const Range inside = taps_inside(taps, in.steps, t);
        const size_t end = end_of_run(taps, in.steps, t, steps.end);
        if (inside.size() == 0) {  // nothing but padding under all taps
            for (; t < end; ++t)
                for (size_t n = rows.begin; n < rows.end; ++n) std::copy_n(start, out.channels, y.at(t, n));
            continue;
        }
        const size_t from = t * taps.stride + inside.begin * taps.dilation - static_cast<size_t>(taps.before);
        Gemm g;
        g.rows = (end - t) * rows.size();
        g.depth = inside.size() * in.channels;
        g.columns = out.channels;
        g.a = pattern<ConstRows>(every(taps.stride, x, from), {{0, end - t}, rows}, side_by_side);
        g.inner = in.channels;
        g.outer_step = taps.dilation * in.step_stride;
        if (g.outer_step == g.inner) g.inner = g.depth;  // all taps of a row side by side: one run
        g.panels = weights.panel(0) + inside.begin * in.channels * width;
        g.panel_stride = weights.depth() * width;
        g.start = start;
        g.c = pattern<Rows>(y, {{t, end}, rows}, side_by_side);
        weights.kernel().run(g);
        t = end;
    }
}

void pack_positions(const ConstSequence& x, const Positions& positions, size_t width, float* panels) {
    const size_t count = positions.count(), channels = x.layout.channels;
    size_t position = 0;
    for (size_t t = positions.steps.begin; t < positions.steps.end; ++t)
        for (size_t n = positions.rows.begin; n < positions.rows.end; ++n, ++position) {
            const float* row = x.at(t, n);
            for (size_t c = 0; c < channels; c += width) {
                float* to = panels + c * count + position * width;
                const size_t valid = std::min(width, channels - c);
                std::copy_n(row + c, valid, to);
                std::fill(to + valid, to + width, 0.0f);
            }
        }
}

size_t convolve_gradient_scratch(const Kernels& kernels, size_t inputs, size_t outputs) {
    return position_block * (round_up(inputs, kernels.product().width) + round_up(outputs, unit_block));
}

void convolve_gradient(const Team& team, const Kernels& kernels, const Taps& taps, const ConstSequence& x,
                       const ConstSequence& dy, float* gradient, float* scratch) {
    const Layout &in = x.layout, &out = dy.layout;
    const Range own = split(out.channels, team.size, team.index, unit_block);
    if (own.size() == 0) return;
    const size_t width = kernels.product().width, columns = taps.count * in.channels;
    float* panels = scratch;
    float* left = scratch + position_block * round_up(in.channels, width);  // dy^T: [own / 16][positions][16]
    for_each_block(out.steps, out.rows, [&](const Positions& block) {
        ConstSequence own_dy{dy.base + own.begin, out};
        own_dy.layout.channels = own.size();
        pack_positions(own_dy, block, unit_block, left);
        for (size_t tap = 0; tap < taps.count; ++tap) {
            const ptrdiff_t shift = static_cast<ptrdiff_t>(tap * taps.dilation) - taps.before;
            const Range under = steps_under(block.steps, taps.stride, shift, in.steps);
            const Positions source{{0, under.size()}, block.rows};
            if (source.count() == 0) continue;
            const auto first = static_cast<size_t>(static_cast<ptrdiff_t>(under.begin * taps.stride) + shift);
            const size_t skipped = under.begin - block.steps.begin;
            pack_positions(every(taps.stride, x, first), source, width, panels);
            Gemm g;
            g.rows = own.size();
            g.depth = source.count();
            g.columns = in.channels;
            g.a = {left + skipped * block.rows.size() * unit_block, 1, unit_block, block.count() * unit_block};
            g.step = unit_block;
            g.panels = panels;
            g.c = {gradient + own.begin * columns + tap * in.channels, columns, 0, 0};
            kernels.product().run(g);
        }
    });
}

}  // namespace rnnfast::core
