// Networks of layers described by data, for models put together in Python.
#include <pybind11/stl.h>

#include "bindings/layer.h"
#include "bindings/model.h"
#include "bindings/parameters.h"
#include "bindings/state.h"
#include "models/network_file.h"
#include "runtime/finite.h"

namespace rnnfast::bindings {

namespace {

// A network with what its calls keep.
class BoundNetwork {
public:
    explicit BoundNetwork(std::unique_ptr<Network> network) : network_(std::move(network)) {}

    Network& operator*() { return *network_; }
    const Network& operator*() const { return *network_; }
    Network* operator->() { return network_.get(); }
    const Network* operator->() const { return network_.get(); }

    const Kernels& kernels() const { return network_->kernels(); }
    Parameters parameters() const { return network_->trains() ? network_->parameters() : Parameters{}; }
    void weights_changed() { network_->weights_changed(); }
    ForkSafeMutex& gradients_mutex() { return network_->gradients_mutex(); }

    UsedTape<NetworkTape> used_tape;
    Pool<NetworkTape> inference;

private:
    std::unique_ptr<Network> network_;
};

std::unique_ptr<BoundNetwork> network_of_config(const std::string& config) {
    const py::gil_scoped_release release;
    const NetworkDescription description = read_network(parse_json(config));
    return std::make_unique<BoundNetwork>(std::make_unique<Network>(description, description.seed, active()));
}

std::unique_ptr<BoundNetwork> network_of_file(const std::string& path, const std::optional<std::string>& weights) {
    const py::gil_scoped_release release;
    const NetworkFile file(SafetensorsFile::open(path));
    const Weights precision = weights ? named<Weights>("weights", *weights) : file.description.weights;
    return std::make_unique<BoundNetwork>(network_of(file, precision, active()));
}

// Arrays given for a network's inputs, and what the core reads of them.
struct Inputs {
    std::vector<py::object> arrays;
    std::vector<int64_t> lengths;
    std::vector<Signal> signals;
};

template <class T>
const T* data_of(const py::object& given, const std::vector<py::ssize_t>& wanted, const std::string& name,
                 Inputs& inputs) {
    const auto array = py::cast<Array<T>>(given);
    check_shape(array, wanted, name);
    inputs.arrays.push_back(array);
    return array.data();
}

// dimensions: those before the numbers of a step, (T, N) or (N,)
Inputs inputs_of(const Network& network, const py::sequence& given, size_t dimensions) {
    const auto& wanted = network.inputs();
    if (given.size() != wanted.size())
        throw std::invalid_argument("got " + std::to_string(given.size()) + " inputs, expected " +
                                    std::to_string(wanted.size()));
    Inputs inputs;
    for (size_t i = 0; i < wanted.size(); ++i) {
        const py::object array = given[i];
        const py::array any = py::cast<py::array>(array);
        const std::string name = "input '" + wanted[i].name + "'";
        const size_t axes = dimensions + (wanted[i].ids ? 0 : 1);
        if (static_cast<size_t>(any.ndim()) != axes)
            throw std::invalid_argument(
                name + " has shape " + shape_text(any) + ", expected " + (dimensions == 2 ? "(T, N" : "(N") +
                (wanted[i].ids ? (dimensions == 2 ? ")" : ",)") : ", " + std::to_string(wanted[i].size) + ")"));
        std::vector<py::ssize_t> shape(any.shape(), any.shape() + dimensions);
        Signal s;
        s.steps = dimensions == 2 ? static_cast<size_t>(shape[0]) : 1;
        s.rows = static_cast<size_t>(shape[dimensions - 1]);
        if (wanted[i].ids) {
            s.ids = data_of<int32_t>(array, shape, name, inputs);
        } else {
            shape.push_back(signed_size(wanted[i].size));
            s.x = data_of<float>(array, shape, name, inputs);
        }
        inputs.signals.push_back(s);
    }
    return inputs;
}

std::vector<py::ssize_t> shape_of(const Signal& s) {
    return {signed_size(s.steps), signed_size(s.rows), signed_size(s.width)};
}

const Recurrent& recurrent_at(const Network& network, size_t i) {
    return *network.layer(network.recurrent()[i]).recurrent();
}

// The states of all recurrent layers, and the arrays that hold them.
struct GivenStates {
    std::vector<py::object> arrays;
    std::vector<RecurrentState> at;
};
struct NewStates {
    py::list arrays;
    std::vector<RecurrentStateOut> at;
};

// given: None, or for each recurrent layer None or the parts of its state
GivenStates states_of(const Network& network, const py::object& given, size_t rows) {
    GivenStates states;
    const size_t count = network.recurrent().size();
    if (given.is_none()) return states;
    const auto list = py::cast<py::sequence>(given);
    if (list.size() != count)
        throw std::invalid_argument("got the states of " + std::to_string(list.size()) + " layers, expected " +
                                    std::to_string(count) + ", one for each recurrent layer");
    for (size_t i = 0; i < count; ++i) {
        const py::object one = list[i];
        states.at.emplace_back();
        if (one.is_none()) continue;
        states.at.back() = state_of(StateParts(recurrent_at(network, i), rows), py::cast<py::sequence>(one), "state ",
                                    " of '" + network.layer_name(network.recurrent()[i]) + "'");
        states.arrays.push_back(one);
    }
    return states;
}

NewStates new_states(const Network& network, size_t rows) {
    NewStates states;
    for (size_t i = 0; i < network.recurrent().size(); ++i) {
        const NewState one(StateParts(recurrent_at(network, i), rows));
        states.arrays.append(one.arrays);
        states.at.push_back(one.at);
    }
    return states;
}

struct BoundTape {
    std::unique_ptr<NetworkTape> tape;
    Inputs inputs;
};

// Copies of a network's outputs and of their lengths, None where all rows have all steps.
std::pair<py::list, py::list> outputs_of(const Network& network, const NetworkTape& tape) {
    py::list values, lengths;
    for (size_t i = 0; i < network.outputs(); ++i) {
        const Signal& out = network.output(tape, i);
        Array<float> y(shape_of(out));
        std::copy_n(out.x, out.size(), y.mutable_data());
        values.append(y);
        if (out.lengths)
            lengths.append(Array<int64_t>(signed_size(out.rows), out.lengths));
        else
            lengths.append(py::none());
    }
    return {values, lengths};
}

py::tuple forward(BoundNetwork& network, const py::sequence& given, const Lengths& lengths, const py::object& state,
                  bool train, const Keys& dropout_keys) {
    const RowGroups groups = row_groups_of(dropout_keys);
    Inputs inputs = inputs_of(*network, given, 2);
    const size_t rows = inputs.signals[0].rows;
    if (lengths_data(lengths, signed_size(rows))) inputs.lengths = *lengths;
    for (Signal& s : inputs.signals) s.lengths = lengths ? inputs.lengths.data() : nullptr;
    const GivenStates start = states_of(*network, state, rows);
    const NewStates end = new_states(*network, rows);
    const Network::Sequence sequence{inputs.signals.data(), start.at.empty() ? nullptr : start.at.data(),
                                     end.at.data()};
    if (train) {
        auto tape = network.used_tape.take();
        {
            const py::gil_scoped_release release;
            network->forward(sequence, *tape, true, groups);
        }
        const auto [values, ends] = outputs_of(*network, *tape);
        auto bound = std::make_unique<BoundTape>(BoundTape{std::move(tape), std::move(inputs)});
        return py::make_tuple(values, ends, end.arrays, py::cast(std::move(bound)));
    }
    Pool<NetworkTape>::Loan tape(network.inference);
    {
        const py::gil_scoped_release release;
        network->forward(sequence, *tape, false, {});
    }
    const auto [values, ends] = outputs_of(*network, *tape);
    return py::make_tuple(values, ends, end.arrays, py::none());
}

// Copies of the outputs' gradients, because backward uses them up.
std::vector<Buffer> output_gradients(const Network& network, const NetworkTape& tape, const py::sequence& given) {
    if (given.size() != network.outputs())
        throw std::invalid_argument("got gradients of " + std::to_string(given.size()) + " outputs, expected " +
                                    std::to_string(network.outputs()));
    std::vector<Buffer> all(network.outputs());
    for (size_t i = 0; i < all.size(); ++i) {
        const Signal& out = network.output(tape, i);
        const py::object one = given[i];
        const float* dy = optional_data(one, shape_of(out), "gradient of output '" + network.output_name(i) + "'");
        if (!dy) continue;
        all[i] = Buffer(std::max<size_t>(1, out.size()), Buffer::Uninitialised{});
        std::copy_n(dy, out.size(), all[i].data());
    }
    return all;
}

// Returns (gradient of each input or None, gradients of the parts of the start states, gradients of the named layers).
py::tuple backward(BoundNetwork& network, BoundTape& tape, const py::sequence& doutputs, const py::object& dstate,
                   bool input_gradients, const std::vector<std::string>& layers, const std::vector<float>& weights) {
    if (!tape.tape)
        throw std::invalid_argument("backward: nothing was saved, or it was used already; run forward again");
    std::vector<Buffer> dy = output_gradients(*network, *tape.tape, doutputs);
    const size_t rows = tape.inputs.signals[0].rows;
    const GivenStates dend = states_of(*network, dstate, rows);
    const NewStates dstart = new_states(*network, rows);
    std::vector<float*> dy_data, dx_data;
    for (Buffer& buffer : dy) dy_data.push_back(buffer.data());
    py::list dx;
    for (size_t i = 0; i < network->inputs().size(); ++i) {
        dx_data.push_back(nullptr);
        if (!input_gradients || network->inputs()[i].ids) {
            dx.append(py::none());
            continue;
        }
        Signal shape = tape.inputs.signals[i];
        shape.width = network->inputs()[i].size;
        Array<float> gradient(shape_of(shape));
        dx_data.back() = gradient.mutable_data();
        dx.append(gradient);
    }
    py::list dlayers;
    std::vector<float*> dlayer_data(network->layers(), nullptr);
    for (const std::string& name : layers) {
        const size_t at = network->layer_named(name);
        if (dlayer_data[at]) throw std::invalid_argument("the gradient of layer '" + name + "' is wanted twice");
        Array<float> gradient(shape_of(network->layer_output(*tape.tape, at)));
        dlayer_data[at] = gradient.mutable_data();
        dlayers.append(gradient);
    }
    {
        const py::gil_scoped_release release;
        const GradientLock lock(network.gradients_mutex());
        network->backward(*tape.tape, {dy_data.data(), dx_data.data(), dend.at.empty() ? nullptr : dend.at.data(),
                                       dstart.at.data(), layers.empty() ? nullptr : dlayer_data.data(), &weights});
        network.used_tape.put(std::move(*tape.tape));
        tape.tape.reset();
    }
    return py::make_tuple(dx, dstart.arrays, dlayers);
}

// A network one step at a time.
class NetworkStream {
public:
    NetworkStream(const BoundNetwork& network, size_t rows) : network_(*network), rows_(rows) {
        if (const std::string reason = network_.no_stream(); !reason.empty()) throw std::invalid_argument(reason);
        if (rows == 0) throw std::invalid_argument("rows is 0: expected at least 1");
        const py::gil_scoped_release release;
        states_ = network_.initial_states(rows);
        for (StreamState& state : states_) at_.push_back(&state);
        workspace_.reserve(network_.stream_sizes(rows));
        for (const ExpectedTensor& tensor : network_.expected_tensors())
            if (tensor.shape.size() > 1) work_ += 2.0 * static_cast<double>(rows * tensor.shape[0] * tensor.shape[1]);
    }

