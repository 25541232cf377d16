#include "ops/checkpointed_scan.h"

#include <algorithm>
#include <cmath>

namespace rnnfast::core {

namespace {

Range segment_at(const Steps& steps, size_t index) {
    const size_t length = segment_steps(steps.count());
    return {index * length, std::min((index + 1) * length, steps.count())};
}

size_t segment_count(const Steps& steps) {
    const size_t length = segment_steps(steps.count());
    return (steps.count() + length - 1) / length;
}

}  // namespace

size_t segment_steps(size_t steps) {
    return std::max<size_t>(1, static_cast<size_t>(std::ceil(std::sqrt(static_cast<double>(steps)))));
}

void scan_forward_in_segments(const ScanWeights& w, const ScanForward& s, SegmentStarts& starts,
                              SegmentMemory& memory) {
    const Steps& steps = *s.steps;
    const size_t rows = steps.rows(0), hidden = w.order.hidden, padded = w.order.padded_hidden();
    const size_t segments = segment_count(steps);
    starts.h.reserve(segments * rows * hidden);
    if (s.c) starts.c.reserve(segments * rows * padded);
    for (size_t i = 0; i < segments; ++i) {
        const Range range = segment_at(steps, i);
        const size_t first = steps.offset[range.begin], running = steps.rows(range.begin);
        float* h0 = starts.h.data() + i * rows * hidden;
        const float* h = i ? s.y + steps.offset[range.begin - 1] * s.y_stride : s.h0;
        for (size_t n = 0; n < running; ++n) std::copy_n(h + n * (i ? s.y_stride : hidden), hidden, h0 + n * hidden);
        if (s.c) std::copy_n(s.c, running * padded, starts.c.data() + i * rows * padded);

        cut(steps, range, memory.steps);
        ScanForward part = s;
        part.steps = &memory.steps;
        if (s.x) part.x = s.x + first * s.x_stride;
        if (s.tokens) part.tokens = s.tokens + first;
        part.h0 = h0;
        part.y = s.y + first * s.y_stride;
        scan_forward(w, part);
    }
}

void scan_backward_in_segments(const ScanWeights& w, const ScanBackward& s, float* dh, const SegmentStarts& starts,
                               SegmentMemory& memory, const ScanGradients& gradients) {
    const Steps& steps = *s.steps;
    const size_t rows = steps.rows(0), hidden = w.order.hidden, padded = w.order.padded_hidden();
    const size_t most = steps.offset[segment_at(steps, 0).end];  // later segments have no more rows
    memory.gates.reserve(most * w.order.columns());
    memory.y.reserve(most * hidden);
    if (w.cell->has_c) memory.c.reserve(most * padded);
    if (w.cell->has_extra) memory.extra.reserve(most * padded);
    for (size_t i = segment_count(steps); i-- > 0;) {
        const Range range = segment_at(steps, i);
        const size_t first = steps.offset[range.begin];
        cut(steps, range, memory.steps);

        ScanForward f;
        f.steps = &memory.steps;
        if (s.x) f.x = s.x + first * s.x_stride;
        f.x_stride = s.x_stride;
        if (s.tokens) f.tokens = s.tokens + first;
        f.h0 = starts.h.data() + i * rows * hidden;
        if (w.cell->has_c) f.c0 = starts.c.data() + i * rows * padded;
        f.y = memory.y.data();
        f.y_stride = hidden;
        f.c = memory.c.data();
        f.gates = memory.gates.data();
        f.extra = w.cell->has_extra ? memory.extra.data() : nullptr;
        f.scratch = s.scratch;
        scan_forward(w, f);

        // dh and dc hold the gradient of each row's last state until the segment in which the row ends; from there
        // on, of its state at the start of the segment before. A row's value is read before it is written.
        ScanBackward b = s;
        b.steps = &memory.steps;
        b.x = f.x;
        b.tokens = f.tokens;
        b.h0 = f.h0;
        b.c0 = f.c0;
        b.y = f.y;
        b.y_stride = hidden;
        b.c = f.c;
        b.gates = memory.gates.data();
        b.extra = f.extra ? memory.extra.data() : nullptr;
        if (s.dy) b.dy = s.dy + first * s.dy_stride;
        b.dh_last = b.dh0 = dh;
        if (s.dx) b.dx = s.dx + first * s.dx_stride;
        scan_backward(w, b, gradients);
    }
}

}  // namespace rnnfast::core
