// A sequence pooled over time, each row over its own length: one vector a row. Zeros for a row of length 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/named.h"

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

}  // namespace rnnfast::core