    py::list step(const py::sequence& given) {
        const Inputs inputs = inputs_of(network_, given, 1);
        for (size_t i = 0; i < inputs.signals.size(); ++i) check_input(i, inputs.signals[i]);
        const SoleUse busy = use();
        if (work_ < worth_releasing) {
            network_.run(inputs.signals.data(), at_.data(), workspace_, most_threads(rows_));
        } else {
            const py::gil_scoped_release release;
            network_.run(inputs.signals.data(), at_.data(), workspace_, most_threads(rows_));
        }
        py::list outputs;
        for (size_t i = 0; i < network_.outputs(); ++i) {
            const Signal& out = network_.output(workspace_, i);
            Array<float> y({signed_size(out.rows), signed_size(out.width)});
            std::copy_n(out.x, out.size(), y.mutable_data());
            outputs.append(y);
        }
        return outputs;
    }

    // Of every layer that has one, the parts of its state: h, c of a cell that has it, x of a layer that carries it.
    py::dict state() const {
        const SoleUse busy = use();
        py::dict all;
        const std::vector<size_t> layers = network_.with_state();
        for (size_t i = 0; i < layers.size(); ++i) {
            const NewState now(StateParts{states_[i]});
            states_[i].get(now.at.h, now.at.c, now.at.x);
            all[py::str(network_.layer_name(layers[i]))] = now.arrays;
        }
        return all;
    }

