#include "layers/attending_recurrent.h"

#include <algorithm>

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
    const Steps& steps() const { return tape.steps(); }
    size_t layers() const { return tape.layers.size(); }
    size_t hidden() const { return rnn.options().hidden_size; }
    size_t padded() const { return weights(0).order.padded_hidden(); }
    size_t contexts() const { return attention.options().memory_size; }
    size_t inputs() const { return rnn.options().input_size; }
    // Of these rows those that run at step t; the row of memory behind a sorted row; a number for its dropout masks.
    Range running(const Range& rows, size_t t) const {
        return {std::min(rows.begin, steps().rows(t)), std::min(rows.end, steps().rows(t))};
    }
    size_t source(size_t row) const { return tape.attention.targets.order[row]; }
    uint64_t mask(size_t layer, size_t t, size_t row) const {
        return random_key(tape.dropout_key, layer, t * m.rows + source(row));
    }
};

double flops(const Pass& p, size_t rows) {
    return 2.0 * static_cast<double>(rows) *
           static_cast<double>(p.rnn.cell().gates * p.hidden() * (p.hidden() + p.inputs()));
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
    const size_t at = p.steps().offset[t] + rows.begin, hidden = p.hidden();
    const AttendingTape::Layer& last = p.tape.layers.back();
    const float* top =
        t ? last.y.data() + (p.steps().offset[t - 1] + rows.begin) * hidden : last.h0.data() + rows.begin * hidden;
    float* query = p.tape.attention.query.data() + at * hidden;
    p.attention.project(top, hidden, rows.size(), query, left);
    for (size_t r = 0; r < rows.size(); ++r)
        p.attention.attend_row(p.m, p.source(rows.begin + r), query + r * hidden,
                               p.tape.attention.weights.data() + (at + r) * p.m.steps,
                               p.tape.x.data() + (at + r + 1) * p.inputs() - p.contexts());
}

// A layer's input and recurrent products and its cell, tile by tile while the tile's gates are in L1.
void layer_forward(const Pass& p, size_t l, size_t t, const Range& rows, const float* input) {
    const ScanWeights& w = p.weights(l);
    AttendingTape::Layer& layer = p.tape.layers[l];
    const size_t columns = w.order.columns(), hidden = p.hidden(), padded = p.padded();
    const size_t at = p.steps().offset[t] + rows.begin, before = t ? p.steps().offset[t - 1] + rows.begin : rows.begin;
    CellForward c;
    c.rows = rows.size();
    c.save = true;
    c.gates = layer.gates.data() + at * columns;
    c.gate_stride = columns;
    c.h_prev = (t ? layer.y : layer.h0).data() + before * hidden;
    c.h = layer.y.data() + at * hidden;
    c.h_prev_stride = c.h_stride = hidden;
    if (w.cell->has_c) c.c_prev = (t ? layer.c : layer.c0).data() + before * padded;
    if (w.cell->has_c) c.c = layer.c.data() + at * padded;
    if (w.cell->has_extra) c.extra = layer.extra.data() + at * padded;
    c.c_prev_stride = c.c_stride = c.extra_stride = padded;
    float* x_left = p.scratch + tile_scratch(rows.size(), w.column_grain());
    float* h_left = x_left + left_scratch(w.input, rows.size());
    const LeftRows x_rows = left_rows(w.input, {input, w.input_size, 0, 0}, rows.size(), x_left);
    const LeftRows h_rows = left_rows(w.recurrent, {c.h_prev, hidden, 0, 0}, rows.size(), h_left);
    for_each_tile({0, columns}, tile_columns(rows.size(), w.column_grain()), t, [&](Range part) {
        multiply(w.input, x_rows, part.begin, part.size(), w.input_bias.data() + part.begin,
                 {c.gates + part.begin, columns, 0, 0});
        fused_step(w, h_rows, c, part, p.scratch);
    });
}

