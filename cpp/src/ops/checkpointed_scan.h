// Training in memory that grows with the square root of the steps: forward keeps the state at the start of every
// segment, backward runs each segment again, from the last to the first, and differentiates it.
// T. Chen et al., Training deep nets with sublinear memory cost, arXiv:1604.06174.
#pragma once

#include "ops/scan.h"

namespace rnnfast::core {

// About sqrt(T) steps: as many segments as steps in one.
size_t segment_steps(size_t steps);

// The states at the starts of the segments, one segment after another.
struct SegmentStarts {
    Buffer h, c;  // [segments, N, H], [segments, N, padded H]
};

// What one segment needs while it is differentiated; reused by all segments and scans.
struct SegmentWorkspace {
    Steps steps;
    Buffer gates, c, extra, y;
};

// scan_forward without saving (s.c holds c0 and ends as the last c), segment by segment.
void scan_forward_in_segments(const ScanWeights& w, const ScanForward& s, SegmentStarts& starts,
                              SegmentWorkspace& workspace);

// scan_backward without what was saved: y, c, gates and extra of s are ignored, forward's start states are `starts`.
// dh: [N, H] in: gradient of each row's last h; out: of h0. s.dh_last and s.dh0 are ignored.
void scan_backward_in_segments(const ScanWeights& w, const ScanBackward& s, const View& dh, const SegmentStarts& starts,
                               SegmentWorkspace& workspace, const ScanGradients& gradients);

}  // namespace rnnfast::core