    void set_state(const py::object& given) {
        if (given.is_none()) return reset();
        const auto all = py::cast<py::dict>(given);
        const std::vector<size_t> layers = network_.with_state();
        std::vector<py::object> kept;
        std::vector<RecurrentState> values;
        for (size_t i = 0; i < layers.size(); ++i) {
            const std::string& name = network_.layer_name(layers[i]);
            if (!all.contains(name.c_str()))
                throw std::invalid_argument("the state of layer '" + name + "' is missing");
            kept.push_back(all[name.c_str()]);
            values.push_back(checked(py::cast<py::sequence>(kept.back()), states_[i], name));
        }
        const SoleUse busy = use(true);
        for (size_t i = 0; i < layers.size(); ++i) states_[i].set(values[i].h, values[i].c, values[i].x);
    }

    void reset() {
        const SoleUse busy = use(true);
        for (StreamState& state : states_) state.set(nullptr, nullptr);
    }

    size_t rows() const { return rows_; }

private:
    // Below this a step takes less than 10 us, and getting the GIL back may take longer than the step.
    static constexpr double worth_releasing = 1e6;

    SoleUse use(bool writes_all = false) const {
        return {busy_, "this stream", "reset() it, or set its state", writes_all};
    }
    // The values of a given state; a part that is None, or not there, is zeros.
    static RecurrentState checked(const py::sequence& given, const StreamState& s, const std::string& layer) {
        const StateParts parts(s);
        for (size_t j = parts.count; j < given.size(); ++j)
            if (!given[j].is_none())
                throw std::invalid_argument("the state of layer '" + layer + "' has a " +
                                            "hcx"[std::min<size_t>(j, 2)] + ", but the layer has only h" +
                                            (parts.count > 1 ? " and c" : "") + ": give None for what it has not");
        const RecurrentState values = state_of(parts, given, "state ", " of '" + layer + "'");
        for (size_t j = 0; j < parts.count; ++j) {
            const float* data = values.*parts.parts[j]->in;
            if (data && first_not_finite(data, parts.size(j)) != parts.size(j))
                throw std::invalid_argument(std::string("state ") + parts.parts[j]->name + " of '" + layer +
                                            "' has NaN or infinity");
        }
        return values;
    }
    // A NaN would stay in the state and reach the output of every later step.
    void check_input(size_t i, const Signal& s) const {
        const NetworkInput& input = network_.inputs()[i];
        if (s.rows != rows_)
            throw std::invalid_argument("input '" + input.name + "' has " + std::to_string(s.rows) +
                                        " rows, expected " + std::to_string(rows_) + ", those of the stream");
        const size_t size = s.rows * input.size;
        if (s.x && first_not_finite(s.x, size) != size)
            throw std::invalid_argument("input '" + input.name + "' has NaN or infinity: fill in missing values first");
    }

