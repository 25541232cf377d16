// The recurrent layer: any cell, stacked, in one or both directions, over rows of different length. It owns the
// parameters and packs them; layers/stack runs what is packed.
#pragma once

#include <atomic>
#include <deque>
#include <memory>

#include "layers/optim.h"
#include "layers/stack.h"
#include "runtime/fork.h"
#include "runtime/weights_stamp.h"

namespace rnnfast::core {

struct RecurrentOptions {
    std::string cell = "rnn";
    size_t input_size = 0, hidden_size = 0, num_layers = 1;
    size_t fixed_size = 0;  // inputs that are the same at every step: the last columns of weight_ih_l0
    bool bias = true, bidirectional = false;
    float dropout = 0;               // between layers, in training
    float weight_drop = 0;           // of weight_hh, in training: one mask a sequence (Merity et al., arXiv:1708.02182)
    bool variational = false;        // the same dropout mask at every step
    bool single = false;             // parameters without "_l0" in their names: PyTorch's cells
    bool recompute = false;          // backward computes again what forward then does not save
    size_t window = 1;               // 2: gates read [x_t, x_{t-1}], so weight_ih has twice as many columns
    Weights weights = Weights::f32;  // of the products, forward and backward; parameters stay float32
};

// Throws std::invalid_argument for a window that a model of this cell cannot have. option: what the model calls it.
void check_window(const char* option, size_t window, const std::string& cell);

class Recurrent {
public:
    // Without a seed, the parameters have no values: pack() takes those of a file, or the caller sets them.
    Recurrent(RecurrentOptions options, std::optional<uint64_t> seed, const Kernels& kernels,
              const std::string& prefix = "");
    // For running only: packs the values of a file, for x or for token input, and keeps no others.
    void pack(const FileValues& values, bool token_input);

    const RecurrentOptions& options() const { return options_; }
    const CellInfo& cell() const { return *cell_; }
    const Kernels& kernels() const { return *kernels_; }
    size_t directions() const { return options_.bidirectional ? 2 : 1; }
    // The numbers a row of the step before that its state carries
    size_t carried_inputs() const { return options_.window > 1 && !options_.bidirectional ? options_.input_size : 0; }
    size_t scans() const { return options_.num_layers * directions(); }  // one for each layer and direction

    // The packed weights of a scan for float input, packed anew if they were written since; otherwise no lock is taken.
    // They must not be written while a step or a forward runs.
    const ScanWeights& packed(size_t scan) const { return stack().scans[scan]; }
    // The same with what backward needs.
    const ScanWeights& packed_backward(size_t scan) const {
        prepare(false, true, true);
        return packed(scan);
    }
    // All of them, ready to run on x or on tokens.
    Stack stack(bool token_input = false) const {
        prepare(token_input, false, false);
        return layers();
    }
    ScanGradients scan_gradients(size_t scan) const;  // where a scan adds its gradients

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
                 RecurrentTape& tape, bool save, const RowGroups& row_groups = {}) const;
    // dy: gradient of y, or nullptr; dend: of the last states. Adds to the parameters' gradients; dx [T, N, D] and
    // dstart are written where given, as is dfixed [N, fixed_size]. Uses the tape up.
    void backward(RecurrentTape& tape, const float* dy, const RecurrentState& dend, float* dx,
                  const RecurrentStateOut& dstart, float* dfixed = nullptr);

private:
    // int8 quantizes a row of weight_ih as a whole, so there the fixed inputs are copied into each step's input.
    bool joins_fixed() const { return options_.weights == Weights::int8; }
    // What a scan reads at every step, and the form of the cell that reads so much.
    size_t inputs_of(size_t scan) const;
    const CellInfo& cell_of(size_t scan) const;
    void add_scan(size_t scan, std::optional<uint64_t> seed, const std::string& prefix);
    ScanParameters scan_parameters(size_t scan) const;
    void check_input(const RecurrentInput& input, bool save) const;
    // With weight_drop, training packs masked weights into the tape, and the gradients go through the mask.
    ScanParameters dropped_parameters(const RecurrentTape& tape, size_t scan) const;
    void pack_dropped(bool token_input, RecurrentTape& tape) const;
    void prepare_dropped_backward(RecurrentTape& tape, bool input_gradient);
    void add_dropped_gradients(RecurrentTape& tape);
    void prepare(bool token_input, bool backward, bool input_gradient) const;
    Stack layers() const;                           // with the weights that are packed
    Stack layers(const RecurrentTape& tape) const;  // in training: with the tape's, if it has dropped ones
    std::vector<ScanWeights> unpacked() const;      // one a scan, before its weights are packed
    void forget_packed() const;
    void renew_packed() const;  // in a child forked while another thread packed

    RecurrentOptions options_;
    const CellInfo* cell_;
    const Kernels* kernels_;
    struct Names {  // a scan's parameters, nullptr where it has none
        Parameter *weight_ih, *weight_hh, *bias_ih, *bias_hh, *weight_c;
    };
    std::vector<Names> named_;
    struct PackedScans {
        ForkSafeMutex mutex;
        WeightsStamp stamp;
        std::vector<ScanWeights> scans;
        std::atomic<bool> dense{false}, tokens{false};  // ready; read without the lock
        bool back = false, back_input = false;
    };
    std::unique_ptr<PackedScans> packed_;
};

}  // namespace rnnfast::core
