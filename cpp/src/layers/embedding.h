// torch.nn.Embedding: rows of a table by id.
#pragma once

#include "layers/parameter.h"
#include "ops/group_tree.h"

namespace rnnfast::core {

class Embedding {
public:
    // The table starts standard normal, from the random stream `key`; without one, it has no values.
    Embedding(size_t rows, size_t width, std::optional<uint64_t> key, const Kernels& kernels);
    // For running only: copies the values of a file.
    void load(const FileValues& values) { copy_values(weight_, values); }

    size_t rows() const { return weight_.shape[0]; }
    size_t width() const { return weight_.shape[1]; }
    const Kernels& kernels() const { return *kernels_; }
    Parameters parameters() { return {&weight_}; }
    void weights_changed() {}  // nothing is packed

    // ids: [count], y: [count, E]. Both throw std::out_of_range for an id beyond the table. One step of a stream is the
    // forward of its ids.
    void forward(const int32_t* ids, size_t count, float* y) const;
    // Adds to the table's gradient.
    void backward(const int32_t* ids, size_t count, const float* dy);
    // The same for ids [T, N], summed over each group of rows alone and then in a binary tree.
    void backward(const int32_t* ids, const EvenGroups& groups, const GroupSums& sums, const float* dy);

private:
    void check(const int32_t* ids, size_t count) const;

    const Kernels* kernels_;
    Parameter weight_;  // [V, E]
};

}  // namespace rnnfast::core
