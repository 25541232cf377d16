// A stack one step at a time: each stream keeps its state, and its steps give the bits of the whole sequence.
#pragma once

#include "layers/recurrent.h"
#include "ops/packed_linear.h"

namespace rnnfast::core {

// What states of the same layers have in common.
struct StreamShape {
    const CellInfo* cell = nullptr;
    size_t layers = 0, hidden = 0;
    size_t carried_inputs = 0;  // numbers of the step before that windows of two steps read again

    StreamShape(const CellInfo& cell_, size_t layers_, size_t hidden_, size_t carried_inputs_ = 0)
        : cell(&cell_), layers(layers_), hidden(hidden_), carried_inputs(carried_inputs_) {}
    bool operator!=(const StreamShape& other) const {
        return cell != other.cell || layers != other.layers || hidden != other.hidden ||
               carried_inputs != other.carried_inputs;
    }
    StreamShape(const Stack& stack)
        : StreamShape(stack.cell(), stack.layers, stack.hidden(), stack.carries_x() ? stack.input_size() : 0) {}
};

// Where the state of a stack begins in one that holds those of several stacks.
struct StreamPlace {
    size_t layer = 0, input = 0;  // its first one of each
};

// The state of one stream, or of several that always step together: [layers, rows, H] and, for a cell that has it,
// [layers, rows, padded H].
struct StreamState {
    const CellInfo* cell = nullptr;
    size_t layers = 0, hidden = 0, rows = 1;
    Buffer h, c, x;  // x: [rows, carried inputs] of the step before, where the window has two steps

    StreamState() = default;
    explicit StreamState(const StreamShape& shape, size_t rows = 1);
    // h alone: [rows, width], of a layer that is not recurrent
    static StreamState plain(size_t width, size_t rows);
    // h, c: [layers, rows, H]; c of cells that have one. nullptr sets zeros.
    void set(const float* h, const float* c, const float* x = nullptr);
    void get(float* h, float* c, float* x = nullptr) const;
    // A copy of the other; allocates only if their sizes differ.
    void assign(const StreamState& other);

    size_t padded() const { return round_up(hidden, unit_block); }
    View h_of(size_t layer) { return {h.data() + layer * rows * hidden, rows, hidden}; }
    View c_of(size_t layer) { return c.size() ? View(c.data() + layer * rows * padded(), rows, padded()) : View(); }
    StreamShape shape() const { return {*cell, layers, hidden, carried_inputs()}; }
    size_t carried_inputs() const { return rows ? x.size() / rows : 0; }
    View x_of(Range inputs) { return View(x.data(), rows, carried_inputs()).column_range(inputs); }
    bool fits(const StreamState& other) const {
        return cell == other.cell && layers == other.layers && hidden == other.hidden && rows == other.rows &&
               x.size() == other.x.size();
    }
};

// Grows at the first call; calls of that size then allocate nothing.
struct StreamWorkspace {
    StepWorkspace step;
    size_t steps_done = 0;
    RecurrentTape tape;  // of several steps
    Buffer between, h, c, x, windows, left, logits, sums;

    struct Sizes {  // floats that one step takes
        StepWorkspace::Sizes step;
        size_t between = 0, h = 0, c = 0, x = 0, windows = 0, left = 0, sums = 0;
        void cover(const Sizes& other);  // becomes enough for both
    };
    void reserve(const Sizes& sizes);
};
StreamWorkspace::Sizes stream_sizes(const Stack& stack, size_t rows);

// Fewer streams than this run on the caller's thread: a step of one stream must not wait for others.
constexpr size_t rows_worth_threads = 16;
inline size_t most_threads(size_t rows) { return rows < rows_worth_threads ? 1 : all_threads; }

// Advances streams by one step, on the caller's thread: no allocation after the first, no lock, no system call.
// input: x or tokens, of even rows. states: one of all rows, or one a row, which hold that of the stack from `place`
// on. y: [rows, H], the last layer's h.
void stream_step(const Stack& stack, const RecurrentInput& input, StreamState* const* states, float* y,
                 StreamWorkspace& workspace, const StreamPlace& place = {});
// By input.steps; y: [steps, rows, H]. A single step takes at most `threads`. A stream's bits do not depend on the
// others.
void stream_run(const Stack& stack, const RecurrentInput& input, StreamState* const* states, float* y,
                StreamWorkspace& workspace, size_t threads, const StreamPlace& place = {});
double step_flops(const Stack& stack, size_t rows);

// A layer with one state. The layer must outlive the stream; weights that changed are packed anew at the next step.
class Stream {
public:
    // Throws std::invalid_argument for a bidirectional layer, whose second half needs the end of the sequence.
    Stream(const Recurrent& layer, size_t rows);

    // x: [N, D]; y: [N, H] out
    void step(const float* x, float* y);

    void set_state(const float* h, const float* c, const float* x = nullptr) { state_.set(h, c, x); }
    void get_state(float* h, float* c, float* x = nullptr) const { state_.get(h, c, x); }
    size_t carried_inputs() const { return state_.carried_inputs(); }

    const Recurrent& layer() const { return layer_; }
    size_t rows() const { return state_.rows; }
    double flops() const { return flops_; }  // of one step

private:
    const Recurrent& layer_;
    StreamState state_;
    double flops_;
    StreamWorkspace workspace_;
};

}  // namespace rnnfast::core
