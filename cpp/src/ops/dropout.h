// Inverted dropout. The mask is a function of (key, index), so backward makes it again instead of storing it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/parallel.h"

namespace rnnfast::core {

// What the masks of a sequence depend on. With `groups`, its rows are so many groups of equal size, each with a key of
// its own: a group has the masks that it has in a sequence of its rows alone.
struct DropoutKeys {
    uint64_t whole = 0;
    std::vector<uint64_t> groups;

    DropoutKeys(uint64_t key = 0) : whole(key) {}
    size_t count() const { return groups.empty() ? 1 : groups.size(); }
    DropoutKeys of_part(uint64_t part) const;  // random_key(key, part) of each
};

// y[i] = x[i] * mask[i] / (1 - p), P(mask = 0) = p to 1/65536. x and y may be the same; gradients go the same way.
void dropout(const float* x, float* y, size_t size, float p, uint64_t key);
// The elements of `part` alone, each with the mask it has in the whole.
void dropout(const float* x, float* y, Range part, float p, uint64_t key);

struct Dropout {
    float p = 0;
    bool same_each_step = false;  // one mask for the whole sequence: variational, Gal & Ghahramani, arXiv:1512.05287
};
// x, y: rows of all steps one after another, `width` floats each; step t has the rows [offset[t], offset[t + 1]).
// With groups of rows, every step has all rows.
void dropout(const float* x, float* y, size_t width, const std::vector<size_t>& offset, Dropout d,
             const DropoutKeys& keys);
void dropout(const float* x, float* y, size_t width, const std::vector<size_t>& offset, Range steps, Dropout d,
             const DropoutKeys& keys);

}  // namespace rnnfast::core
