#include "ops/scan.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "ops/weight_gradient.h"
#include "runtime/check.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

namespace {

constexpr size_t block_rows = 64;              // rows of a block that stays in L2 while weights pass
constexpr size_t tile_floats = 16 * 1024 / 4;  // recurrent part of one tile: stays in L1 until its cell has run

// What one thread owns: rows for the whole sequence (no barrier needed), or units of every row (a barrier a step).
struct Share {
    Range rows, columns;  // columns: of the recurrent product, in whole groups
    bool split_units;
};

// Units are split where a thread would own fewer than two rows.
Share share_of(const Team& team, const Steps& steps, size_t columns, size_t grain) {
    const size_t rows = steps.rows(0);
    if (rows >= 2 * team.size) return {split(rows, team.size, team.index), {0, columns}, false};
    return {{0, rows}, split(columns, team.size, team.index, grain), true};
}

// The rows of a share still running at step t.
Range running(const Share& share, const Steps& steps, size_t t) {
    const size_t rows = steps.rows(t);
    return {std::min(share.rows.begin, rows), std::min(share.rows.end, rows)};
}

// Rows whose input part is made at once: few are still in L2 at their step. But input weights that exceed L2 by
// themselves had better be read less often (3 to 6% at N = 20, H = 650).
size_t input_rows(const ScanWeights& w, const ScanForward& s) {
    constexpr size_t level_2_floats = (1u << 20) / sizeof(float);
    return !s.tokens && w.input_size && w.input.words() * w.input.padded_columns() > level_2_floats ? 8 * block_rows
                                                                                                    : block_rows;
}

double scan_flops(const ScanWeights& w, const Steps& steps) {
    return 2.0 * static_cast<double>(w.order.columns()) * static_cast<double>(steps.total()) *
           static_cast<double>(w.order.hidden + w.input_size);
}

}  // namespace

size_t tile_columns(size_t rows, size_t grain) {
    constexpr size_t most = 512;
    return std::max<size_t>(1, std::min(tile_floats / std::max<size_t>(rows, 1), most) / grain) * grain;
}

size_t tile_scratch(size_t rows, size_t grain) { return std::max(tile_floats, rows * grain); }

void set_even(Steps& s, size_t steps, size_t rows) {
    s.offset.resize(steps + 1);
    for (size_t t = 0; t <= steps; ++t) s.offset[t] = t * rows;
}

void cut(const Steps& all, Range range, Steps& part) {
    part.offset.resize(range.size() + 1);
    for (size_t t = 0; t <= range.size(); ++t) part.offset[t] = all.offset[range.begin + t] - all.offset[range.begin];
}

void RaggedRows::set(const int64_t* lengths, size_t count, size_t rows) {
    order.resize(rows);
    std::iota(order.begin(), order.end(), size_t{0});
    length.assign(rows, count);
    even = true;
    if (lengths) check_lengths(lengths, rows, {0, count});
    for (size_t n = 0; lengths && n < rows; ++n) even = even && static_cast<size_t>(lengths[n]) == count;
    if (even) return set_even(steps, count, rows);
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return lengths[a] != lengths[b] ? lengths[a] > lengths[b] : a < b; });
    for (size_t n = 0; n < rows; ++n) length[n] = static_cast<size_t>(lengths[order[n]]);
    steps.offset.assign(1, 0);
    for (size_t t = 0, running = rows; t < length[0]; ++t) {
        while (length[running - 1] <= t) --running;
        steps.offset.push_back(steps.offset.back() + running);
    }
}

