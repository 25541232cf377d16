// One composition for every model: layers with names and named inputs, described by data. A chain is the usual case;
// a small directed graph (residual sums, concatenations, several inputs and outputs) is the general one.
//
// The description is JSON:
//
//     {"inputs": [{"name": "tokens", "ids": 5000}],          ids from 0 to 4999: [T, N] int32
//      "layers": [{"name": "embedding", "type": "embedding", "embedding_dim": 64},
//                 {"name": "rnn", "type": "recurrent", "cell": "lstm", "hidden_size": 128, "num_layers": 2},
//                 {"name": "skip", "type": "linear", "out_features": 128, "inputs": ["embedding"]},
//                 {"name": "sum", "type": "add", "inputs": ["rnn", "skip"]},
//                 {"name": "last", "type": "pool", "function": "last"},
//                 {"name": "output", "type": "linear", "out_features": 10}],
//      "outputs": ["output"], "weights": "f32", "seed": 0}
//
// An input of numbers is {"name": "x", "size": 16}: [T, N, 16] float32. A layer without "inputs" reads the layer before
// it, the first one the network's first input; it may read only what stands before it. Without "outputs", the last
// layer is the output. Names must differ; a layer's parameters are `name.parameter`, with PyTorch's names of them.
// "weights" is the precision of products. Unknown keys are errors.
//
//     type            options (default)                                            reads -> gives
//     embedding       embedding_dim                                                ids -> embedding_dim
//     recurrent       cell, hidden_size, num_layers (1), bias (true),              ids (one-hot) or numbers
//                     bidirectional (false), dropout (0), variational (false),     -> hidden_size, twice that
//                     recompute (false), weight_drop (0), window (1)                  if bidirectional
//     linear          out_features, bias (true)                                    -> out_features
//     layer_norm      eps (1e-5), weight (true), bias (true),                      -> the same width
//                     centered (true; false, without a bias: RMSNorm)
//     batch_norm      eps (1e-5), momentum (0.1), affine (true)                    -> the same width
//     conv1d          out_channels, kernel_size, dilation (1), before (0),         -> out_channels; (T + before + after
//                     after (0), bias (true), stride (1), groups (1)                  - dilation * (kernel_size - 1)
//                                                                                     - 1) / stride + 1 steps
//     self_attention  num_heads (1), causal (false), bias (true)                   -> the same width
//     dropout         p (0.5), variational (false)                                 -> the same width
//     activation      function: "relu", "tanh", "sigmoid", ...                     -> the same width
//                     alpha, beta (PyTorch's), for functions that have them
//     softmax         log (false): its logarithm                                   -> the same width
//     pool            function: "last", "first", "mean", "max"                     -> the same width, one step
//     attention_pool  none                                                         -> the same width, one step
//     pool_windows    function: "max", "mean"; kernel_size, stride (1),            -> the same width; (T + before
//                     before (0), after (0), padding_counts (true)                    + after - kernel_size) / stride
//                                                                                     + 1 steps
//     flatten         steps                                                        -> steps times the width; T / steps
//                                                                                     steps
//     reflection_pad  before (0), after (0), less than T                           -> the same width; before + T +
//                                                                                     after steps
//     scale           factor                                                       -> the same width
//     magnitude       none                                                         -> half the width: sqrt(a^2 + b^2)
//                                                                                     of the halves a and b
//     time_distributed  steps, layers: a list of objects with type and options     -> what a chain of these layers
//     makes
//                                                                                     of each step, read as a sequence
//                                                                                     of so many steps, side by side
//     add, multiply   none; two inputs or more                                     -> the same width
//     concatenate     none; two inputs or more                                     -> the sum of the widths
//
// T steps, N rows. Rows may have lengths: what lies beyond them has no effect and is zero in every output, and a conv1d
// changes lengths as it changes T, as pool_windows and flatten do. conv1d and self_attention always compute in f32.
#pragma once

#include "files/options.h"
#include "models/network_groups.h"
#include "runtime/weights_stamp.h"

namespace rnnfast::core {

struct NetworkInput {
    std::string name;
    size_t size = 0, ids = 0;  // one of them: numbers a step, or how many ids there are

