// Sums over groups of rows, added in one binary tree: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)). A half, a quarter, ...
// of the groups is a subtree, so another process may compute it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/table.h"
#include "ops/row_groups.h"
#include "runtime/buffer.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

// The rows [T, N] of a sequence in `count` groups, a power of two that divides N: N / count rows of every step each.
struct EvenGroups {
    size_t steps, rows, count;
    size_t size() const { return rows / count; }
    size_t place(size_t group, size_t t) const { return t * rows + group * size(); }  // of its first row
};

// log2 of a power of two
inline size_t tree_depth(size_t groups) {
    size_t depth = 0;
    while (groups >> (depth + 1)) ++depth;
    return depth;
}

// Adds arrays of `size` floats in the tree, in the order of the groups. At most log2(groups) + 1 of them exist at a
// time.
class GroupTree {
public:
    GroupTree(Buffer& buffer, size_t groups, size_t size, const GroupSums& sums)
        : groups_(groups), size_(round_up(size, alignment / sizeof(float))), sums_(&sums) {
        buffer.reserve((tree_depth(groups) + 1) * size_);
        levels_ = buffer.data();
    }
    // Where the sum over group g goes: behind the subtrees that wait.
    float* leaf(size_t g) const { return levels_ + waiting(g) * size_; }
    // Adds the leaf of group g, times its weight, to the subtrees that it completes, elements `own` of them. Threads
    // may have different ones. An even group waits for the next one, so that both get their weights on the way; a block
    // stays in L1 while it passes all levels.
    void add(const Kernels& kernels, size_t g, Range own) const {
        constexpr size_t most = 1024;
        const std::vector<float>& weights = sums_->weights;
        if (g % 2 == 0 && (g + 1 < groups_ || weights.empty())) return;
        for (size_t at = own.begin; at < own.end; at += most) {
            const size_t size = std::min(most, own.end - at);
            float* sum = leaf(g) + at;
            if (!weights.empty()) kernels.scale(size, weights[g], sum);
            if (!weights.empty() && g % 2) kernels.scale(size, weights[g - 1], sum - size_);
            for (size_t k = g; k & 1; k >>= 1, sum -= size_) kernels.add(size, sum, sum - size_);
        }
    }
    const float* total() const { return levels_; }  // once every group was added

private:
    static size_t waiting(size_t g) {
        size_t count = 0;
        for (; g; g &= g - 1) ++count;
        return count;
    }
    size_t groups_, size_;
    const GroupSums* sums_;
    float* levels_;
};

}  // namespace rnnfast::core
