// The recurrent layer: any cell, stacked, in one or both directions, over rows of different length.
// Layers, directions and lengths are loops and index maps around ops/scan; none of them reaches a cell.
#pragma once

#include <atomic>
#include <deque>
#include <memory>

#include "layers/optim.h"
#include "ops/checkpointed_scan.h"
#include "runtime/fork.h"
#include "runtime/weights_stamp.h"

namespace rnnfast::core {

struct RecurrentOptions {
    std::string cell = "rnn";
    size_t input_size = 0, hidden_size = 0, num_layers = 1;
    size_t fixed_size = 0;  // inputs that are the same at every step: the last columns of weight_ih_l0
    bool bias = true, bidirectional = false;
    float dropout = 0;               // between layers, in training
    bool variational = false;        // the same dropout mask at every step
    bool single = false;             // parameters without "_l0" in their names: PyTorch's cells
    bool bare = false;               // parameters without values: to run only, with those of a file
    bool recompute = false;          // backward computes again what forward then does not save
    Weights weights = Weights::f32;  // of the products, forward and backward; parameters stay float32
};

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
};

// [layers * directions, N, H]; nullptr reads as zeros. c is used by cells that have one.
struct RecurrentState {
    const float* h = nullptr;
    const float* c = nullptr;
};
struct RecurrentStateOut {
    float* h = nullptr;
    float* c = nullptr;
};

// What one forward leaves for its backward, and the memory both work in. Reused, it allocates nothing new.
struct RecurrentTape : RaggedRows {
    struct Lane {  // one layer in one direction
        Buffer gates, c, extra, h0, c0;
        SegmentStarts starts;  // instead of gates, c and extra, if backward computes them again
    };
    RecurrentInput input;
    bool saved = false;
    uint64_t weights = 0;  // their stamp
    uint64_t dropout_key = 0;
    std::vector<int32_t> tokens, tokens_reversed;
    const float* first_x = nullptr;  // [total, D] the first layer's input, the caller's memory if rows are even
    const float* fixed = nullptr;    // [N, fixed_size] in the order of the sorted rows; likewise
    Buffer fixed_rows, dfixed, fixed_part;
    std::vector<size_t> fixed_row;
    Buffer x, x_reversed, x_dropped;
    std::vector<Lane> lanes;
    std::vector<Buffer> outputs;  // [total, directions * H] of each layer
    const float* y = nullptr;     // the last layer's output, the caller's memory if rows are even
    SegmentMemory segment;
    Steps part;  // of the forward that is under way
    Buffer scratch, y_reversed, dy, dx, dx_other, dx_reversed, dy_reversed, dc, dh, dh0;

    // Bytes that have to be kept from forward to backward, beside the caller's x and y. Working memory is not counted.
    size_t saved_bytes() const;
};

class Recurrent {
public:
    Recurrent(RecurrentOptions options, uint64_t seed, const Kernels& kernels, const std::string& prefix = "");

    const RecurrentOptions& options() const { return options_; }
    const CellInfo& cell() const { return *cell_; }
    const Kernels& kernels() const { return *kernels_; }
    size_t directions() const { return options_.bidirectional ? 2 : 1; }
    size_t lanes() const { return options_.num_layers * directions(); }

    // The packed weights of a layer and direction for float input, packed anew if they were written since; otherwise
    // no lock is taken. They must not be written while a step or a forward runs.
    const ScanWeights& packed(size_t lane) const {
        prepare(false, false, false);
        return packed_->lanes[lane];
    }
    // The same with what backward needs.
    const ScanWeights& packed_backward(size_t lane) const {
        prepare(false, true, true);
        return packed(lane);
    }
    ScanGradients scan_gradients(size_t lane) const;  // where a layer and direction adds its gradients

    // For a caller that runs many steps with the same fixed inputs [rows, fixed_size]: what they give each row at every
    // step, [rows, fixed_part_size()], for the weights as they are now. Size 0: nothing, they are read beside x.
    size_t fixed_part_size() const;
    void fixed_part(const float* fixed, size_t rows, float* part, Buffer& scratch) const;

    std::deque<Parameter> parameters;  // PyTorch's names and order; a layer that reads nothing has no weight_ih
    // The weights were written: they are packed again before their next use.
    void weights_changed();
    // Throws std::invalid_argument if they were since the forward that left the tape.
    void check_weights(const RecurrentTape& tape) const { packed_->stamp.check(tape.weights); }

    // y: [T, N, directions * H]. With `save`, the tape holds what backward needs; input.x and y must live until then.
    // Rows beyond their length give zeros.
    // A sequence may be given in parts, first to last, into one tape, where x of a step depends on y of those before:
    // with `save`, in one direction, not to be computed again. The pointers are those of the whole.
    void forward(const RecurrentInput& input, const RecurrentState& start, float* y, const RecurrentStateOut& end,
                 RecurrentTape& tape, bool save, uint64_t dropout_key = 0) const;
    // dy: gradient of y, or nullptr; dend: of the last states. Adds to the parameters' gradients; dx [T, N, D] and
    // dstart are written where given, as is dfixed [N, fixed_size]. Uses the tape up.
    void backward(RecurrentTape& tape, const float* dy, const RecurrentState& dend, float* dx,
                  const RecurrentStateOut& dstart, float* dfixed = nullptr);

private:
    // int8 rounds a row of weight_ih as a whole, so there the fixed inputs are copied beside the others.
    bool joins_fixed() const { return options_.weights == Weights::int8; }
    size_t first_width() const { return options_.input_size + (joins_fixed() ? options_.fixed_size : 0); }
    void pass_on(const RecurrentState& from, const RecurrentStateOut& to, size_t rows) const;
    void lay_out_input(RecurrentTape& tape, Range part) const;
    ScanParameters scan_parameters(size_t lane) const;
    void prepare(bool token_input, bool backward, bool input_gradient) const;
    std::vector<ScanWeights> unpacked() const;  // one a lane, before its weights are packed
    void forget_packed() const;
    void renew_packed() const;  // in a child forked while another thread packed

    RecurrentOptions options_;
    const CellInfo* cell_;
    const Kernels* kernels_;
    struct LaneParameters {  // nullptr where a lane has none
        Parameter *weight_ih = nullptr, *weight_hh = nullptr, *bias_ih = nullptr, *bias_hh = nullptr;
    };
    std::vector<LaneParameters> lane_parameters_;
    struct Packed {
        ForkSafeMutex mutex;
        WeightsStamp stamp;
        std::vector<ScanWeights> lanes;
        std::atomic<bool> dense{false}, tokens{false};  // ready; read without the lock
        bool back = false, back_input = false;
    };
    std::unique_ptr<Packed> packed_;
};

}  // namespace rnnfast::core