    template <class Self, class Visit>
    static void fields(Self& o, Visit&& visit) {
        visit(required("name"), o.name);
        visit(usual("size"), o.size, Size{0});
        visit(usual("ids"), o.ids, Size{0});
    }
};

struct LayerDescription {
    std::string name, type;
    std::vector<std::string> inputs;  // none: the layer before
    Json options;                     // an object
    // Parameters start from part_seed(seed, part), masks from random_key(key, part - 1). 0: the layer's position,
    // counted from 1. Only models whose results older versions fixed set it.
    size_t part = 0;
};

struct NetworkDescription {
    std::vector<NetworkInput> inputs;
    std::vector<LayerDescription> layers;
    std::vector<std::string> outputs;  // none: the last layer
    Weights weights = Weights::f32;
    uint64_t seed = 0;
};
// Throws std::invalid_argument.
NetworkDescription read_network(const Json& json);

// What one forward leaves for its backward, and the workspace of both. Reused, it allocates nothing new.
struct NetworkTape {
    std::vector<Signal> signals;  // the inputs, then what each layer gave
    std::vector<std::unique_ptr<LayerTape>> layers;
    std::vector<GroupedTape> grouped;           // instead, of layers that run on each group of rows alone
    std::vector<Buffer> values, gradients;      // of the signals
    std::vector<std::vector<int64_t>> lengths;  // of signals whose lengths are not their input's
    std::vector<std::vector<int32_t>> ids;      // of inputs with padding
    std::vector<Buffer> added;                  // gradients on their way into a sum
    Buffer scratch;
    uint64_t weights = 0;  // their stamp
    RowGroups row_groups;
    bool saved = false;
};

// Grows at the first call; calls of that size then allocate nothing.
struct NetworkWorkspace : StreamWorkspace {
    std::vector<Signal> signals;
    std::vector<Buffer> outputs;  // of the layers
    std::vector<const Signal*> arguments;

    struct Sizes : StreamWorkspace::Sizes {
        size_t signals = 0, arguments = 0;
        std::vector<size_t> outputs;
    };
    void reserve(const Sizes& sizes);
};

class Network {
public:
    // Without a seed, the parameters have no values: load() packs those of a file, and then the network only runs.
    Network(const NetworkDescription& description, std::optional<uint64_t> seed, const Kernels& kernels,
            const NetworkLimits& limits = {});
    // Packs the values of a file and keeps no others. The network is immutable then, so threads can share it.
    void load(const FileValues& values);
    // The tensors of a file with these parameters.
    std::vector<ExpectedTensor> expected_tensors() const;

    const Kernels& kernels() const { return *kernels_; }
    Weights weights() const { return weights_; }
    const std::vector<NetworkInput>& inputs() const { return inputs_; }
    std::string config() const;  // the description as JSON, with all defaults
    size_t outputs() const { return outputs_.size(); }
    const std::string& output_name(size_t i) const { return nodes_[outputs_[i] - inputs_.size()].name; }
    size_t output_width(size_t i) const { return kinds_[outputs_[i]].width; }
    // Of sequences of `steps` steps: how many the output has, and the length of a row of that length. 0: too few go in.
    size_t output_steps(size_t i, size_t steps) const;
    bool output_summarizes(size_t i) const;  // one step comes out of a sequence, however long
    // The recurrent layers, whose states a sequence starts from and ends with.
    const std::vector<size_t>& recurrent() const { return recurrent_; }  // positions among the layers
    const NetworkLayer& layer(size_t i) const { return *nodes_[i].layer; }
    size_t layers() const { return nodes_.size(); }
    const std::string& layer_name(size_t i) const { return nodes_[i].name; }
    size_t layer_named(const std::string& name) const;  // throws std::invalid_argument if there is none
    std::vector<size_t> with_state() const;             // positions of the layers that have a state in a stream
    bool trains() const { return trains_; }             // false: made from a file, for running only

    Parameters parameters() const { return parameters_; }
    void weights_changed();
    ForkSafeMutex& gradients_mutex() { return gradients_mutex_; }