namespace {

// gates[r, columns] = W_ih e_token + b
void gather_input(const ScanWeights& w, const int32_t* tokens, size_t rows, Range columns, const Rows& gates) {
    for (size_t r = 0; r < rows; ++r)
        std::memcpy(gates.base + r * gates.stride,
                    w.token_rows.data() + static_cast<size_t>(tokens[r]) * w.order.columns() + columns.begin,
                    columns.size() * sizeof(float));
}

// gates[r, columns] = W_ih x_r + b for `rows` rows of each of `steps` steps, every step's rows `step_rows` apart;
// `row` is the first of them in its step. Where there are fixed inputs, the sum goes on from their part of each row.
void input_part(const ScanWeights& w, const ScanForward& s, size_t first_row, size_t row, size_t rows, size_t steps,
                size_t step_rows, Range columns, const Rows& gates, float* left) {
    for (size_t t = 0; s.tokens && t < steps; ++t)
        gather_input(w, s.tokens + first_row + t * step_rows, rows, columns,
                     {gates.base + t * gates.jump, gates.stride, 0, 0});
    if (s.tokens) return;
    const float *bias = w.input_bias.data() + columns.begin, *fixed = s.fixed_part;
    const auto start_of = [&](size_t n) {
        return fixed ? fixed + (s.fixed_row ? s.fixed_row[n] : n) * w.order.columns() + columns.begin : bias;
    };
    if (fixed || w.input_size == 0)
        for (size_t r = 0; r < rows * steps; ++r)
            std::copy_n(start_of(row + r % rows), columns.size(),
                        gates.base + r / rows * gates.jump + r % rows * gates.stride);
    if (w.input_size == 0) return;
    const ConstRows x{s.x + first_row * s.x_stride, s.x_stride, rows, step_rows * s.x_stride};
    multiply(w.input, left_rows(w.input, x, rows * steps, left), columns.begin, columns.size(), fixed ? nullptr : bias,
             gates);
}

}  // namespace

void fused_step(const ScanWeights& w, const LeftRows& h_prev, CellForward c, Range columns, float* tile) {
    multiply(w.recurrent, h_prev, columns.begin, columns.size(), w.recurrent_bias.data() + columns.begin,
             {tile, columns.size(), 0, 0});
    const size_t unit = columns.begin / w.cell->gates;
    c.units = std::min(columns.size() / w.cell->gates, w.order.hidden - unit);
    c.gates += columns.begin;
    c.recurrent = tile;
    c.recurrent_stride = columns.size();
    c.h_prev += unit;
    c.h += unit;
    if (c.c) c.c_prev += unit;
    if (c.c) c.c += unit;
    if (c.extra) c.extra += unit;
    w.kernels->cells[w.cell->kernel].forward(c);
}

namespace {

// So few gates that both parts of all of them stay in L1.
bool few_gates(const ScanWeights& w, size_t rows) { return rows * w.order.columns() <= 2 * tile_floats; }

// C[r, :] = start + A[r] B, walking B's panels backwards on odd steps
void multiply_walking(const PackedMatrix& b, const ConstRows& a, size_t rows, const float* start, size_t columns,
                      size_t step, float* c, float* left) {
    const LeftRows a_rows = left_rows(b, a, rows, left);
    const size_t wide = std::max<size_t>(1, 512 / b.width()) * b.width();
    for_each_tile({0, columns}, wide, step, [&](Range part) {
        multiply(b, a_rows, part.begin, part.size(), start + part.begin, {c + part.begin, columns, 0, 0});
    });
}

}  // namespace

StepMemory::Sizes StepMemory::sizes(const ScanWeights& w, size_t rows) {
    return {rows * w.order.columns(),
            few_gates(w, rows) ? rows * w.order.columns() : tile_scratch(rows, w.column_grain()),
            std::max(w.input.depth() ? left_scratch(w.input, rows) : 0, left_scratch(w.recurrent, rows))};
}

void StepMemory::reserve(const Sizes& sizes) {
    gates.reserve(sizes.gates);
    recurrent.reserve(sizes.recurrent);
    left.reserve(sizes.left);
}