void forward_rows(const Pass& p, const Range& all, const Range& part, Buffer& left) {
    const size_t hidden = p.hidden();
    for (size_t t = part.begin; t < part.end; ++t) {
        const Range rows = p.running(all, t);
        if (rows.size() == 0) return;  // these rows have ended
        const size_t at = p.steps().offset[t] + rows.begin;
        attend(p, t, rows, left);
        const float* input = p.tape.x.data() + at * p.inputs();
        for (size_t l = 0; l < p.layers(); ++l) {
            AttendingTape::Layer& layer = p.tape.layers[l];
            layer_forward(p, l, t, rows, input);
            input = layer.y.data() + at * hidden;
            if (p.tape.dropout == 0 || l + 1 == p.layers()) continue;
            float* dropped = layer.dropped.data() + at * hidden;
            for (size_t r = 0; r < rows.size(); ++r)  // a row's mask depends on its place alone
                dropout(input + r * hidden, dropped + r * hidden, hidden, p.tape.dropout, p.mask(l, t, rows.begin + r));
            input = dropped;
        }
    }
}

// Memory for forward, and the start states in sorted order.
void prepare(const Pass& p, const AttendingInput& input) {
    const size_t total = p.steps().total(), rows = p.m.rows, hidden = p.hidden(), padded = p.padded();
    const auto sort = [&](const float* state, size_t l, size_t width, Buffer& to) {
        to.reserve(rows * width);
        std::fill_n(to.data(), rows * width, 0.0f);
        for (size_t r = 0; state && r < rows; ++r)
            std::copy_n(state + (l * rows + p.source(r)) * hidden, hidden, to.data() + r * width);
    };
    p.tape.layers.resize(p.rnn.options().num_layers);
    for (size_t l = 0; l < p.layers(); ++l) {
        AttendingTape::Layer& layer = p.tape.layers[l];
        layer.gates.reserve(total * p.weights(l).order.columns());
        layer.y.reserve(total * hidden);
        if (p.rnn.cell().has_extra) layer.extra.reserve(total * padded);
        if (p.rnn.cell().has_c) layer.c.reserve(total * padded);
        if (p.rnn.cell().has_c) sort(input.start.c, l, padded, layer.c0);
        sort(input.start.h, l, hidden, layer.h0);
        if (p.tape.dropout > 0) layer.dropped.reserve(total * hidden);
    }
    p.tape.x.reserve(total * p.inputs());
}

// The embedded inputs of some steps, in sorted order.
void sort_inputs(const Pass& p, const float* x, const Range& part) {
    const size_t embedded = p.inputs() - p.contexts();
    if (!embedded) return;
    for_each_row(p.steps(), part, [&](size_t at, size_t t, size_t r) {
        std::copy_n(x + (t * p.m.rows + p.source(r)) * embedded, embedded, p.tape.x.data() + at * p.inputs());
    });
}

// The sorted rows of some steps, each [from, from + width) of `stride` floats.
struct SortedRows {
    const float* from;
    size_t stride, width;
};

// to[t, n, :] = those rows, zeros beyond a row's length
void unsort(const AttendingTape& tape, const Range& part, const SortedRows& rows, float* to) {
    const RaggedRows& targets = tape.attention.targets;
    const size_t step = targets.order.size() * rows.width;
    const size_t until = part.end == targets.steps.count() ? tape.target_steps : part.end;
    std::fill(to + part.begin * step, to + until * step, 0.0f);
    for_each_row(targets.steps, part, [&](size_t at, size_t t, size_t r) {
        std::copy_n(rows.from + at * rows.stride, rows.width, to + t * step + targets.order[r] * rows.width);
    });
}

}  // namespace

void attending_forward(const Recurrent& rnn, const CrossAttention& attention, const AttentionMemory& m,
                       const AttendingInput& input, float* y, float* contexts, AttendingTape& tape, float dropout,
                       uint64_t dropout_key) {
    Pass all{rnn, attention, m, tape, nullptr};
    if (input.part.begin == 0) {
        tape.attention.targets.set(input.lengths, input.steps, m.rows);
        tape.target_steps = input.steps;
        tape.dropout = dropout;
        tape.dropout_key = dropout_key;
        prepare(all, input);
        attention.start(m, tape.attention);
    }
    const Range part = steps_asked(input.part, all.steps().count());
    sort_inputs(all, input.x, part);
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
    unsort(tape, part, {tape.layers.back().y.data(), all.hidden(), all.hidden()}, y);
    const float* first = tape.x.data() + all.inputs() - all.contexts();
    if (contexts) unsort(tape, part, {first, all.inputs(), all.contexts()}, contexts);
}

