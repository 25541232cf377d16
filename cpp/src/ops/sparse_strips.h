// A packed matrix without its blocks of zeros, for products with few rows.
#pragma once

#include <vector>

#include "kernels/table.h"
#include "runtime/buffer.h"

namespace rnnfast::core {

// Panels as PackedMatrix has them: [panel][depth][width], depth in words.
struct Panels {
    const GemmKernel* kernel;
    const float* data;
    size_t depth, columns;  // columns: whole panels
};

// Strips of 16 columns: one gate of 16 units. Empty if too few blocks are zeros to gain from it.
class SparseStrips {
public:
    SparseStrips() = default;
    explicit SparseStrips(const Panels& panels);

    // The most rows with which this is faster than the product with all blocks; 0: none
    size_t most_rows() const { return most_rows_; }
    // false if only the product with all blocks gives the right bits: with a row that is not finite, or a sum of -0.
    bool multiply(const float* a, size_t first_column, size_t columns, const float* start, float* c) const;

private:
    void fill(const Panels& panels, const std::vector<size_t>& counts);
    void fill_strip(const Panels& panels, size_t strip, size_t count, size_t block);

    const GemmKernel* kernel_ = nullptr;
    bool by_terms_ = false;  // words are put together of terms that lie anywhere along the depth
    size_t depth_ = 0, most_rows_ = 0;
    Buffer blocks_;
    std::vector<uint32_t> first_, strips_;  // as SparseProduct has them
    std::vector<uint64_t> places_;
};

}  // namespace rnnfast::core
