#include "ops/scan.h"

#include <array>
#include <optional>

#include "ops/weight_gradient.h"

namespace rnnfast::core {

namespace {

constexpr size_t block_rows = 64;  // rows of a block that stays in L2 while weights pass

// What one thread owns: rows for the whole sequence (no barrier needed), or units of every row (a barrier a step).
struct Share {
    Range rows, columns;  // columns: of the recurrent product, in whole groups
    bool split_units;
};

// Units are split where a thread would own fewer than two rows.
Share share_of(const Team& team, size_t rows, size_t columns, size_t grain) {
    if (rows >= 2 * team.size) return {split(rows, team.size, team.index), {0, columns}, false};
    return {{0, rows}, split(columns, team.size, team.index, grain), true};
}

// Rows whose input part is made together: few are still in L2 at their step. But input weights that exceed L2 by
// themselves had better be read less often (3 to 6% at N = 20, H = 650).
size_t input_rows(const ScanWeights& w, const ScanForward& s) {
    constexpr size_t level_2_floats = (1u << 20) / sizeof(float);
    return !s.tokens && w.input_size && w.input.words() * w.input.padded_columns() > level_2_floats ? 8 * block_rows
                                                                                                    : block_rows;
}

double scan_flops(const ScanWeights& w, const Steps& steps) {
    return 2.0 * static_cast<double>(w.order.columns()) * static_cast<double>(steps.total()) *
           static_cast<double>(w.cell->recurrent_depth(w.order.hidden) + w.input_size);
}

// Some rows in each of several steps, in which the same rows run.
struct Chunk {
    Range steps, rows;
    size_t size() const { return steps.size() * rows.size(); }
};

// From step t on, at most about `most` rows in all, but at least one step.
Chunk chunk_at(const Steps& steps, Range rows, size_t t, size_t most) {
    size_t last = t + 1;
    while (last < steps.count() && steps.rows(last) == steps.rows(t) && (last + 1 - t) * rows.size() <= most) ++last;
    return {{t, last}, rows};
}

// gates[r, columns] = W_ih x_r + b for the rows of a chunk, whose gates lie `period` rows apart from step to step.
// Where there are fixed inputs, the sum goes on from their part of each row.
void input_part(const ScanWeights& w, const ScanForward& s, const Chunk& chunk, Range columns, const View& gates,
                size_t period, float* left) {
    const size_t count = chunk.rows.size();
    const View part = gates.column_range(columns);
    const float* bias = w.input_bias.data() + columns.begin;
    for (size_t t = 0; t < chunk.steps.size(); ++t) {
        const View now = part.row_range({t * period, t * period + count});
        if (s.tokens) gather_input(w, s.tokens + s.steps->at(chunk.steps.begin + t, chunk.rows).begin, columns, now);
        for (size_t r = 0; (s.fixed_part || w.input_size == 0) && r < count; ++r) {
            const size_t n = chunk.rows.begin + r, from = s.fixed_row ? s.fixed_row[n] : n;
            std::copy_n(s.fixed_part ? s.fixed_part + from * w.order.columns() + columns.begin : bias, columns.size(),
                        now.row(r));
        }
    }
    if (s.tokens || w.input_size == 0) return;
    const ConstView x = s.x.row_range(s.steps->at(chunk.steps.begin, chunk.rows));
    const LeftRows rows = left_rows(w.input, x.in_runs(count, s.steps->rows(chunk.steps.begin)), chunk.size(), left);
    multiply(w.input, rows, columns.begin, columns.size(), s.fixed_part ? nullptr : bias, part.in_runs(count, period));
}

// Sizes of one forward, and each thread's memory in the scratch buffer.
struct ForwardPlan {
    bool recurrent;
    size_t columns, grain, threads, rows_together, tile, left, floats;
    View extra;  // [N, padded H] of all threads, for a cell with a second product that saves nothing

