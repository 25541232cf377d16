#include "layers/stream.h"
#include "runtime/sentence.h"

#include <algorithm>
#include <stdexcept>

namespace rnnfast::core {

namespace {

// So many streams at a time on one thread: their gates stay in L2 from the product to the cell (LSTM 256: 8%).
constexpr size_t rows_a_step = 48;

}  // namespace

StreamState::StreamState(const StreamShape& shape, size_t rows_)
    : cell(shape.cell),
      layers(shape.layers),
      hidden(shape.hidden),
      rows(rows_),
      h(layers * rows * hidden),
      c(cell->has_c ? layers * rows * padded() : 0),
      x(rows * shape.carried_inputs) {}

StreamState StreamState::plain(size_t width, size_t rows) {
    StreamState state;
    state.layers = 1;
    state.hidden = width;
    state.rows = rows;
    state.h = Buffer(rows * width);
    return state;
}

void StreamState::set(const float* from_h, const float* from_c, const float* from_x) {
    h.zero();
    c.zero();
    x.zero();
    if (from_x) std::copy_n(from_x, x.size(), x.data());
    if (from_h) std::copy_n(from_h, h.size(), h.data());
    const size_t count = from_c && c.size() ? layers * rows : 0;
    copy_rows({from_c, count, hidden}, {c.data(), count, padded()});
}

void StreamState::get(float* to_h, float* to_c, float* to_x) const {
    if (to_x) std::copy_n(x.data(), x.size(), to_x);
    std::copy_n(h.data(), h.size(), to_h);
    const size_t count = to_c ? layers * rows : 0;
    copy_rows({c.data(), count, padded()}, {to_c, count, hidden});
}

void StreamState::assign(const StreamState& other) {
    if (!fits(other)) *this = other.cell ? StreamState(other.shape(), other.rows) : plain(other.hidden, other.rows);
    std::copy_n(other.h.data(), h.size(), h.data());
    std::copy_n(other.c.data(), c.size(), c.data());
    std::copy_n(other.x.data(), x.size(), x.data());
}

void StreamWorkspace::reserve(const Sizes& sizes) {
    step.reserve(sizes.step);
    between.reserve(sizes.between);
    h.reserve(sizes.h);
    c.reserve(sizes.c);
    x.reserve(sizes.x);
    windows.reserve(sizes.windows);
    left.reserve(sizes.left);
    sums.reserve(sizes.sums);
}

void StreamWorkspace::Sizes::cover(const Sizes& other) {
    const auto larger = [](size_t& own, size_t of_other) { own = std::max(own, of_other); };
    larger(step.gates, other.step.gates);
    larger(step.recurrent, other.step.recurrent);
    larger(step.left, other.step.left);
    larger(step.extra, other.step.extra);
    larger(between, other.between);
    larger(h, other.h);
    larger(c, other.c);
    larger(x, other.x);
    larger(windows, other.windows);
    larger(left, other.left);
    larger(sums, other.sums);
}

StreamWorkspace::Sizes stream_sizes(const Stack& stack, size_t rows) {
    StreamWorkspace::Sizes sizes;
    for (size_t layer = 0; layer < stack.layers; ++layer) {
        const StepWorkspace::Sizes more = StepWorkspace::sizes(stack.scans[layer], rows);
        sizes.step.gates = std::max(sizes.step.gates, more.gates);
        sizes.step.recurrent = std::max(sizes.step.recurrent, more.recurrent);
        sizes.step.left = std::max(sizes.step.left, more.left);
        sizes.step.extra = std::max(sizes.step.extra, more.extra);
    }
    sizes.between = sizes.h = rows * stack.hidden();
    sizes.c = stack.cell().has_c ? rows * round_up(stack.hidden(), unit_block) : 0;
    if (stack.window > 1) {
        sizes.x = rows * stack.input_size();
        sizes.windows = rows * stack.window * std::max(stack.input_size(), stack.hidden());
    }
    return sizes;
}

double step_flops(const Stack& stack, size_t rows) {
    double flops = 0;
    for (size_t layer = 0; layer < stack.layers; ++layer) {
        const ScanWeights& w = stack.scans[layer];
        const size_t inputs = w.input.depth();  // 0 for tokens, whose rows are gathered
        const size_t depth = w.cell->recurrent_depth(w.order.hidden) + inputs;
        flops += 2.0 * static_cast<double>(rows * w.cell->gates * w.order.hidden * depth);
    }
    return flops;
}

namespace {

// [x_t, x_{t-1}] of every row
ConstView windows_of(const ConstView& x, const ConstView& before, StreamWorkspace& m) {
    const View to = reserve(m.windows, x.rows, 2 * x.columns);
    copy_rows(x, to.column_range({0, x.columns}));
    copy_rows(before, to.column_range({x.columns, 2 * x.columns}));
    return to;
}

// What the lowest layer reads where the window has two steps; the states keep x, from `input` on, for the next.
ConstView first_windows(const ConstView& x, StreamState* const* states, StreamWorkspace& m, size_t input) {
    const size_t own = states[0]->rows;
    const View before = reserve(m.x, x.rows, x.columns);
    for (size_t r = 0; r < x.rows; r += own) {
        const View kept = states[r / own]->x_of({input, input + x.columns});
        copy_rows(kept, before.row_range({r, r + own}));
        copy_rows(x.row_range({r, r + own}), kept);
    }
    return windows_of(x, before, m);
}

}  // namespace

void stream_step(const Stack& stack, const RecurrentInput& input, StreamState* const* states, float* y,
                 StreamWorkspace& m, const StreamPlace& place) {
    const size_t rows = input.rows, hidden = stack.hidden(), padded = states[0]->padded();
    const bool has_c = stack.cell().has_c, together = states[0]->rows == rows;  // in one matrix already
    const View between = reserve(m.between, rows, hidden);
    ScanStep s;
    s.x = {input.x, rows, stack.input_size()};
    s.tokens = input.tokens;
    s.number = m.steps_done++;
    if (stack.window > 1) s.x = first_windows(s.x, states, m, place.input);
    for (size_t layer = 0; layer < stack.layers; ++layer) {
        const size_t own = place.layer + layer;  // in the states
        View h = states[0]->h_of(own), c = states[0]->c_of(own);
        if (!together) {
            h = reserve(m.h, rows, hidden);
            for (size_t r = 0; r < rows; ++r) copy_rows(states[r]->h_of(own), h.row_range({r, r + 1}));
            if (has_c) c = reserve(m.c, rows, padded);
            for (size_t r = 0; has_c && r < rows; ++r) copy_rows(states[r]->c_of(own), c.row_range({r, r + 1}));
        }
        s.h = h;
        s.c = c;
        s.h_next = layer + 1 == stack.layers ? View(y, rows, hidden) : between;
        scan_step(stack.scans[layer], s, m.step);
        s.x = stack.window > 1 && layer + 1 < stack.layers ? windows_of(s.h_next, h, m) : ConstView(s.h_next);
        if (together) std::copy_n(s.h_next.base, rows * hidden, h.base);
        for (size_t r = 0; !together && r < rows; ++r) {
            copy_rows(s.h_next.row_range({r, r + 1}), states[r]->h_of(own));
            if (has_c) copy_rows(c.row_range({r, r + 1}), states[r]->c_of(own));
        }
        s.tokens = nullptr;
    }
}

void stream_run(const Stack& stack, const RecurrentInput& input, StreamState* const* states, float* y,
                StreamWorkspace& m, size_t threads, const StreamPlace& place) {
    const size_t rows = input.rows, hidden = stack.hidden(), size = stack.layers * rows * hidden;
    const size_t own = states[0]->rows;  // of each state: one, or all
    if (input.steps == 1 && std::min(threads_for(step_flops(stack, rows)), threads) == 1) {
        const size_t most = std::max(own, rows_a_step);
        for (size_t first = 0; first < rows; first += most) {
            RecurrentInput some = input;
            some.rows = std::min(most, rows - first);
            if (input.x) some.x += first * stack.input_size();
            if (input.tokens) some.tokens += first;
            stream_step(stack, some, states + first, y + first * hidden, m, place);
        }
        return;
    }
    const bool has_c = stack.cell().has_c;
    m.h.reserve(size);
    m.c.reserve(has_c ? size : 0);
    const auto for_each_state = [&](auto body) {
        for (size_t i = 0; i < stack.layers * rows; i += own)
            body(states[i % rows / own]->h_of(place.layer + i / rows), View(m.h.data() + i * hidden, own, hidden));
        for (size_t i = 0; has_c && i < stack.layers * rows; i += own)
            body(states[i % rows / own]->c_of(place.layer + i / rows), View(m.c.data() + i * hidden, own, hidden));
        for (size_t i = 0; i < rows && stack.window > 1; i += own)
            body(states[i / own]->x_of({place.input, place.input + stack.input_size()}),
                 View(m.x.data() + i * stack.input_size(), own, stack.input_size()));
    };
    if (stack.window > 1) m.x.reserve(rows * stack.input_size());
    for_each_state([](const View& state, const View& row) { copy_rows(state, row); });
    // The forward copies the start before it writes the end, so both may be the same memory.
    float* x = stack.window > 1 ? m.x.data() : nullptr;
    stack.forward(input, {m.h.data(), m.c.data(), x}, y, {m.h.data(), m.c.data(), x}, m.tape, false);
    for_each_state([](const View& state, const View& row) { copy_rows(row, state); });
}

Stream::Stream(const Recurrent& layer, size_t rows) : layer_(layer) {
    if (layer.directions() != 1)
        refuse(
            {"a bidirectional layer cannot stream: its backward direction starts at the end of the sequence; "
             "call it on the whole sequence, or make it with bidirectional=False"});
    if (rows == 0) refuse({"rows is 0: expected at least 1"});
    const Stack stack = layer.stack();
    state_ = StreamState(stack, rows);
    flops_ = step_flops(stack, rows);
    workspace_.reserve(stream_sizes(stack, rows));
}

void Stream::step(const float* x, float* y) {
    RecurrentInput input;
    input.steps = 1;
    input.x = x;
    input.rows = rows();
    StreamState* const states[] = {&state_};
    stream_step(layer_.stack(), input, states, y, workspace_);
}

}  // namespace rnnfast::core
