#include "layers/stack.h"

#include <utility>

#include "runtime/random.h"

namespace rnnfast::core {

namespace {

// The state of one scan, [N, H], in the caller's [scans, N, H].
template <class T>
BasicView<T> state_at(T* states, size_t at, size_t rows, size_t hidden) {
    return states ? BasicView<T>(states + at * rows * hidden, rows, hidden) : BasicView<T>();
}

// `to` becomes `from`, whose nullptr reads as zeros: the states of rows without a step pass through.
void pass_on(const Stack& stack, size_t rows, const RecurrentState& from, const RecurrentStateOut& to) {
    const size_t size = stack.size() * rows * stack.hidden();
    const auto copy = [&](const float* state, float* out) {
        if (out && state) std::copy_n(state, size, out);
        if (out && !state) std::fill_n(out, size, 0.0f);
    };
    copy(from.h, to.h);
    if (stack.cell().has_c) copy(from.c, to.c);
    const size_t inputs = rows * stack.input_size();
    if (to.x && from.x) std::copy_n(from.x, inputs, to.x);
    if (to.x && !from.x) std::fill_n(to.x, inputs, 0.0f);
}

ConstView flipped(const RaggedRows& rows, const ConstView& from, Buffer& buffer) {
    const View to = reserve(buffer, rows.steps.total(), from.columns);
    flip(rows, from, to);
    return to;
}

// Floats of the caller's memory that an array takes, in whole cache lines, and all arrays of a scan.
size_t saved_of(size_t rows, size_t width) { return round_up(rows * width, alignment / sizeof(float)); }

size_t saved_of_scan(const ScanWeights& w, size_t rows) {
    return saved_of(rows, w.order.columns()) +
           (size_t{w.cell->has_c} + size_t{w.cell->has_extra}) * saved_of(rows, w.order.padded_hidden());
}

// The data of both passes.
struct Pass {
    const Stack& stack;
    RecurrentTape& tape;
    size_t rows = tape.input.rows, total = tape.steps.total();
    size_t hidden = stack.hidden(), all = stack.directions * hidden, padded = stack.scans[0].order.padded_hidden();

    size_t places() const { return tape.input.batch_sizes ? total : tape.input.steps * rows; }
    View output(size_t layer, size_t buffer) const;
    Range columns(size_t direction) const { return {direction * hidden, (direction + 1) * hidden}; }
    ConstView windows(size_t at, const ConstView& x) const;
    // All steps of a layer's input after dropout, or the gradient before it. In backward it is made again, not stored.
    void drop(size_t layer, Range part, const float* x, float* y) const {
        const RowGroups keys = tape.row_groups.of_part(layer);
        if (!tape.group_rows.empty()) return core::dropout(x, y, all, tape.group_rows, part, stack.dropout, keys);
        core::dropout(x, y, all, tape.steps.offset, part, stack.dropout, keys);
    }
};

// A layer's output, if it is not the caller's y; in the tape's own memory, that of `buffer`.
View Pass::output(size_t layer, size_t buffer) const {
    if (!tape.memory) return reserve(tape.outputs[buffer], total, all);
    return {tape.memory + stack.size() * saved_of_scan(stack.scans[0], total) + layer * saved_of(total, all), total,
            all};
}

// [x_t, x_{t-1}] for every row.
ConstView Pass::windows(size_t at, const ConstView& x) const {
    const size_t width = x.columns;
    const View to = reserve(tape.x_windows, total, 2 * width);
    const bool carries = stack.carries_x();
    for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
        const float* past = nullptr;
        if (t)
            past = x.row(tape.steps.offset[t - 1] + n);
        else if (carries)
            past = at ? tape.scans[at - 1].arrays.h0.row(n) : tape.x_before.data() + tape.order[n] * width;
        std::copy_n(x.row(row), width, to.row(row));
        if (past)
            std::copy_n(past, width, to.row(row) + width);
        else
            std::fill_n(to.row(row) + width, width, 0.0f);
    });
    return to;
}

