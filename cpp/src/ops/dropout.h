// Inverted dropout. The mask is a function of (key, index), so backward makes it again instead of storing it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/row_groups.h"
#include "ops/steps.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

// y[i] = x[i] * mask[i] / (1 - p), P(mask = 0) = p to 1/65536. x and y may be the same; gradients go the same way.
void dropout(const float* x, float* y, size_t size, float p, uint64_t key);
// The elements of `part` alone, each with the mask it has in the whole.
void dropout(const float* x, float* y, Range part, float p, uint64_t key);

struct Dropout {
    float p = 0;
    bool same_each_step = false;  // one mask for the whole sequence: variational, Gal & Ghahramani, arXiv:1512.05287
};
// x, y: rows of all steps one after another, `width` floats each; step t has the rows [offset[t], offset[t + 1]).
void dropout(const float* x, float* y, size_t width, const std::vector<size_t>& offset, Dropout d,
             const RowGroups& keys);
void dropout(const float* x, float* y, size_t width, const std::vector<size_t>& offset, Range steps, Dropout d,
             const RowGroups& keys);
// The rows of groups, each with the masks it has alone.
void dropout(const float* x, float* y, size_t width, const std::vector<GroupRows>& groups, Range steps, Dropout d,
             const RowGroups& keys);

}  // namespace rnnfast::core