    ForwardPlan(const ScanWeights& w, const ScanForward& s)
        : recurrent(w.cell->recurrent),
          columns(w.order.columns()),
          grain(w.column_grain()),
          threads(threads_for(scan_flops(w, *s.steps))),
          rows_together(input_rows(w, s)) {
        const size_t rows = s.steps->rows(0), most_rows = std::max(rows_together, rows);
        const bool product = !s.tokens && w.input_size;
        tile = tile_scratch(rows, grain);
        left = std::max(product ? left_scratch(w.input, most_rows) : 0, left_scratch(w.recurrent, rows));
        floats = round_up((s.saves() ? 0 : most_rows * w.order.columns()) + tile + left, alignment / 4);
        const size_t padded = w.order.padded_hidden(), shared = w.cell->has_second() && !s.saves() ? rows * padded : 0;
        s.scratch->reserve(threads * floats + shared);
        if (shared) extra = {s.scratch->data() + threads * floats, rows, padded};
    }
    // Columns of a step that are done together: all of them where no recurrent part has to stay in L1.
    size_t step_columns(size_t rows) const { return recurrent ? tile_columns(rows, grain) : columns; }
};

}  // namespace

void reserve_scratch(const ScanWeights& w, const ScanForward& s) { static_cast<void>(ForwardPlan(w, s)); }

void scan_forward(const ScanWeights& w, const ScanForward& s) {
    const Steps& steps = *s.steps;
    const size_t columns = w.order.columns();
    const ForwardPlan plan(w, s);
    parallel(plan.threads, [&](const Team& team) {
        const Share share = share_of(team, steps.rows(0), columns, plan.grain);
        float* tile = s.scratch->data() + team.index * plan.floats;
        float* left = tile + plan.tile;
        float* input = left + plan.left;
        for (size_t t = 0; t < steps.count();) {
            const Range mine = steps.running(share.rows, t);
            const Chunk chunk = chunk_at(steps, mine, t, plan.rows_together);
            // A thread's own gates lie together, saved ones beside those of other threads.
            const View gates = s.saves() ? s.gates.row_range(steps.at(t, mine)) : View(input, mine.size(), columns);
            const size_t period = s.saves() ? steps.rows(t) : mine.size();
            if (mine.size() && share.columns.size()) input_part(w, s, chunk, share.columns, gates, period, left);
            for (; t < chunk.steps.end; ++t) {
                Step step;
                if (mine.size()) {
                    step = step_at(s, t, mine);
                    const size_t first = (t - chunk.steps.begin) * period;
                    step.gates = gates.row_range({first, first + mine.size()});
                    if (plan.extra) step.extra = plan.extra.row_range(mine);
                    const LeftRows h_prev =
                        w.cell->recurrent ? left_rows(w.recurrent, step.h_prev, mine.size(), left) : LeftRows{};
                    for_each_tile(share.columns, plan.step_columns(mine.size()), t,
                                  [&](Range part) { fused_step(w, step, h_prev, part, tile); });
                }
                if (share.split_units && w.cell->has_second()) team.wait();
                if (mine.size()) finish_step(w, step, share.columns, t, tile, left);
                if (share.split_units && w.cell->recurrent) team.wait();
            }
        }
    });
}

void fixed_part(const ScanWeights& w, const ConstView& fixed, float* part, Buffer& scratch) {
    const size_t columns = w.order.columns();
    scratch.reserve(left_scratch(w.fixed, fixed.rows));
    const LeftRows left = left_rows(w.fixed, fixed, fixed.rows, scratch.data());
    parallel(threads_for(2.0 * static_cast<double>(fixed.rows * columns * w.fixed_size)), [&](const Team& team) {
        const Range own = split(columns, team.size, team.index, w.column_grain());
        if (own.size() == 0) return;
        multiply(w.fixed, left, own.begin, own.size(), w.input_bias.data() + own.begin,
                 View(part, fixed.rows, columns).column_range(own));
    });
}

void multiply_back(const PackedMatrix& weights, const ConstView& gates, const float* zeros, const View& to,
                   float* left) {
    if (weights.columns())
        return multiply(weights, left_rows(weights, gates, gates.rows, left), 0, to.columns, zeros, to);
    for (size_t r = 0; r < to.rows; ++r) std::fill_n(to.row(r), to.columns, 0.0f);
}

void multiply_back_to_input(const ScanWeights& w, const ConstView& gates, const float* zeros, const View& dx,
                            float* left) {
    multiply_back(w.input_back, gates, w.cell->highway ? nullptr : zeros, dx, left);
}

namespace {

// Each bias (in PyTorch's order, or nullptr) = (overwrite ? 0 : itself) + column sums of the gate gradients, over the
// columns this thread owns.
void add_bias_gradient(const ScanWeights& w, const Team& team, const ScanArrays& s, float* sums, bool overwrite,
                       std::initializer_list<float*> biases) {
    if (std::all_of(biases.begin(), biases.end(), [](const float* bias) { return !bias; })) return;
    const Range own = split(w.order.columns(), team.size, team.index, unit_block);
    std::fill(sums + own.begin, sums + own.end, 0.0f);
    for (size_t r = 0, run, rows = s.steps->total(); r < rows; r += run) {
        run = s.places.run(r, rows);
        w.kernels->column_sums(run, own.size(), s.gates.row(s.places.at(r)) + own.begin, s.gates.stride,
                               sums + own.begin);
    }
    for (size_t j = own.begin; j < own.end; ++j) {
        const size_t row = w.order.torch_row(j);
        if (row == GateOrder::none) continue;
        for (float* bias : biases)
            if (bias) bias[row] = overwrite ? sums[j] : bias[row] + sums[j];
    }
}

}  // namespace

void scan_weight_gradients(const Team& team, const ScanWeights& w, const ScanArrays& s, const ScanGradients& gradients,
                           float* scratch, float* sums, const float* zeros) {
    const size_t gate_rows = w.cell->gates * w.order.hidden, hidden = w.order.hidden;
    const WeightGradient g{&w, s.steps, s.gates, scratch, gradients.overwrite ? zeros : nullptr, s.places};
    const GradientPart from_h{s.y, s.h0, {gradients.weight_hh, gate_rows, hidden}};
    const GradientPart from_x{s.x, {}, {gradients.weight_ih, gate_rows, w.input_size, w.input_stride()}};
    const bool of_h = gradients.weight_hh, of_x = gradients.weight_ih && !s.tokens && w.input_size;
    const auto add_biases = [&](std::initializer_list<float*> biases) {
        add_bias_gradient(w, team, s, sums, gradients.overwrite, biases);
    };
    const auto add_state_weights = [&] {
        if (gradients.weight_c)
            g.add_state_weights(team, s.c, s.c0, {gradients.weight_c, w.cell->state_reads.count, hidden});
    };
    if (!w.cell->recurrent) {
        if (of_x) g.add(team, {from_x});
        add_biases({gradients.bias_ih});
        add_state_weights();
        if (s.tokens && gradients.weight_ih) g.add_tokens(team, s.tokens, w.input_size, gradients.weight_ih);
        return;
    }
    if (w.cell->has_second()) {  // the last gate's recurrent weights read `extra` instead of h
        const size_t before = w.cell->gates - 1;
        if (of_h) {
            g.add(team, {{s.y, s.h0, from_h.gradient, {0, before}}});
            g.add(team, {{s.extra, {}, from_h.gradient, {before, before + 1}}});
        }
        if (of_x) g.add(team, {from_x});
        add_biases({gradients.bias_ih, gradients.bias_hh});
    } else if (s.extra) {  // the last gate's input part has its own gradient
        if (of_h) g.add(team, {from_h});
        add_biases({gradients.bias_hh});
        team.wait();
        const Range own = split(s.steps->total(), team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r)
            swap_last_gate(w.order, s.gates.row(s.places.at(r)), s.extra.row(s.places.at(r)));
        team.wait();
        if (of_x) g.add(team, {from_x});
        add_biases({gradients.bias_ih});
    } else {
        if (of_h && of_x)
            g.add(team, {from_h, from_x});
        else if (of_h || of_x)
            g.add(team, {of_h ? from_h : from_x});
        add_biases({gradients.bias_ih, gradients.bias_hh});
        add_state_weights();
    }
    if (s.tokens && gradients.weight_ih) g.add_tokens(team, s.tokens, w.input_size, gradients.weight_ih);
}

namespace {

// One backward: its sizes, and the memory its threads share and own.
struct BackwardPass {
    const ScanWeights& w;
    const ScanBackward& s;
    const size_t rows, grain, threads, tile;
    size_t floats;  // of a thread
    float *zeros, *sums;
    View dh_direct;   // [N, padded H] what bypasses the gates on its way to the step before
    View dlast;       // [N, padded H] a step's gradient of the last gate, for a cell with a second product
    View over_steps;  // [N, G*H] each row's gate gradients, summed: the fixed inputs' share

