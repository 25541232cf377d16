// Recurrent layers, in one or both directions, over packed weights: forward, backward and what lies between them. The
// shape is that of python/rnnfast/reference: scans, flips, and a stack of both.
#pragma once

#include "layers/parameter.h"
#include "ops/checkpointed_scan.h"
#include "ops/dropout.h"

namespace rnnfast::core {

struct RecurrentInput {
    size_t steps = 0, rows = 0;
    const float* x = nullptr;          // [T, N, D]
    const int32_t* tokens = nullptr;   // [T, N] instead of x: x is one-hot
    const int64_t* lengths = nullptr;  // [N] each in 0..T, or nullptr: all T
    const float* fixed = nullptr;      // [N, fixed_size]
    // What fixed_part made of them, and each row's place there, or nullptr: its own. Or nullptr: made here.
    const float* fixed_part = nullptr;
    const int32_t* fixed_row = nullptr;
    Range part{0, 0};  // the steps to compute now, or none: all
    // [T] instead of lengths: rows sorted long to short and packed, as in PyTorch's PackedSequence. x and y then have a
    // row for each step that a row runs, those of one step after another, and N is batch_sizes[0].
    const int64_t* batch_sizes = nullptr;
};

// [scans, N, H], a scan for each layer and direction; nullptr reads as zeros. c is used by cells that have one.
struct RecurrentState {
    const float* h = nullptr;
    const float* c = nullptr;
    const float* x = nullptr;  // [N, D] where the window has two steps, in one direction: x of the step before
};
struct RecurrentStateOut {
    float* h = nullptr;
    float* c = nullptr;
    float* x = nullptr;
};

// dy: [T, N, directions * H], or nullptr; dx [T, N, D], dstart and dfixed [N, fixed_size] are written where given.
struct RecurrentGradients {
    const float* dy = nullptr;
    RecurrentState dend;
    float* dx = nullptr;
    RecurrentStateOut dstart;
    float* dfixed = nullptr;
};

// What one forward leaves for its backward, and the workspace of both. Reused, it allocates nothing new.
struct RecurrentTape : RaggedRows {
    struct Scan {  // one layer in one direction
        Buffer gates, c, extra, h0, c0;
        SegmentStarts starts;  // instead of gates, c and extra, if backward computes them again
        ScanArrays arrays;     // all of these, x and y; those of the second direction run backwards in time
    };
    RecurrentInput input;
    bool saved = false;
    // [Stack::saved_floats] the caller's, for gates, c, extra and outputs, instead of the tape's own.
    float* memory = nullptr;
    bool stays = false;                 // backward leaves that memory as it is
    uint64_t weights = 0;               // their stamp
    RowGroups row_groups;               // gradients are summed over each alone
    std::vector<GroupRows> group_rows;  // how their rows lie
    GradientProgress progress;
    size_t parameters_of_layer = 0;
    std::vector<int32_t> tokens, tokens_reversed;
    ConstView fixed;  // [N, fixed_size] in the order of the sorted rows: the caller's memory if rows are even
    Buffer fixed_rows, dfixed, fixed_part;
    std::vector<size_t> fixed_row;
    Buffer x, x_before, x_reversed, x_dropped, x_windows;
    std::vector<Scan> scans;
    std::vector<ScanGradients> gradients;  // where each scan adds those of its parameters
    // With weight_drop: weight_hh of each scan under its mask, what is packed of it, and its gradient.
    std::vector<Buffer> dropped_hh, dropped_dhh;
    std::vector<ScanWeights> dropped;
    std::vector<Buffer> outputs;  // [total, directions * H] of each layer, or of every other one
    struct Lane {                 // a thread's, in a wavefront
        Buffer scratch;
        Steps part;
    };
    std::vector<Lane> lanes;
    View y;  // the last layer's output, the caller's memory if rows are even
    SegmentWorkspace segment;
    Steps part;  // of the forward that is under way
    Buffer scratch, y_reversed, dy, dx, dx_other, dx_reversed, dx_windows, dx_before, dy_reversed, dc, dh, dh0, dgates,
        dextra, groups;

    // Bytes kept from forward to backward, in addition to the caller's x and y. The workspace is not counted.
    size_t saved_bytes() const;
};

struct Stack {
    const ScanWeights* scans = nullptr;  // [layers * directions]
    size_t layers = 1, directions = 1;
    size_t fixed_size = 0;  // time-invariant inputs
    Dropout dropout{};      // between layers, in training
    bool recompute = false;
    // 2: a scan reads x of its step and of the step before, side by side. At first that is zeros, but in one direction
    // what the state tells: x for the lowest layer, h of the layer below for the others.
    size_t window = 1;

    size_t size() const { return layers * directions; }
    size_t hidden() const { return scans[0].order.hidden; }
    const CellInfo& cell() const { return *scans[0].cell; }
    // int8 quantizes a row of weight_ih as a whole, so there the fixed inputs are copied into each step's input.
    bool joins_fixed() const { return fixed_size && !scans[0].fixed_size; }
    size_t input_size() const { return scans[0].input_size / window - (joins_fixed() ? fixed_size : 0); }
    bool carries_x() const { return window > 1 && directions == 1; }

    // y: [T, N, directions * H]. The packed weights are those of the input's kind: x or tokens.
    void forward(const RecurrentInput& input, const RecurrentState& start, float* y, const RecurrentStateOut& end,
                 RecurrentTape& tape, bool save) const;
    // For a tape in the caller's memory: its size for an input of `total` rows over all steps, and a tape that reads it
    // again, which serves one backward. Without lengths, recomputation and fixed inputs; input, start and y are
    // forward's.
    size_t saved_floats(size_t total) const;
    void resume(const RecurrentInput& input, const RecurrentState& start, float* y, RecurrentTape& tape) const;
    // Adds to the tape's gradients of the parameters.
    void backward(RecurrentTape& tape, const RecurrentGradients& g) const;
};

}  // namespace rnnfast::core
