// One time step of a scan, forward and backward. Every scan takes this step: over a whole sequence, over one chunk of
// it, between attention, or one step at a time in a stream.
#pragma once

#include <algorithm>

#include "ops/scan_weights.h"
#include "ops/steps.h"

namespace rnnfast::core {

// The arrays of a scan, rows of all steps one after another. An empty view: the array is absent.
struct ScanArrays {
    const Steps* steps = nullptr;
    ConstView x;                      // [total, D]
    const int32_t* tokens = nullptr;  // [total] instead of x: x is one-hot
    ConstView h0, c0;                 // [N, H], [N, padded H]
    View y;                           // [total, H] h of every step
    View c;                           // saving: [total, padded H]; else [N, padded H], holding c0, updated in place
    View gates;                       // saving: [total, G*H] for backward
    View extra;                       // saving: [total, padded H] GRU
    RowPlaces places = {};            // where rows lie that are some of those of every step
    bool saves() const { return bool(gates); }
};
// The steps of `range` alone, once those before have run. part: where their steps are kept.
void cut(ScanArrays& s, Range range, Steps& part);

// Some rows of one step.
struct Step {
    View gates;        // [rows, G*H] in: the input part; after forward, if saving: the activated gates; after backward:
                       // the gradient of the recurrent part
    ConstView h_prev;  // [rows, H]
    View h;            // [rows, H] forward: out
    ConstView c_prev;  // [rows, padded H]
    View c, extra;     // [rows, padded H] forward: out, if saving; of a cell with a second product always
    bool save = false;
    ConstView x;  // [rows, D] what a cell with a highway reads
};
Step step_at(const ScanArrays& s, size_t t, Range rows);

// The gradients of these rows.
struct StepGradients {
    ConstView dy;    // [rows, H] of this step's output
    View dh_direct;  // [rows, padded H] in and out: the part of dh that bypasses the gates (GRU)
    View dc;         // [rows, padded H] in: of c; out: of c_prev
    View dx;         // [rows, D] of a cell with a highway, out: the part that bypasses the gates; may be empty
    View dlast;      // [rows, padded H] of a cell with a second product, out: gradient of its last gate
};

// The cell on some columns of the gates, whose recurrent part [rows, columns] is there, if it has one.
void forward_step(const ScanWeights& w, const Step& s, Range columns, const ConstView& recurrent);
// The recurrent product of some columns, and the cell on it while it is in L1. h_prev: that of s, as the product reads
// it; tile: memory for [rows, columns].
void fused_step(const ScanWeights& w, const Step& s, const LeftRows& h_prev, Range columns, float* tile);
// Of a cell with a second product, once these rows have all units of `extra`: the product and the cell's second kernel.
// left: left_scratch of the recurrent product. A cell without one is done already.
void finish_step(const ScanWeights& w, const Step& s, Range columns, size_t number, float* tile, float* left);
// The cell's gradients of some units. dh: [rows, units] what the next step's recurrent product passes back to h of this
// one, if the cell has one.
void backward_step(const ScanWeights& w, const Step& s, const StepGradients& d, Range units, const ConstView& dh);
// Of a cell with a second product: the rest, once dlast has all units. dextra: [rows, units] dlast times its weights.
void second_backward_step(const ScanWeights& w, const Step& s, const StepGradients& d, Range units,
                          const ConstView& dextra);

// Exchanges the last gate's column blocks with `extra`: gradients of the recurrent part for those of the input part.
void swap_last_gate(const GateOrder& order, float* gates, float* extra);
// gates[r, :] = W_ih e_token + b, for these columns of the gates
void gather_input(const ScanWeights& w, const int32_t* tokens, Range columns, const View& gates);

constexpr size_t tile_floats = 16 * 1024 / 4;  // recurrent part of one tile: stays in L1 until its cell has run

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

// A step by itself, on the caller's thread, nothing saved: what streams run.
struct ScanStep {
    ConstView x;                      // [N, D]
    const int32_t* tokens = nullptr;  // [N] instead of x: x is one-hot
    ConstView h;                      // [N, H]
    View c;                           // [N, padded H] updated in place
    View h_next;                      // [N, H] out
    size_t number = 0;                // odd steps walk the weights backwards
};
// Grows at the first step, then allocates no more.
struct StepWorkspace {
    Buffer gates, recurrent, left, extra;
    struct Sizes {
        size_t gates = 0, recurrent = 0, left = 0, extra = 0;  // floats
    };
    static Sizes sizes(const ScanWeights& w, size_t rows);
    void reserve(const Sizes& sizes);
};
void scan_step(const ScanWeights& w, const ScanStep& s, StepWorkspace& workspace);

}  // namespace rnnfast::core