    BackwardPass(const ScanWeights& w_, const ScanBackward& s_)
        : w(w_),
          s(s_),
          rows(s.steps->rows(0)),
          grain(std::max(w.recurrent_back.width(), unit_block)),
          threads(threads_for(2 * scan_flops(w, *s.steps))),
          tile(tile_scratch(rows, grain)) {
        const size_t columns = w.order.columns(), hidden = w.order.hidden, padded = w.order.padded_hidden();
        const size_t pack = weight_gradient_scratch(w, hidden, s.tokens ? 0 : std::max(w.input_size, w.fixed_size));
        const size_t left = left_scratch(w.recurrent_back, std::max(rows, block_rows));
        floats = round_up(std::max(tile + left, pack), alignment / 4);
        const size_t widest = round_up(std::max({hidden, w.input_size, w.fixed_size}), grain);
        const size_t carried = round_up(rows * padded, alignment / 4), summed = round_up(columns, alignment / 4);
        const size_t last = w.cell->has_second() ? carried : 0;
        s.scratch->reserve(threads * floats + widest + carried + last + summed + (w.fixed_size ? rows * columns : 0));
        zeros = s.scratch->data() + threads * floats;
        dh_direct = {zeros + widest, rows, padded};
        if (last) dlast = {dh_direct.base + carried, rows, padded};
        sums = dh_direct.base + carried + last;
        over_steps = {sums + summed, rows, columns};
        std::fill(zeros, sums, 0.0f);
        for (size_t n = 0; !w.cell->recurrent && s.dh_last && n < rows; ++n)  // a row reads it at its last step
            std::copy_n(s.dh_last.row(n), hidden, dh_direct.row(n));
    }