struct ForwardPass : Pass {
    const RecurrentState& start;
    const RecurrentStateOut& end;
    Range part;
    bool save;
    struct Kept {  // what forward leaves of a scan
        View gates, c, extra;
    };
    Kept kept(size_t at) const;
    bool begins() const { return part.begin == 0; }
    bool ends() const { return part.end == tape.steps.count(); }
    bool keeps() const { return save && !stack.recompute; }

    ScanArrays first_input() const;
    void add_fixed(ScanForward& s) const;
    ScanForward scan(size_t at) const;
    void flip_input(ScanForward& s) const;
    void store_last_input(const ConstView& x) const;
    void run(size_t at, ScanForward& s) const;
    size_t lanes() const;
    void run_wavefront(const ScanArrays& first, float* y, size_t lanes) const;
    void store_end(size_t at, const ScanForward& s) const;
};

// x or the tokens in the order of the steps: the caller's own memory when rows are even.
ScanArrays ForwardPass::first_input() const {
    const RecurrentInput& in = tape.input;
    const size_t inputs = stack.input_size(), fixed = stack.fixed_size,
                 width = stack.scans[0].input_size / stack.window;
    const bool join = stack.joins_fixed();
    ScanArrays s;
    if (in.tokens) {
        tape.tokens.resize(tape.even ? 0 : total);
        if (!tape.even)
            for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
                tape.tokens[row] = in.tokens[t * rows + tape.order[n]];
            });
        s.tokens = tape.even ? in.tokens : tape.tokens.data();
        return s;
    }
    s.x = {in.x, places(), inputs};
    if (width == 0 || (tape.even && !join)) return s;
    const View x = reserve(tape.x, total, width);
    if (inputs) sort_rows(tape, part, s.x, x.column_range({0, inputs}));
    if (join)
        for_each_row(tape.steps, part, [&](size_t row, size_t, size_t n) {
            std::copy_n(in.fixed + tape.order[n] * fixed, fixed, x.row(row) + inputs);
        });
    s.x = x;
    return s;
}

// The time-invariant inputs of the first layer.
void ForwardPass::add_fixed(ScanForward& s) const {
    const RecurrentInput& in = tape.input;
    const ScanWeights& w = stack.scans[0];
    tape.fixed = {};
    if (!w.fixed_size) return;
    tape.fixed = ConstView(in.fixed, rows, w.fixed_size);
    tape.fixed_row.resize(rows);
    for (size_t n = 0; n < rows; ++n)
        tape.fixed_row[n] = in.fixed_row ? static_cast<size_t>(in.fixed_row[tape.order[n]]) : tape.order[n];
    s.fixed_row = tape.fixed_row.data();
    if (!tape.even) {
        const View sorted = reserve(tape.fixed_rows, rows, w.fixed_size);
        sort_state(tape, tape.fixed, sorted);
        tape.fixed = sorted;
    }
    s.fixed_part = in.fixed_part;
}

// In the caller's memory, the scans come first, then the layers' outputs.
ForwardPass::Kept ForwardPass::kept(size_t at) const {
    const ScanWeights& w = stack.scans[at];
    const size_t columns = w.order.columns();
    RecurrentTape::Scan& own = tape.scans[at];
    Kept k;
    if (tape.memory) {
        float* next = tape.memory + at * saved_of_scan(w, total);
        const auto take = [&](size_t width) {
            return View(std::exchange(next, next + saved_of(total, width)), total, width);
        };
        k.gates = take(columns);
        if (w.cell->has_c) k.c = take(padded);
        if (w.cell->has_extra) k.extra = take(padded);
        return k;
    }
    k.gates = reserve(own.gates, total, columns);
    if (w.cell->has_c) k.c = reserve(own.c, total, padded);
    if (w.cell->has_extra) k.extra = reserve(own.extra, total, padded);
    return k;
}

