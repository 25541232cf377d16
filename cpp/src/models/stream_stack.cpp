#include "models/stream_stack.h"

#include <algorithm>

#include "core/parallel.h"

namespace rnnfast {

StreamState::StreamState(const CellInfo& cell_, size_t layers_, size_t hidden_)
    : cell(&cell_),
      layers(layers_),
      hidden(hidden_),
      h(layers_ * hidden_),
      c(cell_.has_c ? layers_ * round_up(hidden_, unit_block) : 0) {}

void StreamStack::add_layer(const ScanParameters& p, size_t input_size, bool token_input) {
    layers_.emplace_back(*kernels_, *cell_, weights_, input_size, hidden_);
    layers_.back().pack(p, token_input);
    flops_ += 2.0 * static_cast<double>(cell_->gates * hidden_ * (hidden_ + (token_input ? 0 : input_size)));
}

namespace {

constexpr size_t tile_floats = 4096;  // recurrent part of one tile: stays in L1 until its cell has run

// gates[r, :] = W_ih x_r + b
void input_part(const ScanWeights& w, const StreamInput& input, const float* x, StreamMemory& m) {
    const size_t columns = w.order.columns();
    if (!x) {
        for (size_t r = 0; r < input.rows; ++r)
            std::copy_n(w.token_rows.data() + static_cast<size_t>(input.tokens[r]) * columns, columns,
                        m.gates.data() + r * columns);
        return;
    }
    m.left.reserve(left_scratch(w.input, input.rows));
    const LeftRows rows = left_rows(w.input, {x, w.input_size, 0, 0}, input.rows, m.left.data());
    multiply(w.input, rows, 0, columns, w.input_bias.data(), {m.gates.data(), columns, 0, 0});
}

// h_next[r, :] from the gates' input part and h; c is updated in place.
void cells(const ScanWeights& w, size_t rows, const float* h, float* c, float* h_next, StreamMemory& m) {
    const size_t gates = w.cell->gates, columns = w.order.columns(), hidden = w.order.hidden;
    const size_t grain = std::max(gates * unit_block, w.recurrent.width());
    const size_t whole = grain % (gates * unit_block) || grain % w.recurrent.width() ? columns : grain;
    const size_t wide = std::max<size_t>(1, tile_floats / (rows * whole)) * whole;
    m.tile.reserve(rows * std::min(wide, round_up(columns, w.recurrent.width())));
    m.left.reserve(left_scratch(w.recurrent, rows));
    const LeftRows h_rows = left_rows(w.recurrent, {h, hidden, 0, 0}, rows, m.left.data());
    for (size_t j = 0; j < columns; j += wide) {
        const size_t width = std::min(wide, columns - j), unit = j / gates;
        multiply(w.recurrent, h_rows, j, width, w.recurrent_bias.data() + j, {m.tile.data(), width, 0, 0});
        CellForward s;
        s.rows = rows;
        s.units = std::min(width / gates, hidden - unit);
        s.gates = m.gates.data() + j;
        s.gate_stride = columns;
        s.recurrent = m.tile.data();
        s.recurrent_stride = width;
        s.h_prev = h + unit;
        s.h = h_next + unit;
        s.h_prev_stride = s.h_stride = hidden;
        if (w.cell->has_c) s.c_prev = s.c = c + unit;
        s.c_prev_stride = s.c_stride = w.order.padded_hidden();
        w.kernels->cells[w.cell->kernel].forward(s);
    }
}

}  // namespace

void StreamStack::step(const StreamInput& input, StreamState* const* states, float* y, StreamMemory& m) const {
    const size_t rows = input.rows, padded = round_up(hidden_, unit_block);
    m.gates.reserve(rows * layers_[0].order.columns());
    m.between.reserve(rows * hidden_);
    m.h.reserve(rows * hidden_);
    if (cell_->has_c) m.c.reserve(rows * padded);
    const float* x = input.x;
    for (size_t layer = 0; layer < layers(); ++layer) {
        const ScanWeights& w = layers_[layer];
        input_part(w, input, x, m);
        const float* h = states[0]->h.data() + layer * hidden_;
        float* c = states[0]->c.data() + (cell_->has_c ? layer * padded : 0);
        if (rows > 1) {  // one matrix of all streams' rows
            h = m.h.data();
            for (size_t r = 0; r < rows; ++r)
                std::copy_n(states[r]->h.data() + layer * hidden_, hidden_, m.h.data() + r * hidden_);
            if (cell_->has_c) c = m.c.data();
            for (size_t r = 0; r < rows && cell_->has_c; ++r)
                std::copy_n(states[r]->c.data() + layer * padded, padded, m.c.data() + r * padded);
        }
        float* h_next = layer + 1 == layers() ? y : m.between.data();
        cells(w, rows, h, c, h_next, m);
        for (size_t r = 0; r < rows; ++r) {
            std::copy_n(h_next + r * hidden_, hidden_, states[r]->h.data() + layer * hidden_);
            if (rows > 1 && cell_->has_c)
                std::copy_n(m.c.data() + r * padded, padded, states[r]->c.data() + layer * padded);
        }
        x = h_next;
    }
}

void StreamStack::run(const StreamInput& input, StreamState* const* states, float* y, StreamMemory& m) const {
    const size_t threads = std::min(threads_for(flops_ * static_cast<double>(input.rows)), most_threads(input.rows));
    if (input.steps == 1 && threads == 1) return step(input, states, y, m);
    const size_t rows = input.rows, padded = round_up(hidden_, unit_block), size = input.steps * rows * hidden_;
    set_even(m.steps, input.steps, rows);
    const float* x = input.x;
    for (size_t layer = 0; layer < layers(); ++layer) {
        const ScanWeights& w = layers_[layer];
        Buffer& buffer = layer % 2 ? m.between_next : m.between;
        const bool last = layer + 1 == layers();
        if (!last) buffer.reserve(size);
        ScanForward s;
        s.steps = &m.steps;
        s.x = x;
        s.x_stride = w.input_size;
        s.tokens = layer ? nullptr : input.tokens;
        s.y = last ? y : buffer.data();
        s.y_stride = hidden_;
        s.scratch = &m.scratch;
        s.h0 = states[0]->h.data() + layer * hidden_;
        s.c = states[0]->c.data() + (cell_->has_c ? layer * padded : 0);
        if (rows > 1) {  // one matrix of all streams' rows
            m.h.reserve(rows * hidden_);
            for (size_t r = 0; r < rows; ++r)
                std::copy_n(states[r]->h.data() + layer * hidden_, hidden_, m.h.data() + r * hidden_);
            s.h0 = m.h.data();
            if (cell_->has_c) m.c.reserve(rows * padded);
            for (size_t r = 0; r < rows && cell_->has_c; ++r)
                std::copy_n(states[r]->c.data() + layer * padded, padded, m.c.data() + r * padded);
            s.c = m.c.data();
        }
        scan_forward(w, s);
        const float* ends = s.y + (input.steps - 1) * rows * hidden_;
        for (size_t r = 0; r < rows; ++r) {
            std::copy_n(ends + r * hidden_, hidden_, states[r]->h.data() + layer * hidden_);
            if (rows > 1 && cell_->has_c) std::copy_n(s.c + r * padded, padded, states[r]->c.data() + layer * padded);
        }
        x = s.y;
    }
}

}  // namespace rnnfast