namespace {

// What goes from a step to the one before, [rows, padded H] of every layer: through the recurrent product and, of the
// top layer, the queries; past the gates; through c.
struct Carries {
    float *later, *direct, *dc;
};

struct BackwardPass : Pass {
    const float* zeros;
    Range all;  // rows

    size_t plane() const { return all.size() * padded(); }
    Carries carries(size_t layer) const {
        float* first = scratch + 3 * layer * plane();
        return {first, first + plane(), first + 2 * plane()};
    }
    float* spare() const { return scratch + 3 * layers() * plane(); }  // [rows, H] between two layers
    float* left() const { return spare() + plane(); }
};

size_t backward_scratch(const Pass& p, size_t rows) {
    size_t left = 0;
    for (size_t l = 0; l < p.layers(); ++l) left = std::max(left, left_scratch(p.weights(l).recurrent_back, rows));
    return (3 * p.layers() + 1) * rows * p.padded() + round_up(left, unit_block);
}

void cell_backward(const BackwardPass& p, size_t l, size_t t, const Range& rows, const float* dy) {
    const ScanWeights& w = p.weights(l);
    AttendingTape::Layer& layer = p.tape.layers[l];
    const size_t hidden = p.hidden(), padded = p.padded();
    const size_t at = p.steps().offset[t] + rows.begin, before = t ? p.steps().offset[t - 1] + rows.begin : rows.begin;
    const Carries carries = p.carries(l);
    CellBackward c;
    c.rows = rows.size();
    c.units = hidden;
    c.gates = layer.gates.data() + at * w.order.columns();
    c.gate_stride = w.order.columns();
    c.recurrent = carries.later;
    c.dy = dy;
    c.h_prev = (t ? layer.y : layer.h0).data() + before * hidden;
    c.dy_stride = c.h_prev_stride = hidden;
    c.direct = carries.direct;
    c.recurrent_stride = c.carry_stride = c.extra_stride = c.c_stride = c.c_prev_stride = padded;
    if (w.cell->has_c) {
        c.c = layer.c.data() + at * padded;
        c.c_prev = (t ? layer.c : layer.c0).data() + before * padded;
        c.dc = carries.dc;
    }
    if (w.cell->has_extra) c.extra = layer.extra.data() + at * padded;
    w.kernels->cells[w.cell->kernel].backward(c);
}

// The cell, what its gates pass to the step before, and what they pass to the layer's input.
void layer_backward(const BackwardPass& p, size_t l, size_t t, const Range& rows, const float* dy) {
    const ScanWeights& w = p.weights(l);
    const size_t at = p.steps().offset[t] + rows.begin, columns = w.order.columns(), hidden = p.hidden();
    float* gates = p.tape.layers[l].gates.data() + at * columns;
    cell_backward(p, l, t, rows, dy);
    const auto back = [&](const PackedMatrix& weights, size_t width, const Rows& to) {
        multiply(weights, left_rows(weights, {gates, columns, 0, 0}, rows.size(), p.left()), 0, width, p.zeros, to);
    };
    const auto swap = [&] {
        for (size_t r = 0; w.cell->has_extra && r < rows.size(); ++r)
            swap_last_gate(w.order, gates + r * columns, p.tape.layers[l].extra.data() + (at + r) * p.padded());
    };
    back(w.recurrent_back, p.padded(), {p.carries(l).later, p.padded(), 0, 0});
    swap();
    float* dx = l ? p.spare() : p.tape.dx.data() + at * p.inputs();
    back(w.input_back, w.input_size, {dx, w.input_size, 0, 0});
    swap();
    for (size_t r = 0; l && p.tape.dropout > 0 && r < rows.size(); ++r)
        dropout(dx + r * hidden, dx + r * hidden, hidden, p.tape.dropout, p.mask(l - 1, t, rows.begin + r));
}

// From dc_t, which the stack has left in dx, to the keys and the top layer's states before.
void attend_backward(const BackwardPass& p, size_t t, const Range& rows, const float* dcontexts) {
    const size_t at = p.steps().offset[t] + rows.begin;
    for (size_t r = 0; r < rows.size(); ++r) {
        const size_t row = p.source(rows.begin + r);
        float* dcontext = p.tape.dx.data() + (at + r + 1) * p.inputs() - p.contexts();
        if (dcontexts) p.rnn.kernels().add(p.contexts(), dcontexts + (t * p.m.rows + row) * p.contexts(), dcontext);
        p.attention.attend_row_backward(p.m, row, at + r, dcontext, p.tape.attention);
    }
    p.attention.project_backward(p.tape.attention.dquery.data() + at * p.hidden(), rows.size(),
                                 p.carries(p.layers() - 1).later, p.padded());
}

void backward_rows(const BackwardPass& p, const AttendingGradients& g) {
    const size_t hidden = p.hidden();
    std::fill_n(p.scratch, 3 * p.layers() * p.plane(), 0.0f);
    for (size_t t = p.steps().count(); t-- > 0;) {
        const Range rows = p.running(p.all, t);
        if (rows.size() == 0) continue;
        const float* dy = p.tape.dy.data() + (p.steps().offset[t] + rows.begin) * hidden;
        for (size_t l = p.layers(); l-- > 0; dy = p.spare()) layer_backward(p, l, t, rows, dy);
        attend_backward(p, t, rows, g.dcontexts);
    }
    for (size_t l = 0; l < p.layers(); ++l)
        for (size_t r = 0; r < p.all.size(); ++r) {
            const size_t to = (l * p.m.rows + p.source(p.all.begin + r)) * hidden, from = r * p.padded();
            const Carries carries = p.carries(l);
            p.rnn.kernels().add(hidden, carries.direct + from, carries.later + from);
            if (g.dstart.h) std::copy_n(carries.later + from, hidden, g.dstart.h + to);
            if (g.dstart.c && p.rnn.cell().has_c) std::copy_n(carries.dc + from, hidden, g.dstart.c + to);
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
    attention.start_backward(m, tape.attention);
    tape.dx.reserve(total * all.inputs());
    tape.dy.reserve(total * hidden);
    for_each_row(all.steps(), [&](size_t at, size_t t, size_t r) {
        std::copy_n(g.dy + (t * m.rows + all.source(r)) * hidden, hidden, tape.dy.data() + at * hidden);
    });
    const size_t threads = std::min(threads_for(2 * flops(all, total)), m.rows);
    const size_t each = round_up(std::max(backward_scratch(all, std::min(rows_at_once, m.rows)), learning), unit_block);
    tape.scratch.reserve(threads * each + widest + columns);
    float* zeros = tape.scratch.data() + threads * each;
    std::fill_n(zeros, widest, 0.0f);
    parallel(threads, [&](const Team& team) {
        BackwardPass own{all, zeros, {}};
        own.scratch = tape.scratch.data() + team.index * each;
        for_own_rows(team, m.rows, [&](const Range& rows) {
            own.all = rows;
            backward_rows(own, g);
        });
        team.wait();
        for (size_t l = 0; l < layers; ++l) {
            AttendingTape::Layer& layer = tape.layers[l];
            ScanBackward s;
            s.steps = &all.steps();
            s.x =
                l == 0 ? tape.x.data() : (tape.dropout > 0 ? tape.layers[l - 1].dropped : tape.layers[l - 1].y).data();
            s.x_stride = all.weights(l).input_size;
            s.h0 = layer.h0.data();
            s.y = layer.y.data();
            s.y_stride = hidden;
            s.gates = layer.gates.data();
            s.extra = rnn.cell().has_extra ? layer.extra.data() : nullptr;
            scan_weight_gradients(team, all.weights(l), s, rnn.scan_gradients(l), own.scratch, zeros + widest);
        }
    });
    const size_t embedded = all.inputs() - all.contexts();
    attention.finish_backward(m, tape.layers.back().h0.data(), tape.layers.back().y.data(), tape.dx.data() + embedded,
                              all.inputs(), tape.attention, g.dvalues);
    if (g.dx && embedded) unsort(tape, {0, all.steps().count()}, {tape.dx.data(), all.inputs(), embedded}, g.dx);
}

}  // namespace rnnfast::core