void scan_step(const ScanWeights& w, const ScanStep& s, StepMemory& memory) {
    const size_t columns = w.order.columns(), hidden = w.order.hidden;
    memory.reserve(StepMemory::sizes(w, s.rows));
    float *gates = memory.gates.data(), *recurrent = memory.recurrent.data(), *left = memory.left.data();
    const ConstRows x{s.x, w.input_size, 0, 0}, h{s.h, hidden, 0, 0};
    const auto input = [&] {
        if (s.tokens)
            gather_input(w, s.tokens, s.rows, {0, columns}, {gates, columns, 0, 0});
        else
            multiply_walking(w.input, x, s.rows, w.input_bias.data(), columns, s.step, gates, left);
    };
    CellForward c;
    c.rows = s.rows;
    c.units = hidden;
    c.gates = gates;
    c.recurrent = recurrent;
    c.gate_stride = c.recurrent_stride = columns;
    c.h_prev = s.h;
    c.h = s.h_next;
    c.h_prev_stride = c.h_stride = hidden;
    if (w.cell->has_c) {
        c.c_prev = c.c = s.c;
        c.c_prev_stride = c.c_stride = w.order.padded_hidden();
    }
    if (!few_gates(w, s.rows)) {
        input();
        const LeftRows h_rows = left_rows(w.recurrent, h, s.rows, left);
        for_each_tile({0, columns}, tile_columns(s.rows, w.column_grain()), s.step,
                      [&](Range tile) { fused_step(w, h_rows, c, tile, recurrent); });
        return;
    }
    // Odd steps go all the way back, so that the matrix used last, still in L2, comes first.
    if (s.step % 2 == 0) input();
    multiply_walking(w.recurrent, h, s.rows, w.recurrent_bias.data(), columns, s.step, recurrent, left);
    if (s.step % 2) input();
    w.kernels->cells[w.cell->kernel].forward(c);
}

void scan_forward(const ScanWeights& w, const ScanForward& s) {
    const Steps& steps = *s.steps;
    const size_t columns = w.order.columns(), hidden = w.order.hidden, padded = w.order.padded_hidden();
    const size_t grain = w.column_grain();
    const size_t threads = threads_for(scan_flops(w, steps));
    const size_t rows = steps.rows(0), at_once = input_rows(w, s), most_rows = std::max(at_once, rows);
    const size_t tile_size = tile_scratch(rows, grain);
    const bool product = !s.tokens && w.input_size;
    const size_t left_size = std::max(product ? left_scratch(w.input, most_rows) : 0, left_scratch(w.recurrent, rows));
    const size_t thread_floats = round_up((s.gates ? 0 : most_rows * columns) + tile_size + left_size, alignment / 4);
    s.scratch->reserve(threads * thread_floats);
    const bool save = s.gates != nullptr;

    parallel(threads, [&](const Team& team) {
        const Share share = share_of(team, steps, columns, grain);
        float* tile = s.scratch->data() + team.index * thread_floats;
        float* left = tile + tile_size;
        float* input = left + left_size;
        for (size_t t = 0; t < steps.count();) {
            // The input part of the next steps that have the same rows running.
            const Range mine = running(share, steps, t);
            size_t last = t + 1;
            while (last < steps.count() && steps.rows(last) == steps.rows(t) && (last + 1 - t) * mine.size() <= at_once)
                ++last;
            const size_t first_row = steps.offset[t] + mine.begin;
            const Rows gates = save ? Rows{s.gates + first_row * columns + share.columns.begin, columns, mine.size(),
                                           steps.rows(t) * columns}
                                    : Rows{input + share.columns.begin, columns, mine.size(), mine.size() * columns};
            if (mine.size() && share.columns.size())
                input_part(w, s, first_row, mine.begin, mine.size(), last - t, steps.rows(t), share.columns, gates,
                           left);

            for (const size_t first = t; t < last; ++t) {
                const size_t at = steps.offset[t] + mine.begin;
                const size_t before = t ? steps.offset[t - 1] + mine.begin : 0;
                const size_t wide = tile_columns(mine.size(), grain);
                const float* h_prev = t ? s.y + before * s.y_stride : s.h0 + mine.begin * hidden;
                const size_t h_prev_stride = t ? s.y_stride : hidden;
                const LeftRows h_rows = left_rows(w.recurrent, {h_prev, h_prev_stride, 0, 0}, mine.size(), left);
                CellForward c;
                c.rows = mine.size();
                c.save = save;
                c.gates = gates.base + (t - first) * gates.jump - share.columns.begin;
                c.gate_stride = columns;
                c.h_prev = h_prev;
                c.h_prev_stride = h_prev_stride;
                c.h = s.y + at * s.y_stride;
                c.h_stride = s.y_stride;
                if (w.cell->has_c) {
                    c.c_prev = !save ? s.c + mine.begin * padded
                               : t   ? s.c + before * padded
                                     : s.c0 + mine.begin * padded;
                    c.c = s.c + (save ? at : mine.begin) * padded;
                    c.c_prev_stride = c.c_stride = padded;
                }
                if (s.extra) c.extra = s.extra + at * padded;
                c.extra_stride = padded;
                if (mine.size())
                    for_each_tile(share.columns, wide, t, [&](Range part) { fused_step(w, h_rows, c, part, tile); });
                if (share.split_units) team.wait();
            }
        }
    });
}

