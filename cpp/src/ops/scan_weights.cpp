#include "ops/scan_weights.h"
#include "runtime/sentence.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace rnnfast::core {

namespace {

// The rows of a [G*H, width] matrix in PyTorch's order, in gate order, nullptr for padding.
std::vector<const float*> rows_in_order(const GateOrder& order, const float* matrix, size_t width) {
    std::vector<const float*> rows(order.columns(), nullptr);
    order.for_each_column([&](size_t column, size_t row) { rows[column] = matrix + row * width; });
    return rows;
}

}  // namespace

ScanWeights::ScanWeights(const Kernels& kernels_, const CellInfo& cell_, Weights weights_, size_t input_size_,
                         size_t hidden_size, size_t fixed_size_)
    : kernels(&kernels_),
      cell(&cell_),
      weights(weights_),
      input_size(input_size_),
      fixed_size(fixed_size_),
      order{cell_.gates, hidden_size} {}

size_t ScanWeights::column_grain() const {
    const size_t grain = std::lcm(cell->gates * unit_block, recurrent.width());
    return cell->has_second() ? std::lcm(grain, cell->gates * second.width()) : grain;
}

namespace {

void take(PackedMatrix& to, std::vector<const float*> columns, bool borrows) {
    borrows ? to.borrow_columns(std::move(columns)) : to.fill_from_columns(columns);
}

void take_as_rows(PackedMatrix& to, std::vector<const float*> rows, bool borrows) {
    borrows ? to.borrow_rows(std::move(rows)) : to.fill_from_rows(rows);
}

}  // namespace

void ScanWeights::take_columns(PackedMatrix& to, const float* matrix, size_t stride) const {
    take(to, rows_in_order(order, matrix, stride), borrows);
}

void ScanWeights::take_rows(PackedMatrix& to, const float* matrix, size_t stride) const {
    take_as_rows(to, rows_in_order(order, matrix, stride), borrows);
}

// The rows of weight_hh that the first product of a step has, and those of the second.
std::vector<const float*> ScanWeights::recurrent_rows(const float* weight_hh) const {
    auto rows = rows_in_order(order, weight_hh, order.hidden);
    const size_t last = (order.gates - 1) * order.hidden;
    order.for_each_column([&](size_t column, size_t row) {
        if (cell->has_second() && row >= last) rows[column] = nullptr;
    });
    return rows;
}

std::vector<const float*> ScanWeights::second_rows(const float* weight_hh) const {
    const size_t hidden = order.hidden;
    return rows_in_order({1, hidden}, weight_hh + (order.gates - 1) * hidden * hidden, hidden);
}

void ScanWeights::pack(const ScanParameters& p, bool token_input) {
    const size_t columns = order.columns(), depth = input_size, hidden = order.hidden;
    const GemmKernel& kernel = gemm_for(*kernels, weights, cell->gates);
    if (recurrent.columns() != columns) {
        recurrent = PackedMatrix(kernel, cell->recurrent_depth(hidden), columns);
        input_bias = Buffer(recurrent.padded_columns());
        recurrent_bias = Buffer(recurrent.padded_columns());
    }
    // A cell with such a gate keeps its last gate's recurrent bias on the recurrent side, where the reset gate sees it.
    const size_t apart = cell->parts_last_gate() ? (cell->gates - 1) * hidden : cell->gates * hidden;
    order.for_each_column([&](size_t j, size_t row) {
        if (!p.bias_ih) return;
        input_bias.data()[j] = row < apart && p.bias_hh ? p.bias_ih[row] + p.bias_hh[row] : p.bias_ih[row];
        recurrent_bias.data()[j] = row < apart ? 0.0f : p.bias_hh[row];
    });
    if (cell->recurrent) take(recurrent, recurrent_rows(p.weight_hh), borrows);
    if (cell->has_second()) {
        if (second.columns() == 0) {
            second = PackedMatrix(gemm_for(*kernels, weights), hidden, order.padded_hidden());
            second_bias = Buffer(second.padded_columns());
        }
        take(second, second_rows(p.weight_hh), borrows);
    }
    pack_state_weights(p.weight_c);
    if (fixed_size) {
        if (fixed.depth() != fixed_size) fixed = PackedMatrix(kernel, fixed_size, columns);
        take_columns(fixed, p.weight_ih + depth, input_stride());
    }
    if (depth == 0) return;
    if (token_input && cell->highway)
        refuse({cell->name, ": one-hot input as wide as the hidden state (", hidden,
                ") is not supported; choose another hidden_size, or an ", "embedding_size"});
    if (!token_input) {
        if (input.depth() != depth) input = PackedMatrix(kernel, depth, columns);
        take_columns(input, p.weight_ih, input_stride());
        return;
    }
    if (token_rows.size() != depth * columns) token_rows = Buffer(depth * columns, Buffer::Uninitialised{});
    Buffer rounded(depth);
    const auto rows = rows_in_order(order, p.weight_ih, depth);
    for (size_t j = 0; j < columns; ++j) {
        const float* row = rows[j];
        if (row) round_row(*kernels, weights, row, depth, rounded.data());
        for (size_t k = 0; k < depth; ++k)
            token_rows.data()[k * columns + j] = input_bias.data()[j] + (row ? rounded.data()[k] : 0.0f);
    }
}

void ScanWeights::pack_state_weights(const float* weight_c) {
    if (!state_weights.size()) state_weights = Buffer(cell->state_reads.count * order.padded_hidden());
    for (size_t i = 0; i < cell->state_reads.count; ++i)
        std::copy_n(weight_c + i * order.hidden, order.hidden, state_weights.data() + i * order.padded_hidden());
}

void ScanWeights::pack_backward(const ScanParameters& p, bool input_gradient) {
    const size_t columns = order.columns(), hidden = order.hidden;
    const GemmKernel& kernel = gemm_for(*kernels, weights);
    if (recurrent_back.depth() != columns)
        recurrent_back =
            PackedMatrix(kernel, columns, cell->recurrent_depth(hidden), cell->recurrent_depth(order.padded_hidden()));
    if (cell->recurrent) take_as_rows(recurrent_back, recurrent_rows(p.weight_hh), borrows);
    if (cell->has_second()) {
        const size_t padded = order.padded_hidden();
        if (second_back.depth() != padded) second_back = PackedMatrix(kernel, padded, hidden, padded);
        take_as_rows(second_back, second_rows(p.weight_hh), borrows);
    }
    const auto pack_columns = [&](PackedMatrix& packed, size_t first, size_t count) {
        if (!input_gradient || count == 0) return;
        if (packed.depth() != columns) packed = PackedMatrix(kernel, columns, count);
        take_rows(packed, p.weight_ih + first, input_stride());
    };
    pack_columns(input_back, 0, input_size);
    pack_columns(fixed_back, input_size, fixed_size);
}

}  // namespace rnnfast::core
