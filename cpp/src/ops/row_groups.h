// A batch whose rows are groups of equal size, as if each was computed alone: for shards of a batch, and for gradients
// of single rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rnnfast::core {

// What becomes of sums over groups of rows.
struct GroupSums {
    std::vector<float> weights;  // of the groups in the tree that adds them; none: 1 each
    bool apart = false;          // they are not added: a gradient has memory for those of all groups, in their order
};

// What masks depend on: one key, or one for each group, which has the masks that it has in a batch of its rows alone.
struct RowGroups {
    uint64_t key = 0;  // without groups
    std::vector<uint64_t> keys;
    GroupSums sums;

    RowGroups(uint64_t key_ = 0) : key(key_) {}
    size_t count() const { return keys.empty() ? 1 : keys.size(); }
    explicit operator bool() const { return !keys.empty(); }
    RowGroups of_part(uint64_t part) const;  // random_key(key, part) of each
};
// Throws std::invalid_argument unless the groups divide the rows, and are a power of two where a tree adds them, with
// as many weights or none.
void check_groups(const RowGroups& groups, size_t rows);

}  // namespace rnnfast::core
