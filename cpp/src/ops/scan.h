// One layer in one direction over time: the fused step forward, back-propagation through time backward.
// Rows of all steps lie one after another, sorted long to short, so the rows still running at step t are a prefix.
#pragma once

#include <algorithm>
#include <vector>

#include "ops/cell.h"
#include "ops/packing.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

struct Steps {
    std::vector<size_t> offset;  // step t has rows [offset[t], offset[t + 1])
    size_t count() const { return offset.size() - 1; }
    size_t rows(size_t t) const { return offset[t + 1] - offset[t]; }
    size_t total() const { return offset.back(); }
};
// All rows run for all steps; reuses the memory it has.
void set_even(Steps& s, size_t steps, size_t rows);

// Those of `steps` steps that a caller asks for: none means all.
inline Range steps_asked(Range asked, size_t steps) {
    return asked.size() ? Range{std::min(asked.begin, steps), std::min(asked.end, steps)} : Range{0, steps};
}

// The steps of `range` as a sequence of their own; rows that ended before are a suffix and drop out.
void cut(const Steps& all, Range range, Steps& part);

// Rows of different length, sorted long to short, so that those still running are always a prefix.
struct RaggedRows {
    Steps steps;
    std::vector<size_t> order, length;  // sorted row -> the caller's row, and its length
    bool even = true;                   // all rows of equal length, in the caller's order

    // lengths: [rows] each in 0..steps, or nullptr: all steps. Throws std::invalid_argument.
    void set(const int64_t* lengths, size_t steps, size_t rows);
};

// Calls body(packed row, t, sorted row) for every row of the steps in `part`.
template <class Body>
void for_each_row(const Steps& steps, Range part, Body body) {
    for (size_t t = part.begin; t < part.end; ++t)
        for (size_t n = 0; n < steps.rows(t); ++n) body(steps.offset[t] + n, t, n);
}
template <class Body>
void for_each_row(const Steps& steps, Body body) {
    for_each_row(steps, {0, steps.count()}, body);
}

// PyTorch's parameters of one layer and direction; biases may be nullptr.
struct ScanParameters {
    const float *weight_ih, *weight_hh;  // [G*H, D + F], [G*H, H]
    const float *bias_ih, *bias_hh;      // [G*H]
};
struct ScanGradients {
    float *weight_ih, *weight_hh, *bias_ih, *bias_hh;
};

// The parameters in the kernels' order.
class ScanWeights {
public:
    ScanWeights() = default;
    ScanWeights(const Kernels& kernels, const CellInfo& cell, Weights weights, size_t input_size, size_t hidden_size,
                size_t fixed_size = 0);

    // For forward; token_input lays the input weights out for a gather of rows instead of a product.
    void pack(const ScanParameters& p, bool token_input);
    // For backward; the input part only when input gradients are wanted.
    void pack_backward(const ScanParameters& p, bool input_gradient);

    // Columns of the recurrent product that may be done apart: whole blocks of units, whole panels.
    size_t column_grain() const;

    const Kernels* kernels = nullptr;
    const CellInfo* cell = nullptr;
    Weights weights = Weights::f32;
    size_t input_size = 0, fixed_size = 0;
    size_t input_stride() const { return input_size + fixed_size; }  // of weight_ih's rows
    GateOrder order{};
    PackedMatrix input, recurrent;            // [D, G*H], [H, G*H]
    PackedMatrix fixed, fixed_back;           // [F, G*H], [G*H, F]
    Buffer token_rows;                        // [D, G*H] row-major, bias included
    Buffer input_bias, recurrent_bias;        // [G*H] padded to panels
    PackedMatrix input_back, recurrent_back;  // [G*H, D], [G*H, H]
};

