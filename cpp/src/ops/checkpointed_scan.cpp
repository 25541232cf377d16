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

namespace {

// A state at the start of segment i.
View start_of(const Buffer& starts, size_t i, size_t rows, size_t width) {
    return {const_cast<float*>(starts.data()) + i * rows * width, rows, width};
}

}  // namespace

void scan_forward_in_segments(const ScanWeights& w, const ScanForward& s, SegmentStarts& starts,
                              SegmentWorkspace& workspace) {
    const size_t rows = s.steps->rows(0), hidden = w.order.hidden, padded = w.order.padded_hidden();
    const size_t segments = segment_count(*s.steps);
    starts.h.reserve(segments * rows * hidden);
    if (s.c) starts.c.reserve(segments * rows * padded);
    for (size_t i = 0; i < segments; ++i) {
        ScanForward segment = s;
        cut(segment, segment_at(*s.steps, i), workspace.steps);
        const size_t running = workspace.steps.rows(0);
        const View h = start_of(starts.h, i, rows, hidden);
        for (size_t n = 0; n < running; ++n) std::copy_n(segment.h0.row(n), hidden, h.row(n));
        if (s.c) std::copy_n(s.c.base, running * padded, start_of(starts.c, i, rows, padded).base);
        segment.h0 = h;
        scan_forward(w, segment);
    }
}

void scan_backward_in_segments(const ScanWeights& w, const ScanBackward& s, const View& dh, const SegmentStarts& starts,
                               SegmentWorkspace& workspace, const ScanGradients& gradients) {
    const Steps& steps = *s.steps;
    const size_t rows = steps.rows(0), hidden = w.order.hidden, padded = w.order.padded_hidden();
    const size_t most = steps.offset[segment_at(steps, 0).end];  // later segments have no more rows
    const auto memory = [&](Buffer& buffer, size_t width) {
        buffer.reserve(most * width);
        return View(buffer.data(), most, width);
    };
    ScanBackward whole = s;  // but for what the segments share
    whole.y = whole.c = whole.gates = whole.extra = {};
    const View y = memory(workspace.y, hidden), gates = memory(workspace.gates, w.order.columns());
    const View c = w.cell->has_c ? memory(workspace.c, padded) : View();
    const View extra = w.cell->has_extra ? memory(workspace.extra, padded) : View();
    for (size_t i = segment_count(steps); i-- > 0;) {
        const Range range = segment_at(steps, i);
        ScanBackward b = whole;
        cut(b, range, workspace.steps);
        const Range own{0, workspace.steps.total()};
        b.h0 = start_of(starts.h, i, rows, hidden);
        if (w.cell->has_c) b.c0 = start_of(starts.c, i, rows, padded);
        b.y = y.row_range(own);
        b.c = c.row_range(own);
        b.gates = gates.row_range(own);
        b.extra = extra.row_range(own);
        scan_forward(w, {b, nullptr, nullptr, s.scratch});

        // dh and dc hold the gradient of each row's last state until the segment in which the row ends; from there
        // on, of its state at the start of the segment before. A row's value is read before it is written.
        const Range all{steps.offset[range.begin], steps.offset[range.end]};
        b.dy = s.dy.row_range(all);
        b.dx = s.dx.row_range(all);
        b.dh_last = b.dh0 = dh;
        scan_backward(w, b, gradients);
    }
}

}  // namespace rnnfast::core