void fixed_part(const ScanWeights& w, const float* fixed, size_t rows, float* part, Buffer& scratch) {
    const size_t columns = w.order.columns();
    scratch.reserve(left_scratch(w.fixed, rows));
    const LeftRows left = left_rows(w.fixed, {fixed, w.fixed_size, 0, 0}, rows, scratch.data());
    parallel(threads_for(2.0 * static_cast<double>(rows * columns * w.fixed_size)), [&](const Team& team) {
        const Range own = split(columns, team.size, team.index, w.column_grain());
        if (own.size() == 0) return;
        multiply(w.fixed, left, own.begin, own.size(), w.input_bias.data() + own.begin,
                 {part + own.begin, columns, 0, 0});
    });
}

void scan_forward(const ScanWeights& w, const ScanForward& s, Range range, Steps& part) {
    const size_t first = s.steps->offset[range.begin], padded = w.order.padded_hidden();
    const size_t before = range.begin ? s.steps->offset[range.begin - 1] : 0;
    cut(*s.steps, range, part);
    ScanForward p = s;
    p.steps = &part;
    if (s.x) p.x = s.x + first * s.x_stride;
    if (s.tokens) p.tokens = s.tokens + first;
    if (range.begin) p.h0 = s.y + before * s.y_stride;
    if (range.begin && s.c) p.c0 = s.c + before * padded;
    p.y = s.y + first * s.y_stride;
    if (s.c) p.c = s.c + first * padded;
    p.gates = s.gates + first * w.order.columns();
    if (s.extra) p.extra = s.extra + first * padded;
    scan_forward(w, p);
}

void swap_last_gate(const GateOrder& order, float* gates, float* extra) {
    const size_t step = order.gates * unit_block;
    for (size_t b = 0; b < order.blocks(); ++b) {
        float* last = gates + b * step + step - unit_block;
        std::swap_ranges(last, last + unit_block, extra + b * unit_block);
    }
}

namespace {

// Each bias (in PyTorch's order, or nullptr) += column sums of the gate gradients, over the columns this thread owns.
void add_bias_gradient(const ScanWeights& w, const Team& team, const float* gates, size_t rows, float* sums,
                       std::initializer_list<float*> biases) {
    if (!*biases.begin()) return;
    const Range own = split(w.order.columns(), team.size, team.index, unit_block);
    std::fill(sums + own.begin, sums + own.end, 0.0f);
    w.kernels->column_sums(rows, own.size(), gates + own.begin, w.order.columns(), sums + own.begin);
    for (float* bias : biases)
        for (size_t j = own.begin; j < own.end; ++j)
            if (const size_t row = w.order.torch_row(j); row != GateOrder::none) bias[row] += sums[j];
}

// sums[n, :] = the gate gradients of row n over all its steps, in order
void sum_over_steps(const ScanWeights& w, const Steps& steps, Range rows, const float* gates, float* sums) {
    const size_t columns = w.order.columns();
    for (size_t n = rows.begin; n < rows.end; ++n) {
        std::copy_n(gates + n * columns, columns, sums + n * columns);
        for (size_t t = 1; t < steps.count() && n < steps.rows(t); ++t)
            w.kernels->add(columns, gates + (steps.offset[t] + n) * columns, sums + n * columns);
    }
}

}  // namespace

