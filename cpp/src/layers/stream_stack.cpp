#include "layers/stream_stack.h"

#include <algorithm>

#include "runtime/parallel.h"

namespace rnnfast::core {

// So many streams at a time on one thread: their gates stay in L2 from the product to the cell (LSTM 256: 8%).
constexpr size_t rows_a_step = 48;

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

void StreamMemory::reserve(const StepSizes& sizes) {
    step.reserve(sizes.step);
    between.reserve(sizes.between);
    h.reserve(sizes.h);
    c.reserve(sizes.c);
    x.reserve(sizes.x);
    y.reserve(sizes.y);
    left.reserve(sizes.left);
}

StepSizes StreamStack::one_step() const {
    StepSizes sizes;
    for (const ScanWeights& layer : layers_) {
        const StepMemory::Sizes more = StepMemory::sizes(layer, 1);
        sizes.step.gates = std::max(sizes.step.gates, more.gates);
        sizes.step.recurrent = std::max(sizes.step.recurrent, more.recurrent);
        sizes.step.left = std::max(sizes.step.left, more.left);
    }
    sizes.between = sizes.h = hidden_;
    sizes.c = cell_->has_c ? round_up(hidden_, unit_block) : 0;
    return sizes;
}

void StreamStack::step(const StreamInput& input, StreamState* const* states, float* y, StreamMemory& m) const {
    const size_t rows = input.rows, padded = round_up(hidden_, unit_block);
    m.between.reserve(rows * hidden_);
    m.h.reserve(rows * hidden_);
    if (cell_->has_c) m.c.reserve(rows * padded);
    ScanStep s;
    s.rows = rows;
    s.x = input.x;
    s.tokens = input.tokens;
    s.step = m.steps_done++;
    for (size_t layer = 0; layer < layers(); ++layer) {
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
        s.h = h;
        s.c = c;
        s.h_next = h_next;
        scan_step(layers_[layer], s, m.step);
        for (size_t r = 0; r < rows; ++r) {
            std::copy_n(h_next + r * hidden_, hidden_, states[r]->h.data() + layer * hidden_);
            if (rows > 1 && cell_->has_c)
                std::copy_n(m.c.data() + r * padded, padded, states[r]->c.data() + layer * padded);
        }
        s.x = h_next;
        s.tokens = nullptr;
    }
}

void StreamStack::run(const StreamInput& input, StreamState* const* states, float* y, StreamMemory& m) const {
    const size_t threads = std::min(threads_for(flops_ * static_cast<double>(input.rows)), most_threads(input.rows));
    if (input.steps == 1 && threads == 1) {
        for (size_t first = 0; first < input.rows; first += rows_a_step) {
            StreamInput some = input;
            some.rows = std::min(rows_a_step, input.rows - first);
            if (input.x) some.x += first * input_size();
            if (input.tokens) some.tokens += first;
            step(some, states + first, y + first * hidden_, m);
        }
        return;
    }
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

}  // namespace rnnfast::core
