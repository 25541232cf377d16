// Token ids to rows of a table.
#pragma once

#include "ops/group_tree.h"

namespace rnnfast::core {

// y[r, :] = table[ids[r], :]; table: [V, E]
void embedding_forward(const float* table, size_t width, const int32_t* ids, size_t rows, float* y);
// dtable[ids[r], :] += dy[r, :], r ascending; threads own columns
void embedding_backward(const float* dy, size_t width, const int32_t* ids, size_t rows, float* dtable);
// The same for ids [T, N]: over each group of rows alone, then in a binary tree of the groups. Costs only touched rows.
struct GroupedIds {
    const int32_t* ids;
    EvenGroups groups;
    const GroupSums& sums;
    size_t table;  // floats of dtable, or of each of several
};
void embedding_backward(const float* dy, size_t width, const GroupedIds& given, float* dtable);

}  // namespace rnnfast::core