void scan_weight_gradients(const Team& team, const ScanWeights& w, const ScanBackward& s,
                           const ScanGradients& gradients, float* scratch, float* sums) {
    const Steps& steps = *s.steps;
    const size_t columns = w.order.columns(), hidden = w.order.hidden, padded = w.order.padded_hidden();
    const size_t total = steps.total();
    const WeightGradient g{&w, &steps, s.gates, scratch};
    const GradientPart from_h{{s.y, s.y_stride, s.h0, hidden}, hidden, gradients.weight_hh, hidden};
    const GradientPart from_x{{s.x, s.x_stride, nullptr, 0}, w.input_size, gradients.weight_ih, w.input_stride()};
    const bool dense = !s.tokens && w.input_size;
    if (s.extra) {  // the last gate's input part has a gradient of its own
        g.add(team, {from_h});
        add_bias_gradient(w, team, s.gates, total, sums, {gradients.bias_hh});
        team.wait();
        const Range own = split(total, team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r)
            swap_last_gate(w.order, s.gates + r * columns, s.extra + r * padded);
        team.wait();
        if (dense) g.add(team, {from_x});
        add_bias_gradient(w, team, s.gates, total, sums, {gradients.bias_ih});
    } else {
        dense ? g.add(team, {from_h, from_x}) : g.add(team, {from_h});
        add_bias_gradient(w, team, s.gates, total, sums, {gradients.bias_ih, gradients.bias_hh});
    }
    if (s.tokens) g.add_tokens(team, s.tokens, w.input_size, gradients.weight_ih);
}

