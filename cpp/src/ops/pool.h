// A sequence pooled over time, each row over its own length: one vector a row. Zeros for a row of length 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/named.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

enum class Pooling { last, first, mean, max };
template <>
struct Named<Pooling> {
    static constexpr std::string_view names[] = {"last", "first", "mean", "max"};
};

struct PooledSequence {
    size_t steps, rows, width;
    const float* x;          // [T, N, W]
    const int64_t* lengths;  // [N] or nullptr: all T
    size_t length(size_t row) const { return lengths ? static_cast<size_t>(lengths[row]) : steps; }
};
// y: [N, W]
void pool(Pooling kind, const PooledSequence& s, float* y);
// dx: [T, N, W] out. The gradient of a maximum goes to the first step that has it.
void pool_gradient(Pooling kind, const PooledSequence& s, const float* y, const float* dy, float* dx);

// One step of one row at a time: `state` [W + 1] begins as zeros, and its last number counts the steps; y [W] is what
// pool gives for the steps so far.
void pool_step(Pooling kind, const float* x, size_t width, float* state, float* y);

// Pooled windows: output step t reads `size` steps from t * stride - before on. Steps outside the sequence count for a
// mean, as zeros, if padding does, and never for a maximum.
struct Windows {
    size_t size = 1, stride = 1, before = 0, after = 0;
    bool maximum = false, padding_counts = true;
    // Steps that come out of `steps`; 0: too few went in.
    size_t output_steps(size_t steps) const {
        const size_t padded = steps + before + after;
        return steps && padded >= size ? (padded - size) / stride + 1 : 0;
    }
};
// y: [T', N, W], T' the output's steps; rows have their own lengths there too.
void pool_windows(const Windows& w, const PooledSequence& s, float* y, size_t most_threads = all_threads);
// dx: [T, N, W] out. The gradient of a maximum goes to the first step of a window that has it.
void pool_windows_gradient(const Windows& w, const PooledSequence& s, const float* y, const float* dy, float* dx);

}  // namespace rnnfast::core