// A scan's start state, and memory for what it leaves.
ScanForward ForwardPass::scan(size_t at) const {
    const ScanWeights& w = stack.scans[at];
    RecurrentTape::Scan& own = tape.scans[at];
    const Kept keep = keeps() ? kept(at) : Kept();
    ScanForward s;
    s.steps = &tape.steps;
    s.scratch = &tape.scratch;
    const View h0 = reserve(own.h0, rows, hidden);
    if (begins()) sort_state(tape, state_at(start.h, at, rows, hidden), h0);
    s.h0 = h0;
    if (w.cell->has_c) {
        const View c0 = reserve(own.c0, rows, padded);
        s.c0 = c0;
        s.c = keep.c ? keep.c : reserve(own.c, rows, padded);
        if (begins()) sort_state(tape, state_at(start.c, at, rows, hidden), keeps() ? c0 : s.c);
    }
    s.gates = keep.gates;
    s.extra = keep.extra;
    return s;
}

// The second direction reads each row from its end.
void ForwardPass::flip_input(ScanForward& s) const {
    if (s.tokens) {
        tape.tokens_reversed.resize(total);
        flip(tape, s.tokens, tape.tokens_reversed.data());
        s.tokens = tape.tokens_reversed.data();
    } else if (s.x.columns) {
        s.x = flipped(tape, s.x, tape.x_reversed);
    }
    s.y = reserve(tape.y_reversed, total, hidden);
}

// Each row's last x, in the caller's order.
void ForwardPass::store_last_input(const ConstView& x) const {
    for (size_t n = 0; end.x && n < rows; ++n) {
        const size_t length = tape.length[n], to = tape.order[n] * x.columns;
        if (length)
            std::copy_n(x.row(tape.steps.offset[length - 1] + n), x.columns, end.x + to);
        else
            std::copy_n(tape.x_before.data() + to, x.columns, end.x + to);
    }
}

void ForwardPass::run(size_t at, ScanForward& s) const {
    const ScanWeights& w = stack.scans[at];
    if (w.fixed_size && !s.fixed_part) {
        const View made = reserve(tape.fixed_part, rows, w.order.columns());
        if (begins()) fixed_part(w, {tape.input.fixed, rows, w.fixed_size}, made.base, tape.scratch);
        s.fixed_part = made.base;
    }
    if (save && !keeps()) return scan_forward_in_segments(w, s, tape.scans[at].starts, tape.segment);
    if (begins() && ends()) return scan_forward(w, s);
    ScanForward some = s;
    cut(some, part, tape.part);
    scan_forward(w, some);
}

// How many threads run a wavefront: each has some of the layers, a block of steps behind those below; 0: none. Threads
// that share the units of a layer wait for one another at every step, which for narrow layers takes longer than what
// they share. Wide layers had better be shared, since two caches then hold twice the weights. (Two layers, one row,
// 1024 steps, two threads: LSTM 3 times as fast for H = 32, 1.3 to 2.3 for 64, 1.0 for 256; 128 steps 1.1 to 1.4.)
size_t ForwardPass::lanes() const {
    constexpr size_t narrow = 20'000, many_steps = 256;  // narrow: weights of the recurrent product
    const ScanWeights& w = stack.scans[0];
    const auto threads = static_cast<size_t>(num_threads());
    const bool fits = w.cell->recurrent && stack.directions == 1 && !w.fixed_size && !(save && stack.recompute) &&
                      begins() && ends() && tape.steps.count() >= many_steps;
    const bool pays = threads > 1 && stack.layers % threads == 0 && rows < 2 * threads &&
                      w.cell->gates * hidden * hidden <= narrow && w.input_size <= 2 * hidden;
    return fits && pays ? threads : 0;
}

