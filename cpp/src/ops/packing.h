// Weights in the order and the precision the kernels read them, and products with them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "ops/sparse_strips.h"
#include "rnnfast/weights.hpp"
#include "runtime/buffer.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

constexpr size_t deepest_int8 = 131072;  // terms whose sum of products of two bytes fits 32 bits

// The product for a precision; panels of three gates have a width of their own.
const GemmKernel& gemm_for(const Kernels& kernels, Weights weights, size_t gates = 1);

// A row as int8, whose scale it returns, and as bfloat16: what a file keeps, and what products make of the row.
float int8_row(const Kernels& kernels, const float* row, size_t size, int8_t* rounded);
void bf16_row(const Kernels& kernels, const float* row, size_t size, uint16_t* rounded);
// A row of weights after a round trip through the product's precision
void round_row(const Kernels& kernels, Weights weights, const float* row, size_t size, float* rounded);

// A [depth, columns] matrix B as panels of a kernel's width: [panel][words of the depth][width], missing columns zero.
class PackedMatrix {
public:
    PackedMatrix() = default;
    // Padded with zeros to whole panels and to at least `least_columns`.
    PackedMatrix(const GemmKernel& kernel, size_t depth, size_t columns, size_t least_columns = 0);

    // columns[j] points at B[0, j], B[1, j], ... one after another, or is nullptr for a column of zeros.
    void fill_from_columns(const std::vector<const float*>& columns);
    // Not in int8. rows[k] points at B[k, 0], B[k, 1], ..., or is nullptr for a row of zeros.
    void fill_from_rows(const std::vector<const float*>& rows);
    // In f32, for a product that is computed once: the same without a copy. Products read the lines where they are;
    // with many rows they pack part after part on the way.
    void borrow_columns(std::vector<const float*> columns);
    void borrow_rows(std::vector<const float*> rows);
    // The same, asking for one after another.
    void fill_from_columns(const std::function<const float*(size_t)>& column);
    void fill_from_rows(const std::function<const float*(size_t)>& row);

    // The memory of a matrix that will not be read again, for another one to be filled.
    void use_memory_of(PackedMatrix& other) { std::swap(data_, other.data_); }

    size_t depth() const { return depth_; }
    size_t columns() const { return columns_; }
    size_t padded_columns() const { return padded_; }
    size_t width() const { return kernel_->width; }
    size_t words() const { return words_; }  // of a column, those of zeros at its end among them
    const float* panel(size_t column) const { return data_.data() + column * words(); }  // column: a multiple of width
    const GemmKernel& kernel() const { return *kernel_; }
    const float* scales() const { return scales_.data(); }    // int8: of the columns
    const float* offsets() const { return offsets_.data(); }  // int8: the 32-bit numbers that sums start from
    bool borrowed() const { return !columns_lent_.empty() || !rows_lent_.empty(); }
    const std::vector<const float*>& columns_lent() const { return columns_lent_; }  // padded
    const std::vector<const float*>& rows_lent() const { return rows_lent_; }
    const SparseStrips& sparse() const { return sparse_; }
    // A panel's part of the depth, packed: [depth.size(), width]
    void pack_part(size_t column, Range depth, float* out) const;

private:
    void use_own_memory();
    void lend_zeros(std::vector<const float*>& lines, size_t size);
    void find_zero_blocks();
    void fill_int8(const std::vector<const float*>& columns);

    const GemmKernel* kernel_ = nullptr;
    size_t depth_ = 0, words_ = 0, columns_ = 0, padded_ = 0;
    Buffer data_, scales_, offsets_;
    std::vector<const float*> columns_lent_, rows_lent_;  // missing ones: zeros_
    Buffer zeros_;
    SparseStrips sparse_;  // of what was filled from columns
};

// Rows of A in a matrix's precision.
struct LeftRows {
    ConstRows at;
    size_t count;
};

// Floats of scratch that `rows` rows need, 0 in f32.
size_t left_scratch(const PackedMatrix& b, size_t rows);
// The rows themselves in f32, else rounded copies in scratch, in int8 each with its scale after its words.
LeftRows left_rows(const PackedMatrix& b, const ConstRows& a, size_t rows, float* scratch);

// C[r, j] = start[j] + sum over k of A[r, k] * B[k, first_column + j]; first_column a multiple of the panel width.
void multiply(const PackedMatrix& b, const LeftRows& a, size_t first_column, size_t columns, const float* start,
              const Rows& c);

// The gate order of a cell's packed weights: column (or depth index) of gate g of unit u.
struct GateOrder {
    size_t gates, hidden;
    size_t blocks() const { return (hidden + unit_block - 1) / unit_block; }
    size_t columns() const { return blocks() * gates * unit_block; }
    size_t padded_hidden() const { return blocks() * unit_block; }

    // Row of PyTorch's [G*H, ...] matrix behind a column, or `none` for padding.
    static constexpr size_t none = static_cast<size_t>(-1);
    size_t torch_row(size_t column) const {
        const size_t block = column / (gates * unit_block), within = column % (gates * unit_block);
        const size_t unit = block * unit_block + within % unit_block;
        return unit < hidden ? within / unit_block * hidden + unit : none;
    }
    // Calls body(column, PyTorch's row) for all columns that are not padding.
    template <class Body>
    void for_each_column(Body body) const {
        for (size_t first = 0, column = 0; first < hidden; first += unit_block)
            for (size_t gate = 0; gate < gates; ++gate, column += unit_block)
                for (size_t i = 0; i < unit_block && first + i < hidden; ++i)
                    body(column + i, gate * hidden + first + i);
    }
};

}  // namespace rnnfast::core