void scan_backward(const ScanWeights& w, const ScanBackward& s, const ScanGradients& gradients) {
    const Steps& steps = *s.steps;
    const size_t columns = w.order.columns(), hidden = w.order.hidden, padded = w.order.padded_hidden();
    const size_t grain = std::max(w.recurrent_back.width(), unit_block);
    const size_t threads = threads_for(2 * scan_flops(w, steps));
    const size_t rows = steps.rows(0), total = steps.total();
    const size_t tile_size = tile_scratch(rows, grain);
    const size_t pack_size = weight_gradient_scratch(w, hidden, s.tokens ? 0 : std::max(w.input_size, w.fixed_size));
    const size_t left_size = left_scratch(w.recurrent_back, std::max(rows, block_rows));
    const size_t thread_floats = round_up(std::max(tile_size + left_size, pack_size), alignment / 4);
    const size_t widest = round_up(std::max({hidden, w.input_size, w.fixed_size}), grain);
    const size_t carry_size = round_up(rows * padded, alignment / 4);
    const size_t sums_size = round_up(columns, alignment / 4);
    s.scratch->reserve(threads * thread_floats + widest + carry_size + sums_size + (w.fixed_size ? rows * columns : 0));
    float* zeros = s.scratch->data() + threads * thread_floats;
    float* direct = zeros + widest;  // what bypasses the gates on its way to the step before
    float* sums = direct + carry_size;
    float* over_steps = sums + sums_size;  // [N, G*H] each row's gate gradients, summed: the fixed inputs' share
    const Steps one_step{{0, rows}};
    std::fill(zeros, sums, 0.0f);

    parallel(threads, [&](const Team& team) {
        const Share share = share_of(team, steps, round_up(hidden, grain), grain);
        float* scratch = s.scratch->data() + team.index * thread_floats;

        float* left = scratch + tile_size;

        // tile[r, unit..] = what step t gets from the steps after it, without the direct part
        const auto from_later = [&](Range mine, const LeftRows& later, size_t unit, size_t width) {
            if (later.count)
                multiply(w.recurrent_back, later, unit, std::min(width, padded - unit), zeros, {scratch, width, 0, 0});
            for (size_t r = mine.begin + later.count; r < mine.end; ++r) {  // rows whose last step this is
                float* row = scratch + (r - mine.begin) * width;
                std::fill(row, row + width, 0.0f);
                if (s.dh_last) std::copy_n(s.dh_last + r * hidden + unit, std::min(width, hidden - unit), row);
            }
        };

        const Range units{std::min(share.columns.begin, hidden), std::min(share.columns.end, hidden)};
        for (size_t t = steps.count(); t-- > 0;) {
            const Range mine = running(share, steps, t);
            const size_t wide = tile_columns(mine.size(), grain);
            const size_t at = steps.offset[t] + mine.begin;
            const size_t still_running = t + 1 < steps.count() ? running(share, steps, t + 1).size() : 0;
            const LeftRows later =
                left_rows(w.recurrent_back, {s.gates + (steps.offset[t + 1] + mine.begin) * columns, columns, 0, 0},
                          still_running, left);
            for_each_tile(units, wide, t, [&](Range tile) {
                if (!mine.size()) return;
                const size_t unit = tile.begin, width = round_up(tile.size(), grain);
                from_later(mine, later, unit, width);
                const size_t before = t ? steps.offset[t - 1] + mine.begin : mine.begin;
                CellBackward c;
                c.rows = mine.size();
                c.units = tile.size();
                c.gates = s.gates + at * columns + unit * w.cell->gates;
                c.gate_stride = columns;
                c.recurrent = scratch;
                c.recurrent_stride = width;
                if (s.dy) c.dy = s.dy + at * s.dy_stride + unit;
                c.dy_stride = s.dy_stride;
                c.h_prev = (t ? s.y + before * s.y_stride : s.h0 + before * hidden) + unit;
                c.h_prev_stride = t ? s.y_stride : hidden;
                if (w.cell->has_c) {
                    c.c = s.c + at * padded + unit;
                    c.c_prev = (t ? s.c : s.c0) + before * padded + unit;
                    c.c_stride = c.c_prev_stride = padded;
                    c.dc = s.dc + mine.begin * padded + unit;
                }
                c.direct = direct + mine.begin * padded + unit;
                c.carry_stride = padded;
                if (s.extra) c.extra = s.extra + at * padded + unit;
                c.extra_stride = padded;
                w.kernels->cells[w.cell->kernel].backward(c);
            });
            if (share.split_units) team.wait();
        }
        team.wait();

        // dh0 = dgates_0 W_hh + the direct part
        const Range own_rows = split(rows, team.size, team.index);
        if (s.dh0 && own_rows.size()) {
            const ConstRows first{s.gates + own_rows.begin * columns, columns, 0, 0};
            multiply(w.recurrent_back, left_rows(w.recurrent_back, first, own_rows.size(), left), 0, hidden, zeros,
                     {s.dh0 + own_rows.begin * hidden, hidden, 0, 0});
            for (size_t r = own_rows.begin; r < own_rows.end; ++r)
                w.kernels->add(hidden, direct + r * padded, s.dh0 + r * hidden);
        }

        scan_weight_gradients(team, w, s, gradients, scratch, sums);
        if (w.fixed_size) {
            sum_over_steps(w, steps, split(rows, team.size, team.index), s.gates, over_steps);
            team.wait();
            const WeightGradient once{&w, &one_step, over_steps, scratch};
            once.add(team, {{{s.fixed, w.fixed_size, nullptr, 0},
                             w.fixed_size,
                             gradients.weight_ih + w.input_size,
                             w.input_stride()}});
        }
        if (s.dfixed && own_rows.size()) {
            const ConstRows summed{over_steps + own_rows.begin * columns, columns, 0, 0};
            multiply(w.fixed_back, left_rows(w.fixed_back, summed, own_rows.size(), left), 0, w.fixed_size, zeros,
                     {s.dfixed + own_rows.begin * w.fixed_size, w.fixed_size, 0, 0});
        }

        // In blocks of rows that stay in L2 while all panels pass (9% of dX at H = 512).
        const Range own = split(total, team.size, team.index);
        for (size_t r = own.begin; s.dx && r < own.end; r += block_rows) {
            const ConstRows gates{s.gates + r * columns, columns, 0, 0};
            const size_t count = std::min(block_rows, own.end - r);
            multiply(w.input_back, left_rows(w.input_back, gates, count, left), 0, w.input_size, zeros,
                     {s.dx + r * s.dx_stride, s.dx_stride, 0, 0});
        }
    });
}

}  // namespace rnnfast::core