// The bits do not depend on where blocks end.
void ForwardPass::run_wavefront(const ScanArrays& first, float* y, size_t lanes) const {
    const size_t count = tape.steps.count(), block = std::min<size_t>(count / 8, 32);
    const bool drops = save && stack.dropout.p > 0;
    if (drops) reserve(tape.x_dropped, total, all);
    std::vector<ScanForward> scans(stack.layers);
    for (size_t layer = 0; layer < stack.layers; ++layer) {
        ScanForward& s = scans[layer] = scan(layer);
        s.x = layer ? ConstView(drops ? tape.x_dropped.data() : tape.y.base, total, all) : first.x;
        if (layer == 0) s.tokens = first.tokens;
        s.y = tape.y = layer + 1 == stack.layers && tape.even ? View(y, total, all) : output(layer, layer);
    }
    tape.lanes.resize(lanes);
    for (RecurrentTape::Lane& lane : tape.lanes) {  // no allocation in the region
        const ThreadsForCall one(1);
        lane.part.offset.reserve(block + 1);
        for (size_t layer = 0; layer < stack.layers; ++layer) {
            scans[layer].scratch = &lane.scratch;
            reserve_scratch(stack.scans[layer], scans[layer]);
        }
    }
    std::vector<Progress> done(lanes);
    parallel(lanes, [&](const Team& team) {
        const ThreadsForCall one(1);
        RecurrentTape::Lane& lane = tape.lanes[team.index];
        const Range own = split(stack.layers, team.size, team.index);
        for (size_t t = 0; t < count; t += block) {
            const Range steps{t, std::min(t + block, count)};
            if (team.index) done[team.index - 1].await(steps.end);
            for (size_t layer = own.begin; layer < own.end; ++layer) {
                // Other threads are at other steps, so one buffer serves all.
                if (layer && drops) drop(layer - 1, steps, scans[layer - 1].y.base, tape.x_dropped.data());
                ScanForward some = scans[layer];
                some.scratch = &lane.scratch;
                cut(some, steps, lane.part);
                scan_forward(stack.scans[layer], some);
            }
            done[team.index].reach(steps.end);
        }
    });
    for (size_t layer = 0; layer < stack.layers; ++layer) {
        scans[layer].scratch = &tape.scratch;
        store_end(layer, scans[layer]);
        tape.scans[layer].arrays = scans[layer];
    }
}

// Each row's last state, in the caller's order.
void ForwardPass::store_end(size_t at, const ScanForward& s) const {
    const View h = state_at(end.h, at, rows, hidden), c = state_at(end.c, at, rows, hidden);
    for (size_t n = 0; n < rows; ++n) {
        const size_t length = tape.length[n], last = length ? tape.steps.offset[length - 1] + n : n;
        if (h) std::copy_n((length ? ConstView(s.y) : s.h0).row(last), hidden, h.row(tape.order[n]));
        if (!c || !s.c) continue;
        const float* from = !keeps() ? s.c.row(n) : (length ? ConstView(s.c) : s.c0).row(last);
        std::copy_n(from, hidden, c.row(tape.order[n]));
    }
}

}  // namespace

size_t RecurrentTape::saved_bytes() const {
    size_t floats = !scans.empty() && scans[0].arrays.x.base == x.data() ? x.size() : 0;
    for (const Scan& s : scans)
        for (const Buffer* b : {&s.gates, &s.c, &s.extra, &s.h0, &s.c0, &s.starts.h, &s.starts.c}) floats += b->size();
    for (const Buffer& output : outputs) floats += output.size();
    return floats * sizeof(float);
}

namespace {

void set_rows(RaggedRows& rows, const RecurrentInput& input) {
    if (input.batch_sizes) return rows.set_packed(input.batch_sizes, input.steps);
    rows.set(input.lengths, input.steps, input.rows);
}

}  // namespace

size_t Stack::saved_floats(size_t total) const {
    return size() * saved_of_scan(scans[0], total) + (layers - 1) * saved_of(total, directions * hidden());
}

void Stack::resume(const RecurrentInput& input, const RecurrentState& start, float* y, RecurrentTape& tape) const {
    set_rows(tape, input);
    tape.input = input;
    tape.scans.resize(size());
    const RecurrentStateOut nowhere;
    const ForwardPass pass{{*this, tape}, start, nowhere, {0, tape.steps.count()}, true};
    for (size_t at = 0; at < size(); ++at) tape.scans[at].arrays = pass.scan(at);
    tape.scans[0].arrays.x = pass.first_input().x;
    tape.y = {y, pass.total, pass.all};
}