    // Sequences of equal steps, rows and lengths, one for each input; with `train`, they must live until backward.
    // start, end: one for each recurrent layer, or nullptr: zeros, not wanted. The outputs are output(tape, i).
    // row_groups make the masks; others each step. Without `train`, on any number of threads. With groups of rows,
    // gradients are summed over each group alone and then in a binary tree.
    struct Sequence {
        const Signal* inputs;
        const RecurrentState* start = nullptr;
        const RecurrentStateOut* end = nullptr;
    };
    void forward(const Sequence& sequence, NetworkTape& tape, bool train, const RowGroups& row_groups) const;
    const Signal& output(const NetworkTape& tape, size_t i) const { return tape.signals[outputs_[i]]; }
    // The shape of what a layer gave; another layer may have overwritten its values.
    const Signal& layer_output(const NetworkTape& tape, size_t i) const { return tape.signals[inputs_.size() + i]; }
    // Throws std::invalid_argument unless the tape is that of a forward with `train` and these weights.
    void check_tape(const NetworkTape& tape) const;
    // dy: one for each output, used up; nullptr reads as zeros. dx: one for each input, written where given; nullptr:
    // none. dend, dstart: as start and end. dlayer: one for each layer, the gradient of its output, written where
    // given. Adds to the parameters' gradients. Uses the tape up.
    struct Gradients {
        float* const* dy;
        float* const* dx = nullptr;
        const RecurrentState* dend = nullptr;
        const RecurrentStateOut* dstart = nullptr;
        float* const* dlayer = nullptr;
        const std::vector<float>* weights = nullptr;  // of the groups of rows in their sum
    };
    void backward(NetworkTape& tape, const Gradients& gradients);
    // The gradients of all parameters but so many leading ones are complete; all are unfinished after a forward with
    // `train`, none after a backward. Any thread may ask.
    size_t unfinished() const { return unfinished_.load(std::memory_order_acquire); }
    void set_unfinished(size_t count) const { unfinished_.store(count, std::memory_order_release); }

    // Why the network cannot take groups of rows, in one sentence; empty if it can.
    std::string no_groups() const;
    // Why the network cannot run one step at a time, in one sentence; empty if it can.
    std::string no_stream() const;
    // The states of one stream, or of several that always step together: one for each layer that has one.
    std::vector<StreamState> initial_states(size_t rows) const;
    NetworkWorkspace::Sizes stream_sizes(size_t rows) const;
    // By inputs[0].steps steps; inputs of even rows. states: for each layer that has one, one of all rows or one a row.
    // joined: instead, the layers of one state (of all rows, or one a row) are those of all recurrent layers, in order,
    // which are of one cell and width; no other layer has a state. A stream's bits do not depend on the others. The
    // outputs are output(workspace, i).
    void run(const Signal* inputs, StreamState* const* states, NetworkWorkspace& workspace, size_t threads,
             bool joined = false) const;
    const Signal& output(const NetworkWorkspace& workspace, size_t i) const { return workspace.signals[outputs_[i]]; }

private:
    static constexpr size_t none = static_cast<size_t>(-1);
    struct Node {
        std::string name, type, options;
        std::vector<size_t> inputs;  // signals
        std::unique_ptr<NetworkLayer> layer;
        size_t part = 0, first_parameter = 0;
        bool in_place = false;    // y overwrites x
        size_t recurrent = none;  // its place among the states of a sequence
        bool has_state = false;   // in a stream
    };

    struct BackwardPass {
        std::vector<float*> gradient;  // of each signal, where it has one so far
        float* const* dx = nullptr;
        bool all_wanted = false;  // also gradients that no parameter needs
        float* dy = nullptr;      // of the layer at hand
    };

    size_t signal_named(const std::string& name) const;
    std::vector<bool> summaries() const;  // of each signal: it comes after a layer that summarizes
    void add(const LayerDescription& d, std::optional<uint64_t> seed, const NetworkLimits& limits);
    void name_parameters();
    void lay_out();
    void set_inputs(const Signal* given, NetworkTape& tape) const;
    void check_input_ids(size_t i, const Signal& s) const;
    void set_output(size_t i, NetworkTape& tape) const;
    float* gradient_of(size_t signal, const Node& node, NetworkTape& tape, BackwardPass& pass, Buffer& added) const;
    bool runs_in_groups(const Node& node, const RowGroups& groups) const;
    void layer_backward(size_t i, NetworkTape& tape, BackwardPass& pass, const Gradients& g);

    const Kernels* kernels_;
    Weights weights_;
    uint64_t seed_;
    std::vector<NetworkInput> inputs_;
    std::vector<Node> nodes_;
    std::vector<SignalKind> kinds_;
    std::vector<size_t> outputs_, recurrent_;
    size_t most_inputs_ = 1;
    std::vector<bool> learns_;  // signals whose gradient a parameter needs
    Parameters parameters_;
    bool trains_;
    WeightsStamp stamp_;
    ForkSafeMutex gradients_mutex_;
    mutable std::atomic<size_t> unfinished_{0};
};

}  // namespace rnnfast::core