    Range units_of(const Share& share) const {
        return {std::min(share.columns.begin, w.order.hidden), std::min(share.columns.end, w.order.hidden)};
    }
    void dh_from_later(Range mine, const LeftRows& later, size_t unit, const View& dh) const;
    void take_saved(const Step& to, Range rows, Range units) const;
    StepGradients gradients_of(Range mine, Range at) const {
        return {s.dy.row_range(at), dh_direct.row_range(mine), s.dc.row_range(mine), s.dx.row_range(at),
                dlast.row_range(mine)};
    }
    void step(size_t t, const Share& share, float* scratch) const;
    void finish_step(size_t t, const Share& share, float* scratch) const;
    void start_gradient(Range own_rows, float* left) const;
    void fixed_gradients(const Team& team, const Steps& some, const RowPlaces& places, const ScanGradients& to,
                         float* scratch) const;
    void fixed_input_gradient(Range own_rows, float* left) const;
    void input_gradient(Range own, float* left) const;
};

// What a step gets from those after it, without the direct part, from unit `unit` on.
void BackwardPass::dh_from_later(Range mine, const LeftRows& later, size_t unit, const View& dh) const {
    const size_t width = std::min(dh.columns, w.order.padded_hidden() - unit);
    if (later.count) multiply(w.recurrent_back, later, unit, width, zeros, dh);
    for (size_t r = later.count; r < mine.size(); ++r) {  // rows whose last step this is
        std::fill_n(dh.row(r), dh.columns, 0.0f);
        if (s.dh_last)
            std::copy_n(s.dh_last.row(mine.begin + r) + unit, std::min(dh.columns, w.order.hidden - unit), dh.row(r));
    }
}

// Copies what forward saved of some units to the memory where their gradients replace it.
void BackwardPass::take_saved(const Step& to, Range rows, Range units) const {
    const Range blocks{units.begin, round_up(units.end, unit_block)};
    const auto copy = [&](const ConstView& from, const View& into, size_t gates) {
        for (size_t r = 0; r < rows.size(); ++r)
            std::copy_n(from.row(rows.begin + r) + blocks.begin * gates, blocks.size() * gates,
                        into.row(r) + blocks.begin * gates);
    };
    copy(s.saved_gates, to.gates, w.cell->gates);
    if (s.saved_extra) copy(s.saved_extra, to.extra, 1);
}

void BackwardPass::step(size_t t, const Share& share, float* scratch) const {
    const Steps& steps = *s.steps;
    const Range mine = steps.running(share.rows, t);
    if (mine.size() == 0) return;
    LeftRows later{};
    if (w.cell->recurrent && t + 1 < steps.count()) {
        const ConstView gates = s.gates.row_range(steps.at(t + 1, steps.running(share.rows, t + 1)));
        later = left_rows(w.recurrent_back, gates, gates.rows, scratch + tile);
    }
    const Range units = units_of(share);
    const Step now = step_at(s, t, mine);
    const Range at = steps.at(t, mine);
    const StepGradients d = gradients_of(mine, at);
    if (!w.cell->recurrent) {
        if (s.saved_gates) take_saved(now, at, units);
        if (units.size()) backward_step(w, now, d, units, {});
        return;
    }
    for_each_tile(units, tile_columns(mine.size(), grain), t, [&](Range part) {
        if (s.saved_gates) take_saved(now, at, part);
        const View dh(scratch, mine.size(), round_up(part.size(), grain));
        dh_from_later(mine, later, part.begin, dh);
        backward_step(w, now, d, part, dh);
    });
}

// Of a cell with a second product: through it, from the last gate to the others.
void BackwardPass::finish_step(size_t t, const Share& share, float* scratch) const {
    const Range mine = s.steps->running(share.rows, t);
    if (mine.size() == 0) return;
    const StepGradients d = gradients_of(mine, s.steps->at(t, mine));
    const LeftRows last = left_rows(w.second_back, ConstView(d.dlast), mine.size(), scratch + tile);
    for_each_tile(units_of(share), tile_columns(mine.size(), grain), t, [&](Range part) {
        const View dextra(scratch, mine.size(), round_up(part.size(), grain));
        const size_t width = std::min(dextra.columns, w.order.padded_hidden() - part.begin);
        multiply(w.second_back, last, part.begin, width, zeros, dextra);
        second_backward_step(w, step_at(s, t, mine), d, part, dextra);
    });
}

// dh0 = dgates_0 W_hh + the direct part
void BackwardPass::start_gradient(Range own_rows, float* left) const {
    if (!s.dh0 || own_rows.size() == 0) return;
    multiply_back(w.recurrent_back, s.gates.row_range(own_rows), zeros, s.dh0.row_range(own_rows), left);
    for (size_t r = own_rows.begin; r < own_rows.end; ++r)
        w.kernels->add(w.order.hidden, dh_direct.row(r), s.dh0.row(r));
}

// Inputs that every step reads: from the gate gradients of each of some rows over all its steps, summed in order.
void BackwardPass::fixed_gradients(const Team& team, const Steps& some, const RowPlaces& places,
                                   const ScanGradients& to, float* scratch) const {
    if (!w.fixed_size || some.count() == 0) return;
    const Steps& steps = *s.steps;
    const size_t columns = w.order.columns();
    const Range own = split(some.rows(0), team.size, team.index);
    for (size_t i = own.begin; i < own.end; ++i) {
        const size_t n = places.at(i);
        std::copy_n(s.gates.row(n), columns, over_steps.row(n));
        for (size_t t = 1; t < steps.count() && n < steps.rows(t); ++t)
            w.kernels->add(columns, s.gates.row(steps.offset[t] + n), over_steps.row(n));
    }
    team.wait();
    const View gradient(to.weight_ih, w.cell->gates * w.order.hidden, w.input_stride());
    Steps once;
    set_even(once, 1, some.rows(0));
    const WeightGradient g{&w, &once, over_steps, scratch, nullptr, places};
    g.add(team, {{s.fixed, {}, gradient.column_range({w.input_size, w.input_stride()})}});
}

void BackwardPass::fixed_input_gradient(Range own_rows, float* left) const {
    if (w.fixed_size && s.dfixed && own_rows.size())
        multiply_back(w.fixed_back, over_steps.row_range(own_rows), zeros, s.dfixed.row_range(own_rows), left);
}

// In blocks of rows that stay in L2 while all panels pass (9% of dX at H = 512).
void BackwardPass::input_gradient(Range own, float* left) const {
    for (size_t r = own.begin; s.dx && r < own.end; r += block_rows) {
        const Range block{r, std::min(r + block_rows, own.end)};
        multiply_back_to_input(w, s.gates.row_range(block), zeros, s.dx.row_range(block), left);
    }
}

}  // namespace

GroupedGradients::GroupedGradients(const ScanWeights& w, const ScanArrays& s, const ScanGroups& groups,
                                   const ScanGradients& to)
    : w_(w), s_(s), groups_(groups), to_(to) {
    const size_t rows = w.cell->gates * w.order.hidden;
    parts_ = {{{&ScanGradients::weight_ih, rows * w.input_stride()},
               {&ScanGradients::weight_hh, rows * w.order.hidden},
               {&ScanGradients::bias_ih, rows},
               {&ScanGradients::bias_hh, rows},
               {&ScanGradients::weight_c, w.cell->state_reads.count * w.order.hidden}}};
    if (!groups || groups.sums->apart) return;
    for (const Part& part : parts_) size_ += to.*part.gradient ? round_up(part.size, unit_block) : 0;
    tree_.emplace(*groups.memory, groups.rows->size(), size_, *groups.sums);
}

template <class Body>
void GroupedGradients::for_each_part(Body body) const {
    size_t at = 0;
    for (const Part& part : parts_) {
        if (!(to_.*part.gradient)) continue;
        body(part.gradient, at, part.size);
        at += round_up(part.size, unit_block);
    }
}

// Where the sums over a group go.
ScanGradients GroupedGradients::leaf(size_t g) const {
    ScanGradients into{};
    for_each_part([&](float* ScanGradients::*gradient, size_t at, size_t size) {
        into.*gradient = tree_ ? tree_->leaf(g) + at : to_.*gradient + g * size;
    });
    into.overwrite = tree_ && !s_.tokens && !into.weight_c && !w_.fixed_size;  // those are added to
    return into;
}

void GroupedGradients::add(const Team& team, float* scratch, float* sums, const float* zeros, const Also& also) const {
    const Range own = split(size_, team.size, team.index, unit_block);
    for (size_t g = 0; g < groups_.rows->size(); ++g) {
        const GroupRows& group = (*groups_.rows)[g];
        const ScanGradients into = leaf(g);
        if (tree_ && (!into.overwrite || group.list.empty())) std::fill_n(tree_->leaf(g) + own.begin, own.size(), 0.0f);
        ScanArrays some = s_;
        some.steps = &group.steps;
        some.places = group.places();
        team.wait();
        if (!group.list.empty()) scan_weight_gradients(team, w_, some, into, scratch, sums, zeros);
        if (also) also(group, into);
        team.wait();
        if (tree_) tree_->add(*w_.kernels, g, own);
    }
    if (!tree_) return;
    for_each_part([&](float* ScanGradients::*gradient, size_t at, size_t count) {
        const Range part{std::max(own.begin, at), std::min(own.end, at + count)};
        if (part.begin < part.end)
            w_.kernels->add(part.size(), tree_->total() + part.begin, to_.*gradient + (part.begin - at));
    });
}

void scan_backward(const ScanWeights& w, const ScanBackward& s, const ScanGradients& gradients) {
    const BackwardPass pass(w, s);
    const GroupedGradients groups(w, s, s.groups, gradients);
    parallel(pass.threads, [&](const Team& team) {
        float* scratch = s.scratch->data() + team.index * pass.floats;
        const Share share = share_of(team, pass.rows, round_up(w.order.hidden, pass.grain), pass.grain);
        const Range own_rows = split(pass.rows, team.size, team.index);
        for (size_t t = s.steps->count(); t-- > 0;) {
            pass.step(t, share, scratch);
            if (share.split_units && w.cell->recurrent) team.wait();
            if (!w.cell->has_second()) continue;
            pass.finish_step(t, share, scratch);
            if (share.split_units) team.wait();
        }
        team.wait();
        pass.start_gradient(own_rows, scratch + pass.tile);
        if (s.groups) {
            groups.add(team, scratch, pass.sums, pass.zeros, [&](const GroupRows& group, const ScanGradients& to) {
                pass.fixed_gradients(team, group.steps, group.places(), to, scratch);
            });
        } else {
            scan_weight_gradients(team, w, s, gradients, scratch, pass.sums, pass.zeros);
            pass.fixed_gradients(team, *s.steps, {}, gradients, scratch);
        }
        pass.fixed_input_gradient(own_rows, scratch + pass.tile);
        pass.input_gradient(split(s.steps->total(), team.size, team.index), scratch + pass.tile);
    });
}

}  // namespace rnnfast::core
