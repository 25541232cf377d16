// Convolution over time: y[t] = b + sum over taps j of W_j x[t s + j * dilation - before], as one product whose depth
// runs over (tap, channel). Neighbouring taps of A are neighbouring steps of x, so nothing is copied out k times.
#pragma once

#include "ops/packing.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

// A sequence [steps, rows, channels] in memory, (T, N, C) or (N, T, C) alike.
struct Layout {
    size_t steps, rows, channels;
    size_t step_stride, row_stride;  // floats from one step to the next, and from one row to the next

    static Layout time_first(size_t steps, size_t rows, size_t channels) {
        return {steps, rows, channels, rows * channels, channels};
    }
    static Layout batch_first(size_t steps, size_t rows, size_t channels) {
        return {steps, rows, channels, channels, steps * channels};
    }
    size_t size() const { return steps * rows * channels; }
    size_t offset(size_t step, size_t row) const { return step * step_stride + row * row_stride; }
};

// A sequence's numbers: row n of step t is [channels] at at(t, n).
template <class Float>
struct SequenceOf {
    Float* base = nullptr;
    Layout layout{};
    Float* at(size_t step, size_t row) const { return base + layout.offset(step, row); }
    operator SequenceOf<const Float>() const { return {base, layout}; }
};
using Sequence = SequenceOf<float>;
using ConstSequence = SequenceOf<const float>;

// Some of the channels alone.
template <class Float>
SequenceOf<Float> channels_of(SequenceOf<Float> s, size_t first, size_t count) {
    s.base += first;
    s.layout.channels = count;
    return s;
}

// Tap j of output step t reads input step t * stride + j * dilation - before; what lies outside the sequence is left
// out.
struct Taps {
    size_t count = 1, dilation = 1;
    ptrdiff_t before = 0;
    size_t stride = 1;
};

// What a convolution multiplies by.
struct Filter {
    const PackedMatrix& weights;  // [(tap, channel), O]
    const float* start;           // the bias, or zeros, padded to whole panels
    Taps taps;
};
// This thread's share of y.
void convolve(const Team& team, const Filter& filter, const ConstSequence& x, const Sequence& y);

// gradient[o, (tap, c)] += sum over t, n of dy[t, n, o] * x[t s + tap * dilation - before, n, c], positions in order.
// A thread adds the rows o it owns and needs its own scratch.
size_t convolve_gradient_scratch(const Kernels& kernels, size_t inputs, size_t outputs);
void convolve_gradient(const Team& team, const Kernels& kernels, const Taps& taps, const ConstSequence& x,
                       const ConstSequence& dy, float* gradient, float* scratch);

// Positions of a sequence as a product's right-hand side: panels [C / width][positions][width], zeros at the end.
struct Positions {
    Range steps, rows;
    size_t count() const { return steps.size() * rows.size(); }
};
void pack_positions(const ConstSequence& x, const Positions& positions, size_t width, float* panels);
// Calls body(positions) for runs of at most `position_block` positions, in order.
constexpr size_t position_block = 384;  // as in weight_gradient.cpp
template <class Body>
void for_each_block(size_t steps, size_t rows, Body body) {
    if (rows == 0) return;
    const size_t wide = rows < position_block ? rows : position_block;
    const size_t high = position_block / wide;
    for (size_t t = 0; t < steps; t += high)
        for (size_t n = 0; n < rows; n += wide)
            body(Positions{{t, t + high < steps ? t + high : steps}, {n, n + wide < rows ? n + wide : rows}});
}

}  // namespace rnnfast::core