    const Network& network_;
    size_t rows_;
    std::vector<StreamState> states_;
    std::vector<StreamState*> at_;
    NetworkWorkspace workspace_;
    double work_ = 0;
    mutable ForkSafeMutex busy_;
};

py::list inputs_described(const BoundNetwork& n) {
    py::list all;
    for (const NetworkInput& i : n->inputs()) all.append(py::make_tuple(i.name, i.size, i.ids));
    return all;
}

py::list outputs_described(const BoundNetwork& n) {
    py::list all;
    for (size_t i = 0; i < n->outputs(); ++i) all.append(py::make_tuple(n->output_name(i), n->output_width(i)));
    return all;
}

py::list states_described(const BoundNetwork& n) {
    py::list all;
    for (size_t i = 0; i < n->recurrent().size(); ++i) {
        const StateParts parts(recurrent_at(*n, i), 1);
        py::list names;
        for (size_t j = 0; j < parts.count; ++j) names.append(parts.parts[j]->name);
        all.append(py::make_tuple(n->layer_name(n->recurrent()[i]), names));
    }
    return all;
}

}  // namespace

void register_network(py::module_& m) {
    py::class_<BoundTape>(m, "NetworkTape", "What a forward with ``train`` left for its backward.");
    py::class_<BoundNetwork> network(
        m, "Network",
        "Layers with names and named inputs, described by JSON (cpp/src/models/network.h). ``config`` gives the "
        "description back with all defaults. Parameters are called ``layer.parameter``.");
    network.def(py::init(&network_of_config), py::arg("config"))
        .def_static("from_file", &network_of_file, py::arg("path"), py::arg("weights") = py::none(),
                    "A network that only runs, from a file of the kind ``network``; it has no parameters.")
        .def_property_readonly("config", [](const BoundNetwork& n) { return n->config(); })
        .def_property_readonly("inputs", &inputs_described,
                               "(name, numbers a step or 0, number of ids or 0) of each input.")
        .def_property_readonly("outputs", &outputs_described, "(name, width) of each output.")
        .def_property_readonly("states", &states_described,
                               "(name, parts of its state: h, c of a cell that has it, x of a layer that carries it) "
                               "of each recurrent layer.")
        .def("forward", &forward, py::arg("inputs"), py::arg("lengths"), py::arg("state"), py::arg("train"),
             py::arg("dropout_keys"),
             "inputs: a list, (T, N) int32 or (T, N, size) float32 each. state: None, or a list with (h,), (h, c) or "
             "(h, c, x), or None for each recurrent layer. With ``train``, dropout acts and the tape serves one "
             "backward; the inputs "
             "must not change until then. Returns (outputs, lengths, state, tape): outputs (T', N, width) each, their "
             "lengths or None each, the last states, and None without ``train``. dropout_keys: one, or (one for each "
             "of as many groups of equal numbers of rows, over which backward sums gradients alone; their weights, "
             "which "
             "backward may give instead; whether it keeps these sums apart, else it adds them in a tree).")
        .def("backward", &backward, py::arg("tape"), py::arg("doutputs"), py::arg("dstate"), py::arg("input_gradients"),
             py::arg("layers") = std::vector<std::string>(), py::arg("weights") = std::vector<float>(),
             "doutputs: a gradient or None for each output. dstate: as ``state`` of forward, gradients of the last "
             "states. Adds to the parameters' gradients. Returns (gradient or None of each input, those of the "
             "first states, gradients of the outputs of ``layers``). weights: of the groups of rows in the tree, or "
             "none.")
        .def_property_readonly(
            "no_groups", [](const BoundNetwork& n) { return n->no_groups(); },
            "Why the network cannot take groups of rows, in one sentence; empty if it can.")
        .def_property_readonly(
            "no_stream", [](const BoundNetwork& n) { return n->no_stream(); },
            "Why the network cannot run one step at a time, in one sentence; empty if it can.")
        .def_property_readonly(
            "unfinished", [](const BoundNetwork& n) { return n->unfinished(); },
            "All parameters but so many leading ones have complete gradients.")
        .def_property_readonly("weights", [](const BoundNetwork& n) { return name_of(n->weights()); });
    add_parameters(network);

    py::class_<NetworkStream>(m, "NetworkStream", "A network one step at a time, with a state of fixed size.")
        .def(py::init<const BoundNetwork&, size_t>(), py::arg("network"), py::arg("rows"), py::keep_alive<1, 2>())
        .def("__call__", &NetworkStream::step, py::arg("inputs"),
             "inputs: a list, (rows,) int32 or (rows, size) float32 each; returns a list of outputs (rows, width).")
        .def("reset", &NetworkStream::reset, "Sets the state to zeros.")
        .def_property(
            "state", &NetworkStream::state, &NetworkStream::set_state,
            "A copy of the state: its parts, (h,), (h, c) or (h, c, x), by the layer's name. None sets zeros.")
        .def_property_readonly("rows", &NetworkStream::rows);
}

}  // namespace rnnfast::bindings
