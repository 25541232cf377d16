#include "core/weight_gradient.h"

#include <algorithm>

namespace rnnfast {

namespace {

// Depth of a block. 192, whose operands would fit L1 together, made LSTM training 6% slower, 768 2%.
constexpr size_t row_block = 384;

// Row r of the source: walks through the steps as r grows.
class SourceWalk {
public:
    SourceWalk(const Steps& steps, const SourceRows& source, size_t first)
        : offset_(steps.offset), source_(source), r_(first) {
        step_ = static_cast<size_t>(std::upper_bound(offset_.begin(), offset_.end(), first) - offset_.begin()) - 1;
    }
    const float* next() {
        const size_t r = r_++;
        if (!source_.h0) return source_.rows + r * source_.stride;
        while (r >= offset_[step_ + 1]) ++step_;
        const size_t n = r - offset_[step_];
        return step_ ? source_.rows + (offset_[step_ - 1] + n) * source_.stride : source_.h0 + n * source_.h0_stride;
    }

private:
    const std::vector<size_t>& offset_;
    const SourceRows& source_;
    size_t r_, step_;
};

size_t words_of(const GemmKernel& kernel, size_t rows) { return (rows + kernel.terms - 1) / kernel.terms; }

// panels[j / width][word of rows][width] of rows [first, last): the block's right-hand side
void pack_source(const Steps& steps, const SourceRows& source, Range rows, size_t depth, const GemmKernel& kernel,
                 float* panels) {
    const size_t width = kernel.width, words = words_of(kernel, rows.size());
    SourceWalk walk(steps, source, rows.begin);
    for (size_t k = 0; k < words; ++k) {
        const float* row = walk.next();
        const float* other = kernel.across && k * kernel.terms + 1 < rows.size() ? walk.next() : nullptr;
        for (size_t j = 0; j < depth; j += width) {
            float* out = panels + j * words + k * width;
            const size_t valid = std::min(width, depth - j);
            if (kernel.across)
                kernel.across(valid, row + j, other ? other + j : nullptr, out);
            else
                std::copy_n(row + j, valid, out);
            std::fill(out + valid, out + width, 0.0f);
        }
    }
}

// left[word of rows][16 units] of one gate block, for rows `stride` floats apart
void pack_gates(const float* gates, size_t rows, size_t stride, const GemmKernel& kernel, float* left) {
    for (size_t k = 0; k < rows; k += kernel.terms, left += unit_block, gates += kernel.terms * stride) {
        if (kernel.across)
            kernel.across(unit_block, gates, k + 1 < rows ? gates + stride : nullptr, left);
        else
            std::copy_n(gates, unit_block, left);
    }
}

}  // namespace

size_t weight_gradient_scratch(const ScanWeights& w, size_t depth) {
    return row_block * (round_up(depth, w.kernels->gemm.width) + w.order.gates * unit_block);
}

void WeightGradient::add(const Team& team, const SourceRows& source, size_t depth, float* gradient) const {
    const ScanWeights& w = *weights;
    const size_t gates_per_unit = w.order.gates, columns = w.order.columns(), hidden = w.order.hidden;
    const GemmKernel& kernel = gemm_for(*w.kernels, w.weights);
    const Range blocks = split(w.order.blocks(), team.size, team.index);
    if (blocks.size() == 0) return;
    float* panels = scratch;
    float* left = scratch + row_block * round_up(depth, kernel.width);  // [G][words of rows][16 units] of one block
    for (size_t r = 0; r < steps->total(); r += row_block) {
        const Range rows{r, std::min(r + row_block, steps->total())};
        const size_t words = words_of(kernel, rows.size()), plane = words * unit_block;
        pack_source(*steps, source, rows, depth, kernel, panels);
        for (size_t b = blocks.begin; b < blocks.end; ++b) {
            for (size_t g = 0; g < gates_per_unit; ++g)
                pack_gates(gates + r * columns + (b * gates_per_unit + g) * unit_block, rows.size(), columns, kernel,
                           left + g * plane);
            const size_t units = std::min(unit_block, hidden - b * unit_block);
            Gemm p;
            p.rows = gates_per_unit * units;
            p.depth = words;
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