struct ScanForward {
    const Steps* steps = nullptr;
    const float* x = nullptr;  // [total, D]
    size_t x_stride = 0;
    const int32_t* tokens = nullptr;  // [total] instead of x: x is one-hot
    // Inputs that every step reads: [.., G*H] what fixed_part made of them, and each row's place there, or nullptr: its
    // own.
    const float* fixed_part = nullptr;
    const size_t* fixed_row = nullptr;
    const float* h0 = nullptr;  // [N, H]
    const float* c0 = nullptr;  // [N, padded H]
    float* y = nullptr;         // [total, H] every step's h
    size_t y_stride = 0;
    float* c = nullptr;         // saving: [total, padded H]; else [N, padded H], holding c0, updated in place
    float* gates = nullptr;     // [total, G*H] saved for backward, or nullptr: nothing is saved
    float* extra = nullptr;     // [total, padded H] GRU, if gates are saved
    Buffer* scratch = nullptr;  // grows at the first call, then allocates no more
};
void scan_forward(const ScanWeights& w, const ScanForward& s);
// part[r, :] = W f_r + b, [rows, G*H] in the kernels' order, for `fixed` [rows, F]. scratch: as above.
void fixed_part(const ScanWeights& w, const float* fixed, size_t rows, float* part, Buffer& scratch);
// The steps of `range` alone, of a scan that saves, where those before have run. part: memory.
void scan_forward(const ScanWeights& w, const ScanForward& s, Range range, Steps& part);

// Columns of one tile, a multiple of `grain`: as many as keep it in L1, few enough that a step has several; and the
// floats that any such tile needs.
size_t tile_columns(size_t rows, size_t grain);
size_t tile_scratch(size_t rows, size_t grain);

// Calls body(tile) for the tiles of a range of columns, backwards on odd steps: the weights used last are still in L2.
template <class Body>
void for_each_tile(Range columns, size_t wide, size_t step, Body body) {
    const size_t tiles = (columns.size() + wide - 1) / wide;
    for (size_t i = 0; i < tiles; ++i) {
        const size_t first = columns.begin + (step % 2 ? tiles - 1 - i : i) * wide;
        body(Range{first, std::min(first + wide, columns.end)});
    }
}

// One time step on the caller's thread, nothing saved: what streams run.
struct ScanStep {
    size_t rows = 0;
    const float* x = nullptr;         // [N, D]
    const int32_t* tokens = nullptr;  // [N] instead of x: x is one-hot
    const float* h = nullptr;         // [N, H]
    float* c = nullptr;               // [N, padded H] updated in place
    float* h_next = nullptr;          // [N, H] out
    size_t step = 0;                  // its number: odd ones walk the weights backwards
};
// Grows at the first step, then allocates no more.
struct StepMemory {
    Buffer gates, recurrent, left;
    struct Sizes {
        size_t gates = 0, recurrent = 0, left = 0;  // floats
    };
    static Sizes sizes(const ScanWeights& w, size_t rows);
    void reserve(const Sizes& sizes);
};
void scan_step(const ScanWeights& w, const ScanStep& s, StepMemory& memory);

// The inner step: the recurrent product of `columns`, and the cell on it while it is in L1.
// cell: rows of one step, all units; tile: [rows, columns] scratch.
void fused_step(const ScanWeights& w, const LeftRows& h_prev, CellForward cell, Range columns, float* tile);

struct ScanBackward {
    const Steps* steps = nullptr;
    const float* x = nullptr;
    size_t x_stride = 0;
    const int32_t* tokens = nullptr;
    const float* fixed = nullptr;
    const float* h0 = nullptr;
    const float* c0 = nullptr;
    const float* y = nullptr;
    size_t y_stride = 0;
    const float* c = nullptr;
    float* gates = nullptr;  // in: what forward saved; used up
    float* extra = nullptr;
    const float* dy = nullptr;  // [total, H]
    size_t dy_stride = 0;
    const float* dh_last = nullptr;  // [N, H] gradient of each row's last h, or nullptr
    float* dc = nullptr;             // [N, padded H] in: gradient of each row's last c; out: of c0
    float* dh0 = nullptr;            // [N, H] out
    float* dx = nullptr;             // [total, D] out, or nullptr
    float* dfixed = nullptr;         // [N, F] out, or nullptr
    size_t dx_stride = 0;
    Buffer* scratch = nullptr;
};
void scan_backward(const ScanWeights& w, const ScanBackward& s, const ScanGradients& gradients);

// The second half of scan_backward, for a team whose threads all come here when the gates hold their gradients: what
// they give to the parameters, as products over all rows. Outputs, never rows, are split over threads.
// scratch: this thread's weight_gradient_scratch; sums: [G*H], one for the team.
void scan_weight_gradients(const Team& team, const ScanWeights& w, const ScanBackward& s,
                           const ScanGradients& gradients, float* scratch, float* sums);

// Exchanges the last gate's column blocks with `extra`: gradients of the recurrent part for those of the input part.
void swap_last_gate(const GateOrder& order, float* gates, float* extra);

}  // namespace rnnfast::core
