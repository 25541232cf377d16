#include "layers/attending_recurrent.h"

#include <algorithm>
#include <deque>

#include "ops/dropout.h"
#include "ops/weight_gradient.h"
#include "runtime/random.h"

namespace rnnfast::core {

namespace {

// Rows that go through all steps together: enough that a step's weights, which come from L3, are used often; few
// enough that a step's gates stay in L2.
constexpr size_t rows_at_once = 128;

// What both passes work on.
struct Pass {
    const Recurrent& rnn;
    const CrossAttention& attention;
    const AttentionMemory& m;
    AttendingTape& tape;
    float* scratch;  // this thread's

    const ScanWeights& weights(size_t layer) const { return rnn.packed(layer); }
    const ScanArrays& arrays(size_t layer) const { return tape.layers[layer].arrays; }
    const Steps& steps() const { return tape.steps(); }
    size_t layers() const { return tape.layers.size(); }
    size_t hidden() const { return rnn.options().hidden_size; }
    size_t padded() const { return weights(0).order.padded_hidden(); }
    // [Q, E + C] inputs or their gradients, and the columns of each kind
    View inputs(Buffer& x) const { return {x.data(), steps().total(), rnn.options().input_size}; }
    Range embedded() const { return {0, rnn.options().input_size - attention.options().memory_size}; }
    Range contexts() const { return {embedded().end, rnn.options().input_size}; }
    // The row of memory behind a sorted row; a number for its dropout masks.
    size_t source(size_t row) const { return tape.attention.targets.order[row]; }
    uint64_t mask(size_t layer, size_t t, size_t row) const {
        const RowGroups& groups = tape.attention.groups;
        const size_t own = m.rows / groups.count(), n = source(row);
        return random_key(groups ? groups.keys[n / own] : groups.key, layer, t * own + n % own);
    }
};

double flops(const Pass& p, size_t rows) {
    return 2.0 * static_cast<double>(rows) *
           static_cast<double>(p.rnn.cell().gates * p.hidden() * (p.hidden() + p.rnn.options().input_size));
}

// Calls body(rows) for this thread's rows, at most rows_at_once at a time.
template <class Body>
void for_own_rows(const Team& team, size_t rows, Body body) {
    const Range own = split(rows, team.size, team.index);
    for (size_t n = own.begin; n < own.end; n += rows_at_once) body(Range{n, std::min(n + rows_at_once, own.end)});
}

size_t forward_scratch(const Pass& p, size_t rows) {
    size_t most = 0;
    for (size_t l = 0; l < p.layers(); ++l) {
        const ScanWeights& w = p.weights(l);
        most = std::max(
            most, tile_scratch(rows, w.column_grain()) + left_scratch(w.input, rows) + left_scratch(w.recurrent, rows));
    }
    return round_up(most, unit_block);
}

// c_t of these rows, from the top layer's states before, into the rows of x.
void attend(const Pass& p, size_t t, const Range& rows, Buffer& left) {
    const size_t at = p.steps().at(t, rows).begin, hidden = p.hidden();
    const ConstView top = step_at(p.tape.layers.back().arrays, t, rows).h_prev;
    const View context = p.inputs(p.tape.x).column_range(p.contexts());
    float* query = p.tape.attention.query.data() + at * hidden;
    p.attention.project(top.base, hidden, rows.size(), query, left);
    for (size_t r = 0; r < rows.size(); ++r)
        p.attention.attend_row(p.m, p.source(rows.begin + r), query + r * hidden,
                               p.tape.attention.weights.data() + (at + r) * p.m.steps, context.row(at + r));
}

// A layer's input and recurrent products and its cell, tile by tile while the tile's gates are in L1.
void layer_forward(const Pass& p, size_t l, size_t t, const Range& rows) {
    const ScanWeights& w = p.weights(l);
    const Step step = step_at(p.arrays(l), t, rows);
    const ConstView x = p.arrays(l).x.row_range(p.steps().at(t, rows));
    float* x_left = p.scratch + tile_scratch(rows.size(), w.column_grain());
    float* h_left = x_left + left_scratch(w.input, rows.size());
    const LeftRows x_rows = left_rows(w.input, x, rows.size(), x_left);
    const LeftRows h_rows = w.cell->recurrent ? left_rows(w.recurrent, step.h_prev, rows.size(), h_left) : LeftRows{};
    for_each_tile({0, w.order.columns()}, tile_columns(rows.size(), w.column_grain()), t, [&](Range part) {
        multiply(w.input, x_rows, part.begin, part.size(), w.input_bias.data() + part.begin,
                 step.gates.column_range(part));
        fused_step(w, step, h_rows, part, p.scratch);
    });
    finish_step(w, step, {0, w.order.columns()}, t, p.scratch, h_left);
    if (p.tape.dropout == 0 || l + 1 == p.layers()) return;
    const size_t at = p.steps().at(t, rows).begin, hidden = p.hidden();
    float* dropped = p.tape.layers[l].dropped.data() + at * hidden;
    for (size_t r = 0; r < rows.size(); ++r)  // a row's mask depends on its place alone
        dropout(step.h.row(r), dropped + r * hidden, hidden, p.tape.dropout, p.mask(l, t, rows.begin + r));
}

void forward_rows(const Pass& p, const Range& all, const Range& part, Buffer& left) {
    for (size_t t = part.begin; t < part.end; ++t) {
        const Range rows = p.steps().running(all, t);
        if (rows.size() == 0) return;  // these rows have ended
        attend(p, t, rows, left);
        for (size_t l = 0; l < p.layers(); ++l) layer_forward(p, l, t, rows);
    }
}

// Memory for forward, and the start states in sorted order.
void prepare(const Pass& p, const AttendingInput& input) {
    const size_t total = p.steps().total(), rows = p.m.rows, hidden = p.hidden(), padded = p.padded();
    const RaggedRows& targets = p.tape.attention.targets;
    const auto start = [&](const float* state, size_t l) {
        return state ? ConstView(state + l * rows * hidden, rows, hidden) : ConstView();
    };
    p.tape.layers.resize(p.rnn.options().num_layers);
    p.tape.x.reserve(total * p.rnn.options().input_size);
    for (size_t l = 0; l < p.layers(); ++l) {
        AttendingTape::Layer& layer = p.tape.layers[l];
        ScanArrays& s = layer.arrays;
        s.steps = &p.steps();
        s.x = p.inputs(p.tape.x);
        if (l) s.x = p.tape.dropout > 0 ? View(p.tape.layers[l - 1].dropped.data(), total, hidden) : p.arrays(l - 1).y;
        const View h0 = reserve(layer.h0, rows, hidden);
        sort_state(targets, start(input.start.h, l), h0);
        s.h0 = h0;
        s.y = reserve(layer.y, total, hidden);
        s.gates = reserve(layer.gates, total, p.weights(l).order.columns());
        s.extra = p.rnn.cell().has_extra ? reserve(layer.extra, total, padded) : View();
        if (p.rnn.cell().has_c) {
            const View c0 = reserve(layer.c0, rows, padded);
            sort_state(targets, start(input.start.c, l), c0);
            s.c0 = c0;
            s.c = reserve(layer.c, total, padded);
        }
        if (p.tape.dropout > 0) layer.dropped.reserve(total * hidden);
    }
}

}  // namespace

void attending_forward(const Recurrent& rnn, const CrossAttention& attention, const AttentionMemory& m,
                       const AttendingInput& input, const AttendingOutput& output, AttendingTape& tape) {
    Pass all{rnn, attention, m, tape, nullptr};
    const RaggedRows& targets = tape.attention.targets;
    if (input.part.begin == 0) {
        tape.attention.targets.set(input.lengths, input.steps, m.rows);
        tape.target_steps = input.steps;
        tape.dropout = input.dropout;
        tape.attention.groups = input.row_groups;
        prepare(all, input);
        attention.start(m, tape.attention);
    }
    const Range part = steps_asked(input.part, all.steps().count());
    const View x = all.inputs(tape.x);
    if (const size_t embedded = all.embedded().size())
        sort_rows(targets, part, {input.x, input.steps * m.rows, embedded}, x.column_range(all.embedded()));
    const size_t rows_run = all.steps().offset[part.end] - all.steps().offset[part.begin];
    const size_t threads = std::min(threads_for(flops(all, rows_run)), m.rows);
    const size_t most = std::min(rows_at_once, m.rows), each = forward_scratch(all, most);
    tape.scratch.reserve(threads * each);
    if (tape.left.size() < threads) tape.left.resize(threads);
    for (Buffer& left : tape.left) left.reserve(attention.project_scratch(most));
    parallel(threads, [&](const Team& team) {
        Pass own = all;
        own.scratch = tape.scratch.data() + team.index * each;
        for_own_rows(team, m.rows, [&](const Range& rows) { forward_rows(own, rows, part, tape.left[team.index]); });
    });
    const size_t places = input.steps * m.rows;
    unsort_rows(targets, part, input.steps, tape.layers.back().arrays.y, {output.y, places, all.hidden()});
    if (output.contexts)
        unsort_rows(targets, part, input.steps, x.column_range(all.contexts()),
                    {output.contexts, places, all.contexts().size()});
}

namespace {

// The gradients that go from a step to the one before, [rows, padded H] of every layer: of h through the recurrent
// product and, in the top layer, through the queries; of h past the gates; of c.
struct Carries {
    View dh, dh_direct, dc;
};

struct BackwardPass : Pass {
    const float* zeros;
    Range all;  // rows

