#include "ops/weight_gradient.h"

#include <algorithm>

namespace rnnfast::core {

namespace {

// Depth of a block. 192, whose operands would fit L1 together, made LSTM training 6% slower, 768 2%.
constexpr size_t row_block = 384;

// Row r of a part: walks through the steps as r grows.
class RowWalk {
public:
    RowWalk(const Steps& steps, const RowPlaces& places, const GradientPart& part, size_t first)
        : offset_(steps.offset), places_(places), part_(part), r_(first) {
        step_ = static_cast<size_t>(std::upper_bound(offset_.begin(), offset_.end(), first) - offset_.begin()) - 1;
    }
    const float* next() {
        const size_t r = r_++;
        if (!part_.h0) return part_.rows.row(places_.at(r));
        while (r >= offset_[step_ + 1]) ++step_;
        const size_t n = r - offset_[step_];
        return step_ ? part_.rows.row(places_.at(offset_[step_ - 1] + n)) : part_.h0.row(places_.at(n));
    }

private:
    const std::vector<size_t>& offset_;
    const RowPlaces& places_;
    const GradientPart& part_;
    size_t r_, step_;
};

size_t words_of(const GemmKernel& kernel, size_t rows) { return (rows + kernel.terms - 1) / kernel.terms; }

// panels[j / width][word of rows][width] of rows [first, last): the block's right-hand side
void pack_rows(const WeightGradient& g, const GradientPart& part, Range rows, const GemmKernel& kernel, float* panels) {
    const size_t width = kernel.width, words = words_of(kernel, rows.size()), depth = part.gradient.columns;
    RowWalk walk(*g.steps, g.places, part, rows.begin);
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

// left[gate][word of rows][units of the blocks] for rows of gate gradients
void pack_gates(const WeightGradient& w, Range rows, Range blocks, const GemmKernel& kernel, float* left) {
    const GateOrder& order = w.weights->order;
    const size_t units = blocks.size() * unit_block, plane = words_of(kernel, rows.size()) * units;
    for (size_t k = rows.begin; k < rows.end; k += kernel.terms, left += units) {
        const float* row = w.gates.row(w.places.at(k));
        const float* next = kernel.across && k + 1 < rows.end ? w.gates.row(w.places.at(k + 1)) : nullptr;
        for (size_t b = 0; b < blocks.size(); ++b)
            for (size_t g = 0; g < order.gates; ++g) {
                const size_t column = ((blocks.begin + b) * order.gates + g) * unit_block;
                float* to = left + g * plane + b * unit_block;
                if (kernel.across)
                    kernel.across(unit_block, row + column, next ? next + column : nullptr, to);
                else
                    std::memcpy(to, row + column, unit_block * sizeof(float));
            }
    }
}

// Blocks of gates packed at once: with about 256 left rows, the panels of the right-hand side are read a quarter as
// often as with the 64 of one LSTM block (8% at H = 650). Not tuned further.
size_t blocks_at_once(const GateOrder& order) { return std::max<size_t>(1, 256 / (order.gates * unit_block)); }

}  // namespace

size_t weight_gradient_scratch(const ScanWeights& w, size_t depth, size_t other_depth) {
    const size_t width = w.kernels->product().width;
    return row_block * (round_up(depth, width) + round_up(other_depth, width) +
                        blocks_at_once(w.order) * w.order.gates * unit_block);
}

// Of a single row: each gradient's row is a number times it, without packing.
void WeightGradient::add_row(const Range& blocks, const GradientPart& part) const {
    const GateOrder& order = weights->order;
    const Range chosen = part.gates.size() ? part.gates : Range{0, order.gates};
    const float* row = RowWalk(*steps, places, part, 0).next();
    UnpackedProduct p;
    p.depth = 1;
    p.columns = part.gradient.columns;
    p.lines = &row;
    p.start = zeros;
    for (size_t b = blocks.begin; b < blocks.end; ++b)
        for (size_t g = chosen.begin; g < chosen.end; ++g)
            for (size_t unit = b * unit_block; unit < std::min((b + 1) * unit_block, order.hidden); ++unit) {
                p.a = gates.row(places.at(0)) + (b * order.gates + g) * unit_block + unit % unit_block;
                p.c = part.gradient.row(g * order.hidden + unit);
                weights->kernels->product().with_rows(p);
            }
}

void WeightGradient::add(const Team& team, std::initializer_list<GradientPart> parts) const {
    const GateOrder& order = weights->order;
    const GemmKernel& kernel = gemm_for(*weights->kernels, weights->weights);
    const Range own = split(order.blocks(), team.size, team.index);
    if (own.size() == 0) return;
    if (steps->total() == 1 && weights->weights == Weights::f32) {
        for (const GradientPart& part : parts) add_row(own, part);
        return;
    }
    float* left = scratch;
    float* panels = scratch + row_block * blocks_at_once(order) * order.gates * unit_block;
    for (size_t r = 0; r < steps->total(); r += row_block) {
        const Range rows{r, std::min(r + row_block, steps->total())};
        const size_t words = words_of(kernel, rows.size());
        float* right = panels;
        for (const GradientPart& part : parts) {
            pack_rows(*this, part, rows, kernel, right);
            right += row_block * round_up(part.gradient.columns, kernel.width);
        }
        for (size_t b = own.begin; b < own.end; b += blocks_at_once(order)) {
            const Range blocks{b, std::min(b + blocks_at_once(order), own.end)};
            pack_gates(*this, rows, blocks, kernel, left);
            const size_t packed = blocks.size() * unit_block;
            const size_t units = std::min(packed, order.hidden - b * unit_block);
            right = panels;
            for (const auto& [source, h0, gradient, some] : parts) {
                const Range chosen = some.size() ? some : Range{0, order.gates};
                Gemm p;
                p.rows = chosen.size() * units;
                p.depth = words;
                p.columns = gradient.columns;
                p.a = {left + chosen.begin * words * packed, 1, units, words * packed};
                p.step = packed;
                p.panels = right;
                p.start = r ? nullptr : zeros;
                p.c = {gradient.row(chosen.begin * order.hidden + b * unit_block), gradient.stride, units,
                       order.hidden * gradient.stride};
                kernel.run(p);
                right += row_block * round_up(gradient.columns, kernel.width);
            }
        }
    }
}

void WeightGradient::add_state_weights(const Team& team, const ConstView& c, const ConstView& c0,
                                       const View& gradient) const {
    const GateOrder& order = weights->order;
    const StateReads& reads = weights->cell->state_reads;
    const Range own = split(order.blocks(), team.size, team.index);
    for (size_t n = 0; n < reads.count; ++n) {
        const bool before = !reads.last_reads_new || n + 1 < reads.count;
        const GradientPart part{c, before ? c0 : ConstView(), gradient};
        for (size_t b = own.begin; b < own.end; ++b) {
            float sums[unit_block] = {};
            RowWalk walk(*steps, places, part, 0);
            for (size_t r = 0; r < steps->total(); ++r) {
                const float* from = gates.row(places.at(r)) + (b * order.gates + reads.gates[n]) * unit_block;
                const float* state = walk.next() + b * unit_block;
                for (size_t i = 0; i < unit_block; ++i) sums[i] += from[i] * state[i];
            }
            float* to = gradient.row(n) + b * unit_block;
            for (size_t i = 0; i < std::min(unit_block, order.hidden - b * unit_block); ++i) to[i] += sums[i];
        }
    }
}

// Tokens that occur again and again: a transposed part of the gradient takes whole vectors, in the same order.
void WeightGradient::add_few_tokens(const Range& columns, const int32_t* tokens, size_t depth, float* gradient) const {
    constexpr size_t most = 4 * unit_block;  // columns of a part, which stays in L1 or L2
    const GateOrder& order = weights->order;
    for (size_t j = columns.begin; j < columns.end; j += most) {
        const size_t count = std::min(most, columns.end - j);
        float* rows[most];
        for (size_t i = 0; i < count; ++i) {
            const size_t row = order.torch_row(j + i);
            rows[i] = row == GateOrder::none ? nullptr : gradient + row * depth;
        }
        for (size_t i = 0; i < count; ++i)
            for (size_t v = 0; v < depth; ++v) scratch[v * most + i] = rows[i] ? rows[i][v] : 0.0f;
        for (size_t r = 0; r < steps->total(); ++r)
            weights->kernels->add(count, gates.row(places.at(r)) + j,
                                  scratch + static_cast<size_t>(tokens[places.at(r)]) * most);
        for (size_t i = 0; i < count; ++i)
            for (size_t v = 0; rows[i] && v < depth; ++v) rows[i][v] = scratch[v * most + i];
    }
}

void WeightGradient::add_tokens(const Team& team, const int32_t* tokens, size_t depth, float* gradient) const {
    const GateOrder& order = weights->order;
    const Range columns = split(order.columns(), team.size, team.index, unit_block);
    constexpr size_t few = 512;  // whose part of the gradient fits the scratch memory
    static_assert(few * 4 * unit_block <= row_block * 256);
    if (depth <= few && 4 * depth <= steps->total()) return add_few_tokens(columns, tokens, depth, gradient);
    // Sixteen columns at a time: their gradients' rows stay in L1 while all tokens pass.
    for (size_t j = columns.begin; j < columns.end; j += unit_block) {
        float* rows[unit_block];
        size_t valid = 0;  // units of one gate lie side by side, padding at the end
        for (; valid < unit_block && order.torch_row(j + valid) != GateOrder::none; ++valid)
            rows[valid] = gradient + order.torch_row(j + valid) * depth;
        for (size_t r = 0; r < steps->total(); ++r) {
            const auto token = static_cast<size_t>(tokens[places.at(r)]);
            const float* from = gates.row(places.at(r)) + j;
            for (size_t i = 0; i < valid; ++i) rows[i][token] += from[i];
        }
    }
}

}  // namespace rnnfast::core