void Stack::forward(const RecurrentInput& input, const RecurrentState& start, float* y, const RecurrentStateOut& end,
                    RecurrentTape& tape, bool save) const {
    if (input.part.begin == 0) {
        set_rows(tape, input);
        set_groups(tape, tape.row_groups.keys.size(), tape.group_rows);
    }
    tape.input = input;
    tape.scans.resize(size());
    tape.outputs.resize(layers);
    const ForwardPass pass{{*this, tape}, start, end, steps_asked(input.part, tape.steps.count()), save};
    const View caller_y(y, pass.places(), pass.all);
    if (pass.total == 0) {  // no row has a step
        std::fill_n(y, pass.places() * pass.all, 0.0f);
        return pass_on(*this, input.rows, start, end);
    }
    ScanArrays in = pass.first_input();
    if (carries_x()) {
        const View before = reserve(tape.x_before, input.rows, input_size());
        if (start.x) std::copy_n(start.x, before.rows * before.columns, before.base);
        if (!start.x) tape.x_before.zero();
    }
    const size_t lanes = pass.lanes();
    if (lanes) pass.run_wavefront(in, y, lanes);
    for (size_t layer = 0; !lanes && layer < layers; ++layer) {
        const bool in_place = layer + 1 == layers && tape.even;
        tape.y = in_place ? View(y, pass.total, pass.all) : pass.output(layer, save ? layer : layer % 2);
        for (size_t direction = 0; direction < directions; ++direction) {
            const size_t at = layer * directions + direction;
            const View own = tape.y.column_range(pass.columns(direction));
            ScanForward s = pass.scan(at);
            s.x = in.x;
            s.tokens = in.tokens;
            s.y = own;
            if (layer == 0) pass.add_fixed(s);
            if (direction == 1) pass.flip_input(s);
            const ConstView x = s.x;
            if (window > 1) s.x = pass.windows(at, x);
            pass.run(at, s);
            s.x = x;
            if (pass.ends()) pass.store_end(at, s);
            if (direction == 1) flip(tape, s.y, own);
            tape.scans[at].arrays = s;
        }
        if (layer == 0) pass.store_last_input(in.x);
        in = {};
        in.x = tape.y;
        if (layer + 1 < layers && save && dropout.p > 0) {
            in.x = reserve(tape.x_dropped, pass.total, pass.all);
            pass.drop(layer, pass.part, tape.y.base, tape.x_dropped.data());
        }
    }
    if (!tape.even) unsort_rows(tape, pass.part, input.steps, tape.y, caller_y);
}

namespace {

struct BackwardPass : Pass {
    const RecurrentGradients& g;
    size_t last_layer = stack.layers - 1;