    size_t plane() const { return all.size() * padded(); }
    // Of the first `rows` rows, those that still run.
    Carries carries(size_t layer, size_t rows) const {
        float* first = scratch + 3 * layer * plane();
        const auto carry = [&](size_t i) { return View(first + i * plane(), rows, padded()); };
        return {carry(0), carry(1), carry(2)};
    }
    View spare(size_t rows) const { return {scratch + 3 * layers() * plane(), rows, hidden()}; }  // between two layers
    View last_gate(size_t rows) const { return {scratch + (3 * layers() + 1) * plane(), rows, padded()}; }
    float* left() const { return scratch + (3 * layers() + 2) * plane(); }
};

size_t backward_scratch(const Pass& p, size_t rows) {
    size_t left = 0;
    for (size_t l = 0; l < p.layers(); ++l) left = std::max(left, left_scratch(p.weights(l).recurrent_back, rows));
    return (3 * p.layers() + 2) * rows * p.padded() + round_up(left, unit_block);
}

// The cell, what its gates pass to the step before, and what they pass to the layer's input.
void layer_backward(const BackwardPass& p, size_t l, size_t t, const Range& rows, const View& dy) {
    const ScanWeights& w = p.weights(l);
    const Range at = p.steps().at(t, rows);
    const Step step = step_at(p.arrays(l), t, rows);
    const Carries carries = p.carries(l, rows.size());
    const View dx = l ? p.spare(rows.size()) : p.inputs(p.tape.dx).row_range(at);
    const StepGradients d{dy, carries.dh_direct, carries.dc, dx, p.last_gate(rows.size())};
    backward_step(w, step, d, {0, p.hidden()}, carries.dh);
    if (w.cell->has_second()) {
        multiply_back(w.second_back, d.dlast, p.zeros, carries.dh, p.left());
        second_backward_step(w, step, d, {0, p.hidden()}, carries.dh);
    }
    const auto swap = [&] {
        for (size_t r = 0; w.cell->parts_last_gate() && r < rows.size(); ++r)
            swap_last_gate(w.order, step.gates.row(r), step.extra.row(r));
    };
    multiply_back(w.recurrent_back, step.gates, p.zeros, carries.dh, p.left());
    swap();
    multiply_back_to_input(w, step.gates, p.zeros, dx, p.left());
    swap();
    for (size_t r = 0; l && p.tape.dropout > 0 && r < rows.size(); ++r)
        dropout(dx.row(r), dx.row(r), dx.columns, p.tape.dropout, p.mask(l - 1, t, rows.begin + r));
}

// From dc_t, which the stack has left in dx, to the keys and the top layer's states before.
void attend_backward(const BackwardPass& p, size_t t, const Range& rows, const float* dcontexts) {
    const size_t at = p.steps().at(t, rows).begin;
    const View dx = p.inputs(p.tape.dx).column_range(p.contexts());
    for (size_t r = 0; r < rows.size(); ++r) {
        const size_t row = p.source(rows.begin + r);
        float* dcontext = dx.row(at + r);
        if (dcontexts) p.rnn.kernels().add(dx.columns, dcontexts + (t * p.m.rows + row) * dx.columns, dcontext);
        p.attention.attend_row_backward(p.m, row, at + r, dcontext, p.tape.attention);
    }
    const View dh = p.carries(p.layers() - 1, rows.size()).dh;
    p.attention.project_backward(p.tape.attention.dquery.data() + at * p.hidden(), rows.size(), dh.base, dh.stride);
}

void backward_rows(const BackwardPass& p, const AttendingGradients& g) {
    const size_t hidden = p.hidden();
    std::fill_n(p.scratch, 3 * p.layers() * p.plane(), 0.0f);
    for (size_t t = p.steps().count(); t-- > 0;) {
        const Range rows = p.steps().running(p.all, t);
        if (rows.size() == 0) continue;
        View dy = View(p.tape.dy.data(), p.steps().total(), hidden).row_range(p.steps().at(t, rows));
        for (size_t l = p.layers(); l-- > 0; dy = p.spare(rows.size())) layer_backward(p, l, t, rows, dy);
        attend_backward(p, t, rows, g.dcontexts);
    }
    for (size_t l = 0; l < p.layers(); ++l) {
        const Carries carries = p.carries(l, p.all.size());
        for (size_t r = 0; r < p.all.size(); ++r) {
            const size_t to = (l * p.m.rows + p.source(p.all.begin + r)) * hidden;
            p.rnn.kernels().add(hidden, carries.dh_direct.row(r), carries.dh.row(r));
            if (g.dstart.h) std::copy_n(carries.dh.row(r), hidden, g.dstart.h + to);
            if (g.dstart.c && p.rnn.cell().has_c) std::copy_n(carries.dc.row(r), hidden, g.dstart.c + to);
        }
    }
}

}  // namespace

void attending_backward(const Recurrent& rnn, CrossAttention& attention, const AttentionMemory& m, AttendingTape& tape,
                        const AttendingGradients& g) {
    const Pass all{rnn, attention, m, tape, nullptr};
    const size_t layers = all.layers(), hidden = all.hidden(), total = all.steps().total();
    size_t widest = 0, learning = 0, columns = 0;
    for (size_t l = 0; l < layers; ++l) {
        const ScanWeights& w = rnn.packed_backward(l);
        widest = std::max({widest, w.recurrent_back.padded_columns(), w.input_back.padded_columns()});
        learning = std::max(learning, weight_gradient_scratch(w, hidden, w.input_size));
        columns = std::max(columns, w.order.columns());
    }
    for (AttendingTape::Layer& layer : tape.layers) layer.arrays.steps = &all.steps();  // the tape may have moved
    attention.start_backward(m, tape.attention);
    const View dx = reserve(tape.dx, total, rnn.options().input_size), dy = reserve(tape.dy, total, hidden);
    const RaggedRows& targets = tape.attention.targets;
    const Range every{0, all.steps().count()};
    const size_t places = tape.target_steps * m.rows;
    sort_rows(targets, every, {g.dy, places, hidden}, dy);
    const size_t threads = std::min(threads_for(2 * flops(all, total)), m.rows);
    const size_t each = round_up(std::max(backward_scratch(all, std::min(rows_at_once, m.rows)), learning), unit_block);
    tape.scratch.reserve(threads * each + widest + columns);
    float* zeros = tape.scratch.data() + threads * each;
    std::fill_n(zeros, widest, 0.0f);
    const RowGroups& groups = tape.attention.groups;
    std::deque<GroupedGradients> grouped;
    for (size_t l = 0; l < layers && groups; ++l)
        grouped.emplace_back(all.weights(l), all.arrays(l),
                             ScanGroups{&tape.attention.group_rows, &groups.sums, &tape.layers[l].sums},
                             rnn.scan_gradients(l));
    parallel(threads, [&](const Team& team) {
        BackwardPass own{all, zeros, {}};
        own.scratch = tape.scratch.data() + team.index * each;
        for_own_rows(team, m.rows, [&](const Range& rows) {
            own.all = rows;
            backward_rows(own, g);
        });
        team.wait();
        for (const GroupedGradients& each : grouped) each.add(team, own.scratch, zeros + widest, zeros);
        for (size_t l = 0; l < layers && grouped.empty(); ++l)
            scan_weight_gradients(team, all.weights(l), all.arrays(l), rnn.scan_gradients(l), own.scratch,
                                  zeros + widest);
    });
    const ScanArrays& top = all.arrays(layers - 1);
    attention.finish_backward(m, top.h0.base, top.y.base, dx.base + all.contexts().begin, dx.stride, tape.attention,
                              g.dvalues);
    if (const size_t embedded = all.embedded().size(); g.dx && embedded)
        unsort_rows(targets, every, tape.target_steps, dx.column_range(all.embedded()), {g.dx, places, embedded});
}

}  // namespace rnnfast::core
