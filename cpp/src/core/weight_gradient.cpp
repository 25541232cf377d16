#include "core/weight_gradient.h"

#include <algorithm>

namespace rnnfast {

namespace {

// Depth of a block. 192, whose operands would fit L1 together, made LSTM training 6% slower, 768 2%.
constexpr size_t row_block = 384;

// panels[j / width][k][width] of rows [first, last): the block's right-hand side
void pack_source(const Steps& steps, const SourceRows& source, Range rows, size_t depth, size_t width, float* panels) {
    const auto& offset = steps.offset;
    size_t t = static_cast<size_t>(std::upper_bound(offset.begin(), offset.end(), rows.begin) - offset.begin()) - 1;
    for (size_t r = rows.begin; r < rows.end; ++r) {
        while (r >= offset[t + 1]) ++t;
        const size_t n = r - offset[t];
        const float* row = !source.h0 ? source.rows + r * source.stride
                           : t        ? source.rows + (offset[t - 1] + n) * source.stride
                                      : source.h0 + n * source.h0_stride;
        for (size_t j = 0; j < depth; j += width) {
            float* out = panels + j * rows.size() + (r - rows.begin) * width;
            const size_t valid = std::min(width, depth - j);
            std::copy_n(row + j, valid, out);
            std::fill(out + valid, out + width, 0.0f);
        }
    }
}

}  // namespace

size_t weight_gradient_scratch(const ScanWeights& w, size_t depth) {
    return row_block * (round_up(depth, w.kernels->gemm.width) + w.order.gates * unit_block);
}

void WeightGradient::add(const Team& team, const SourceRows& source, size_t depth, float* gradient) const {
    const ScanWeights& w = *weights;
    const size_t gates_per_unit = w.order.gates, columns = w.order.columns(), hidden = w.order.hidden;
    const GemmKernel& kernel = w.kernels->gemm;
    const Range blocks = split(w.order.blocks(), team.size, team.index);
    if (blocks.size() == 0) return;
    float* panels = scratch;
    float* left = scratch + row_block * round_up(depth, kernel.width);  // [G][rows][16 units] of one block
    for (size_t r = 0; r < steps->total(); r += row_block) {
        const Range rows{r, std::min(r + row_block, steps->total())};
        const size_t plane = rows.size() * unit_block;
        pack_source(*steps, source, rows, depth, kernel.width, panels);
        for (size_t b = blocks.begin; b < blocks.end; ++b) {
            for (size_t k = 0; k < rows.size(); ++k)
                for (size_t g = 0; g < gates_per_unit; ++g)
                    std::copy_n(gates + (r + k) * columns + (b * gates_per_unit + g) * unit_block, unit_block,
                                left + g * plane + k * unit_block);
            const size_t units = std::min(unit_block, hidden - b * unit_block);
            Gemm p;
            p.rows = gates_per_unit * units;
            p.depth = rows.size();
            p.columns = depth;
            p.a = {left, 1, units, plane};
            p.step = unit_block;
            p.panels = panels;
            p.c = {gradient + b * unit_block * depth, depth, units, hidden * depth};
            kernel.run(p);
        }
    }
}

void WeightGradient::add_tokens(const Team& team, const int32_t* tokens, size_t depth, float* gradient) const {
    const GateOrder& order = weights->order;
    const Range columns = split(order.columns(), team.size, team.index, unit_block);
    // Sixteen columns at a time: their gradients' rows stay in L1 while all tokens pass.
    for (size_t j = columns.begin; j < columns.end; j += unit_block) {
        float* rows[unit_block];
        size_t valid = 0;  // units of one gate lie side by side, padding at the end
        for (; valid < unit_block && order.torch_row(j + valid) != GateOrder::none; ++valid)
            rows[valid] = gradient + order.torch_row(j + valid) * depth;
        for (size_t r = 0; r < steps->total(); ++r) {
            const auto token = static_cast<size_t>(tokens[r]);
            const float* from = gates + r * order.columns() + j;
            for (size_t i = 0; i < valid; ++i) rows[i][token] += from[i];
        }
    }
}

}  // namespace rnnfast