    ConstView last_dy() const;
    View output_of(size_t layer) const;
    ConstView input(size_t layer) const;
    View dx(size_t layer) const;
    ScanBackward scan(size_t at) const;
    void flip_arrays(ScanBackward& s, const ConstView& y) const;
    void widen(size_t at, ScanBackward& s) const;
    void narrow(size_t at, const ConstView& dwindows, const View& dx) const;
    void store_start(size_t at, const ScanBackward& s) const;
    void add_dx(size_t at, const ScanBackward& s, const View& dx) const;
};

ConstView BackwardPass::last_dy() const {
    if (!g.dy) return {};
    const ConstView given(g.dy, places(), all);
    if (tape.even) return given;
    const View dy = reserve(tape.dy, total, all);
    sort_rows(tape, {0, tape.steps.count()}, given, dy);
    return dy;
}

View BackwardPass::output_of(size_t layer) const { return layer == last_layer ? tape.y : output(layer, layer); }

// A layer's input; its dropout is computed again.
ConstView BackwardPass::input(size_t layer) const {
    const ConstView x = layer ? ConstView(output_of(layer - 1)) : tape.scans[0].arrays.x;
    if (layer == 0 || stack.dropout.p == 0) return x;
    const View dropped = reserve(tape.x_dropped, total, all);
    drop(layer - 1, {0, tape.steps.count()}, x.base, dropped.base);
    return dropped;
}

// Memory for the gradient of a layer's input, if it is wanted: straight into the caller's when rows are even.
View BackwardPass::dx(size_t layer) const {
    const size_t inputs = layer ? all : stack.scans[0].input_size / stack.window;
    if (layer == 0 && (!g.dx || !inputs)) return {};
    if (layer == 0 && tape.even) return {g.dx, total, inputs};
    return reserve(layer % 2 ? tape.dx : tape.dx_other, total, inputs);
}

// The gradient of a scan's last state, and memory for that of its first.
ScanBackward BackwardPass::scan(size_t at) const {
    ScanBackward s;
    static_cast<ScanArrays&>(s) = tape.scans[at].arrays;
    s.steps = &tape.steps;
    s.scratch = &tape.scratch;
    if (!tape.group_rows.empty()) s.groups = {&tape.group_rows, &tape.row_groups.sums, &tape.groups};
    if (tape.stays) {
        s.saved_gates = s.gates;
        s.saved_extra = s.extra;
        s.gates = reserve(tape.dgates, total, s.gates.columns);
        if (s.extra) s.extra = reserve(tape.dextra, total, padded);
    }
    const View dh = reserve(tape.dh, rows, hidden);
    sort_state(tape, state_at(g.dend.h, at, rows, hidden), dh);
    s.dh_last = dh;
    s.dc = reserve(tape.dc, rows, padded);
    sort_state(tape, state_at(g.dend.c, at, rows, hidden), s.dc);
    if (g.dstart.h) s.dh0 = reserve(tape.dh0, rows, hidden);
    if (at < stack.directions) s.fixed = tape.fixed;
    if (const size_t fixed = stack.scans[at].fixed_size; g.dfixed && fixed)
        s.dfixed = reserve(tape.dfixed, rows, fixed);
    return s;
}

// The second direction ran from each row's end; its tokens are still there. y: its output, forward in time.
void BackwardPass::flip_arrays(ScanBackward& s, const ConstView& y) const {
    if (!s.tokens && s.x.columns) s.x = flipped(tape, s.x, tape.x_reversed);
    if (!stack.recompute) {
        s.y = reserve(tape.y_reversed, total, hidden);
        flip(tape, y, s.y);
    }
    if (s.dy) s.dy = flipped(tape, s.dy, tape.dy_reversed);
    if (s.dx) s.dx = reserve(tape.dx_reversed, total, s.dx.columns);
}

// What a scan reads where it has a window, and memory for its gradient.
void BackwardPass::widen(size_t at, ScanBackward& s) const {
    s.x = windows(at, s.x);
    if (s.dx || (at == 0 && g.dstart.x)) s.dx = reserve(tape.dx_windows, total, s.x.columns);
}

// From the gradient of the windows to that of x, and of what came before the first step: in the lowest layer the
// caller's x, in another h of the layer below, whose store_start adds dx_before.
void BackwardPass::narrow(size_t at, const ConstView& dwindows, const View& dx) const {
    if (!dwindows) return;
    const size_t width = dwindows.columns / 2;
    const Kernels& kernels = *stack.scans[at].kernels;
    const auto dend = [&](size_t n) { return at == 0 && g.dend.x ? g.dend.x + tape.order[n] * width : nullptr; };
    for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
        if (!dx) return;
        std::copy_n(dwindows.row(row), width, dx.row(row));
        const bool ends = t + 1 == tape.length[n];
        const float* later = ends ? dend(n) : dwindows.row(tape.steps.offset[t + 1] + n) + width;
        if (later) kernels.add(width, later, dx.row(row));
    });
    const View below = reserve(tape.dx_before, rows, width);
    for (size_t n = 0; n < rows; ++n) {
        float* to = at ? below.row(n) : g.dstart.x ? g.dstart.x + tape.order[n] * width : nullptr;
        const float* from = tape.length[n] ? dwindows.row(n) + width : dend(n);
        if (to && from) std::copy_n(from, width, to);
        if (to && !from) std::fill_n(to, width, 0.0f);
    }
}

