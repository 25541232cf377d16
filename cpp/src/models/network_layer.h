// A layer as a network sees it. A new layer is one class here that adapts it and one row of the table in
// its file: network_layers.cpp, network_time_layers.cpp, network_number_layers.cpp or network_inner_layers.cpp.
#pragma once

#include <optional>

#include "files/json.h"
#include "files/model_file.h"
#include "layers/stream.h"

namespace rnnfast::core {

// A sequence between layers: [T, N, width] numbers, or [T, N] ids. Zeros beyond a row's length.
struct Signal {
    size_t steps = 0, rows = 0, width = 0;
    const float* x = nullptr;
    const int32_t* ids = nullptr;      // instead of x: each from 0 to width - 1
    const int64_t* lengths = nullptr;  // [N] or nullptr: all T

    size_t places() const { return steps * rows; }
    size_t size() const { return places() * width; }
};

// What a network knows about an input of a layer before any sequence arrives.
struct SignalKind {
    size_t width = 0;
    bool ids = false;
};

// What a file justifies: recurrent scans, and numbers a step of all layers together.
struct NetworkLimits {
    size_t scans = static_cast<size_t>(-1), numbers = static_cast<size_t>(-1);
};

// Where a layer stands when it is made.
struct LayerPlace {
    std::vector<SignalKind> inputs;
    Weights weights = Weights::f32;
    std::optional<uint64_t> seed;  // without one, parameters have no values
    const Kernels& kernels;
    NetworkLimits limits;
};

// What a layer leaves in forward for its backward, and the workspace of both.
struct LayerTape {
    virtual ~LayerTape() = default;
};

struct LayerForward {
    const std::vector<const Signal*>& inputs;
    const Signal& output;  // its shape and lengths
    float* y = nullptr;    // [output.size()] out; may be the memory of the input if the layer is in_place()
    LayerTape* tape = nullptr;
    Buffer& scratch;
    RecurrentState start = {};
    RecurrentStateOut end = {};
    bool train = false;
    RowGroups row_groups = {};
};

struct LayerBackward {
    const std::vector<const Signal*>& inputs;
    const Signal& output;           // with the values that forward wrote
    float* dy = nullptr;            // nullptr: zeros. Used up
    const std::vector<float*>& dx;  // one an input, written; nullptr where it is not wanted
    LayerTape* tape = nullptr;
    Buffer& scratch;
    RecurrentState dend = {};
    RecurrentStateOut dstart = {};
    RowGroups row_groups = {};
    GradientProgress progress = {};
};

// Some steps of streams, from one state to the next.
struct LayerRun {
    const Signal* const* inputs;  // as many as the layer has, of even rows
    size_t count;
    const Signal& output;
    StreamState* const* states = nullptr;  // one of all rows, or one a row; nullptr if the layer has none
    float* y = nullptr;
    StreamWorkspace& workspace;
    size_t threads = all_threads;  // 1: no lock, no system call
    StreamPlace place = {};        // in the states, where they hold those of other recurrent layers too
};

class NetworkLayer {
public:
    explicit NetworkLayer(size_t width) : width_(width) {}
    virtual ~NetworkLayer() = default;
    size_t width() const { return width_; }  // of the output
    // Steps that come out of `steps`, and the length of a row of that length; 0: too few went in.
    virtual size_t output_steps(size_t steps) const { return steps; }

    virtual Parameters parameters() { return {}; }
    virtual void weights_changed() {}
    // For running only: packs the values of a file.
    virtual void load(const FileValues& values) { static_cast<void>(values); }
    // A file's tensor for one of the parameters, and how it is packed.
    virtual ExpectedTensor expected(const Parameter& p) const { return {p.name, p.shape, p.shape[0]}; }

    virtual std::unique_ptr<LayerTape> make_tape() const { return nullptr; }
    virtual void forward(const LayerForward& f) const = 0;
    // Adds to the parameters' gradients. The tape is used up. Not virtual: each adapter has its own `backward`, which
    // builds without training leave out; make_layer sets how to call it.
    using Backward = void (*)(NetworkLayer& layer, const LayerBackward& b);
    void set_backward(Backward backward) { backward_ = backward; }
    void backward(const LayerBackward& b) { backward_(*this, b); }
    // What a network may leave out when it lays out memory.
    virtual bool only_trains() const { return false; }  // otherwise the output is the input
    virtual bool in_place() const { return false; }     // y may overwrite x, and dx may overwrite dy
    virtual bool backward_reads_y() const { return false; }
    // Whether the layer itself sums the gradients of its parameters over groups of rows; other layers that have some
    // run backward on each group alone.
    virtual bool sums_groups() const { return false; }
    // Why the layer cannot take groups of rows, as the end of a sentence; empty if it can.
    virtual std::string no_groups() const { return {}; }

    // Why the layer cannot run one step at a time, as the end of a sentence; empty if it can.
    virtual std::string no_stream() const { return {}; }
    virtual bool summarizes() const { return false; }  // one step comes out of a sequence
    // The state of a stream, of fixed size; without layers if there is none.
    virtual StreamState initial_state(size_t rows) const {
        static_cast<void>(rows);
        return {};
    }
    virtual StreamWorkspace::Sizes stream_sizes(size_t rows) const {
        static_cast<void>(rows);
        return {};
    }
    virtual void run(const LayerRun& r) const = 0;
    // Whether it can run inside a step of a time_distributed layer: run_whole is then a run of whole sequences, which
    // uses nothing of the workspace but `left`.
    virtual bool runs_whole() const { return false; }
    virtual void run_whole(const LayerRun& r) const { run(r); }

    // The recurrent layer of an adapter, whose states a caller of the network sees; nullptr for others.
    virtual const Recurrent* recurrent() const { return nullptr; }

protected:
    size_t width_;

private:
    Backward backward_ = nullptr;
};

// A layer that maps every place of a sequence on its own, so that a step is a short sequence.
class PlacewiseLayer : public NetworkLayer {
public:
    using NetworkLayer::NetworkLayer;
    void forward(const LayerForward& f) const override {
        map(f.inputs.data(), f.inputs.size(), f.output.places(), f.y, f.scratch, all_threads);
    }
    void run(const LayerRun& r) const override {
        map(r.inputs, r.count, r.output.places(), r.y, r.workspace.left, r.threads);
    }
    bool runs_whole() const override { return true; }

protected:
    // y: [places, width]
    virtual void map(const Signal* const* inputs, size_t count, size_t places, float* y, Buffer& scratch,
                     size_t most_threads) const = 0;
};

// Makes a layer of this type from its options. Throws std::invalid_argument for a type that there is not, and for
// options or inputs that it cannot have. `written`: the options with their defaults, as a JSON object.
std::unique_ptr<NetworkLayer> make_layer(const std::string& type, const Json& options, const LayerPlace& place,
                                         std::string& written);

}  // namespace rnnfast::core
