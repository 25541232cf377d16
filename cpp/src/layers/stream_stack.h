// A stack of recurrent layers for running only: weights packed once, immutable, one small state for every stream.
#pragma once

#include <vector>

#include "ops/scan.h"

namespace rnnfast::core {

// Rows of h and c of one stream, one after another: [layers, H] and, for a cell that has it, [layers, padded H].
struct StreamState {
    const CellInfo* cell = nullptr;
    size_t layers = 0, hidden = 0;
    Buffer h, c;

    StreamState() = default;
    StreamState(const CellInfo& cell, size_t layers, size_t hidden);
    size_t padded() const { return round_up(hidden, unit_block); }
    bool fits(const StreamState& other) const {
        return cell == other.cell && layers == other.layers && hidden == other.hidden;
    }
};

// Floats of memory that one step takes.
struct StepSizes {
    StepMemory::Sizes step;
    size_t between = 0, h = 0, c = 0, x = 0, y = 0, left = 0;
};

// Memory of a call; grows at the first one, then nothing is allocated for calls of that size.
struct StreamMemory {
    Steps steps;
    StepMemory step;
    size_t steps_done = 0;
    Buffer scratch, x, y, between, between_next, h, c, left, logits, sums;

    void reserve(const StepSizes& sizes);
};

// Fewer streams than this run on the caller's thread: a step of one stream must not wait for others.
constexpr size_t rows_worth_threads = 16;
inline size_t most_threads(size_t rows) { return rows < rows_worth_threads ? 1 : static_cast<size_t>(-1); }

struct StreamInput {
    const float* x = nullptr;         // [steps, rows, D]
    const int32_t* tokens = nullptr;  // [steps, rows] instead of x: x is one-hot
    size_t steps = 1, rows = 1;
};

class StreamStack {
public:
    StreamStack() = default;
    StreamStack(const Kernels& kernels, const CellInfo& cell, size_t hidden_size, Weights weights)
        : kernels_(&kernels), cell_(&cell), weights_(weights), hidden_(hidden_size) {}
    // The next layer from PyTorch's parameters; token_input: its input is one-hot.
    void add_layer(const ScanParameters& p, size_t input_size, bool token_input);

    const Kernels& kernels() const { return *kernels_; }
    const CellInfo& cell() const { return *cell_; }
    Weights weights() const { return weights_; }
    size_t hidden_size() const { return hidden_; }
    size_t input_size() const { return layers_[0].input_size; }
    size_t layers() const { return layers_.size(); }
    StepSizes one_step() const;  // of one stream
    StreamState initial_state() const { return {*cell_, layers(), hidden_}; }

    // Advances `rows` streams; y: [steps, rows, H], the last layer's h. A stream's bits do not depend on the others.
    void run(const StreamInput& input, StreamState* const* states, float* y, StreamMemory& memory) const;

private:
    // One time step on the caller's thread: no allocation after the first, no lock, no system call.
    void step(const StreamInput& input, StreamState* const* states, float* y, StreamMemory& memory) const;

    const Kernels* kernels_ = nullptr;
    const CellInfo* cell_ = nullptr;
    Weights weights_ = Weights::f32;
    size_t hidden_ = 0;
    double flops_ = 0;  // of a step of one stream
    std::vector<ScanWeights> layers_;
};

}  // namespace rnnfast::core