// Gradients of each row's start state and of its time-invariant inputs, in the caller's order.
void BackwardPass::store_start(size_t at, const ScanBackward& s) const {
    const View dh = state_at(g.dstart.h, at, rows, hidden), dc = state_at(g.dstart.c, at, rows, hidden);
    const ConstView dx_before(tape.dx_before.data(), rows, hidden);  // of the layer above
    for (size_t n = 0; n < rows; ++n) {
        const size_t to = tape.order[n];
        const bool untouched = tape.length[n] == 0;  // a row without steps: its states passed through
        if (dh) std::copy_n((stack.recompute || untouched ? s.dh_last : ConstView(s.dh0)).row(n), hidden, dh.row(to));
        if (dh && stack.carries_x() && at < last_layer)
            stack.scans[at].kernels->add(hidden, dx_before.row(n), dh.row(to));
        if (dc && stack.cell().has_c) std::copy_n(s.dc.row(n), hidden, dc.row(to));
        if (!s.dfixed) continue;
        float* row = g.dfixed + to * s.dfixed.columns;
        if (at % stack.directions == 0) std::fill_n(row, s.dfixed.columns, 0.0f);
        if (!untouched) stack.scans[0].kernels->add(s.dfixed.columns, s.dfixed.row(n), row);
    }
}

// Adds the second direction's gradient of x.
void BackwardPass::add_dx(size_t at, const ScanBackward& s, const View& dx) const {
    for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
        const size_t to = tape.steps.offset[tape.length[n] - 1 - t] + n;
        stack.scans[at].kernels->add(dx.columns, s.dx.row(row), dx.row(to));
    });
}

}  // namespace

void Stack::backward(RecurrentTape& tape, const RecurrentGradients& g) const {
    const BackwardPass pass{{*this, tape}, g};
    const size_t inputs = input_size();
    if (pass.total == 0) {
        if (g.dx) std::fill_n(g.dx, pass.places() * inputs, 0.0f);
        if (g.dfixed) std::fill_n(g.dfixed, pass.rows * fixed_size, 0.0f);
        return pass_on(*this, pass.rows, g.dend, g.dstart);
    }
    ConstView dy = pass.last_dy();
    for (size_t layer = layers; layer-- > 0;) {
        const ConstView x = pass.input(layer);
        const View dx = pass.dx(layer);
        for (size_t direction = 0; direction < directions; ++direction) {
            const size_t at = layer * directions + direction;
            const Range own = pass.columns(direction);
            ScanBackward s = pass.scan(at);
            s.x = x;
            s.y = pass.output_of(layer).column_range(own);
            s.dy = dy.column_range(own);
            s.dx = dx;
            if (direction == 1) pass.flip_arrays(s, s.y);
            const View own_dx = s.dx;
            if (window > 1) pass.widen(at, s);
            if (recompute)
                scan_backward_in_segments(scans[at], s, {tape.dh.data(), pass.rows, pass.hidden}, tape.scans[at].starts,
                                          tape.segment, tape.gradients[at]);
            else
                scan_backward(scans[at], s, tape.gradients[at]);
            pass.store_start(at, s);
            if (window > 1) pass.narrow(at, s.dx, own_dx);
            s.dx = own_dx;
            if (direction == 1 && dx) pass.add_dx(at, s, dx);
        }
        tape.progress.at(layer * tape.parameters_of_layer);
        if (layer && dropout.p > 0) pass.drop(layer - 1, {0, tape.steps.count()}, dx.base, dx.base);
        dy = dx;
    }
    if (g.dx && inputs && !tape.even)
        unsort_rows(tape, {0, tape.steps.count()}, tape.input.steps, dy, {g.dx, pass.places(), inputs});
}

}  // namespace rnnfast::core
