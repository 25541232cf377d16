#include "ops/scan_weights.h"

#include <numeric>

namespace rnnfast::core {

namespace {

// Index in gate order -> that row of a [G*H, width] matrix in PyTorch's order, nullptr for padding.
auto rows_in_order(const GateOrder& order, const float* matrix, size_t width) {
    return [=](size_t j) -> const float* {
        const size_t row = order.torch_row(j);
        return row == GateOrder::none ? nullptr : matrix + row * width;
    };
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

size_t ScanWeights::column_grain() const { return std::lcm(cell->gates * unit_block, recurrent.width()); }

void ScanWeights::pack(const ScanParameters& p, bool token_input) {
    const size_t columns = order.columns(), depth = input_size, hidden = order.hidden;
    const GemmKernel& kernel = gemm_for(*kernels, weights, cell->gates);
    if (recurrent.depth() != hidden) {
        recurrent = PackedMatrix(kernel, hidden, columns);
        input_bias = Buffer(recurrent.padded_columns());
        recurrent_bias = Buffer(recurrent.padded_columns());
    }
    // A cell with `extra` keeps its last gate's recurrent bias on the recurrent side, where the reset gate sees it.
    const size_t apart = cell->has_extra ? (cell->gates - 1) * hidden : cell->gates * hidden;
    for (size_t j = 0; j < columns; ++j) {
        const size_t row = order.torch_row(j);
        if (row == GateOrder::none || !p.bias_ih) continue;
        input_bias.data()[j] = row < apart ? p.bias_ih[row] + p.bias_hh[row] : p.bias_ih[row];
        recurrent_bias.data()[j] = row < apart ? 0.0f : p.bias_hh[row];
    }
    recurrent.fill_from_columns(rows_in_order(order, p.weight_hh, hidden));
    if (fixed_size) {
        if (fixed.depth() != fixed_size) fixed = PackedMatrix(kernel, fixed_size, columns);
        fixed.fill_from_columns(rows_in_order(order, p.weight_ih + depth, input_stride()));
    }
    if (depth == 0) return;
    if (!token_input) {
        if (input.depth() != depth) input = PackedMatrix(kernel, depth, columns);
        input.fill_from_columns(rows_in_order(order, p.weight_ih, input_stride()));
        return;
    }
    if (token_rows.size() != depth * columns) token_rows = Buffer(depth * columns, Buffer::Uninitialised{});
    Buffer rounded(depth);
    for (size_t j = 0; j < columns; ++j) {
        const float* row = rows_in_order(order, p.weight_ih, depth)(j);
        if (row) round_row(*kernels, weights, row, depth, rounded.data());
        for (size_t k = 0; k < depth; ++k)
            token_rows.data()[k * columns + j] = input_bias.data()[j] + (row ? rounded.data()[k] : 0.0f);
    }
}

void ScanWeights::pack_backward(const ScanParameters& p, bool input_gradient) {
    const size_t columns = order.columns(), hidden = order.hidden;
    const GemmKernel& kernel = gemm_for(*kernels, weights);
    if (recurrent_back.depth() != columns)
        recurrent_back = PackedMatrix(kernel, columns, hidden, order.padded_hidden());
    recurrent_back.fill_from_rows(rows_in_order(order, p.weight_hh, hidden));
    const auto pack_columns = [&](PackedMatrix& packed, size_t first, size_t count) {
        if (!input_gradient || count == 0) return;
        if (packed.depth() != columns) packed = PackedMatrix(kernel, columns, count);
        packed.fill_from_rows(rows_in_order(order, p.weight_ih + first, input_stride()));
    };
    pack_columns(input_back, 0, input_size);
    pack_columns(fixed_back, input_size, fixed_size);
}

}  // namespace rnnfast::core
