#include "bindings/layer.h"
#include "bindings/parameters.h"
#include "bindings/state.h"
#include "runtime/named.h"

namespace rnnfast::bindings {

using namespace core;

namespace {

RecurrentInput input_of(const Layer& layer, const Array<float>& x, const Lengths& lengths) {
    if (x.ndim() != 3 || x.shape(0) < 1)
        throw std::invalid_argument("input has shape " + shape_text(x) + ", expected (T, N, " +
                                    std::to_string(layer.rnn.options().input_size) + ") with at least one step");
    const auto features = static_cast<size_t>(x.shape(2));
    if (features != layer.rnn.options().input_size)
        throw std::invalid_argument("input has " + std::to_string(features) + " features, expected " +
                                    std::to_string(layer.rnn.options().input_size) +
                                    " (input_size). Did you mean batch_first=True?");
    return {static_cast<size_t>(x.shape(0)), static_cast<size_t>(x.shape(1)), x.data(), nullptr,
            lengths_data(lengths, x.shape(1))};
}

// Returns (y, state, tape or None).
py::tuple forward(Layer& layer, const Array<float>& x, const py::sequence& state, const Lengths& lengths, bool save,
                  uint64_t dropout_key) {
    const RecurrentInput input = input_of(layer, x, lengths);
    const StateParts parts(layer.rnn, input.rows);
    const RecurrentState start = state_of(parts, state, "", "_0");
    Array<float> y({x.shape(0), x.shape(1), signed_size(layer.rnn.directions() * layer.rnn.options().hidden_size)});
    const NewState end(parts);
    float* y_data = y.mutable_data();
    auto tape = save ? layer.used_tape.take() : nullptr;
    {
        const py::gil_scoped_release release;
        if (tape) {
            layer.rnn.forward(input, start, y_data, end.at, *tape, true, dropout_key);
        } else {
            Pool<RecurrentTape>::Loan inference(layer.inference);
            layer.rnn.forward(input, start, y_data, end.at, *inference, false);
        }
    }
    return py::make_tuple(y, end.arrays, tape ? py::cast(std::move(tape)) : py::none());
}

// Returns (dx, gradient of the initial state).
py::tuple backward(Layer& layer, RecurrentTape& tape, const py::object& dy, const py::sequence& dstate,
                   bool input_gradient) {
    const auto steps = signed_size(tape.input.steps), rows = signed_size(tape.input.rows);
    const StateParts parts(layer.rnn, tape.input.rows);
    const float* dy_data =
        optional_data(dy, {steps, rows, signed_size(layer.rnn.directions() * layer.rnn.options().hidden_size)},
                      "gradient of the output");
    const RecurrentState dend = state_of(parts, dstate, "gradient of ", "_n");
    Array<float> dx(input_gradient ? std::vector<py::ssize_t>{steps, rows, signed_size(layer.rnn.options().input_size)}
                                   : std::vector<py::ssize_t>{0});
    float* dx_data = input_gradient ? dx.mutable_data() : nullptr;
    const NewState dstart(parts);
    {
        const py::gil_scoped_release release;
        const GradientLock lock(layer.gradients_mutex());
        layer.rnn.backward(tape, dy_data, dend, dx_data, dstart.at);
        layer.used_tape.put(std::move(tape));
    }
    return py::make_tuple(input_gradient ? py::object(dx) : py::none(), dstart.arrays);
}

}  // namespace

void register_recurrent(py::module_& m) {
    py::class_<RecurrentTape>(m, "Tape").def_property_readonly("saved_bytes", &RecurrentTape::saved_bytes);
    py::class_<Layer> layer(m, "Recurrent");
    layer
        .def(py::init([](const std::string& cell, size_t input_size, size_t hidden_size, size_t num_layers, bool bias,
                         bool bidirectional, float dropout, uint64_t seed, const std::string& weights, bool recompute,
                         bool single, bool variational, size_t window) {
                 RecurrentOptions o;
                 o.cell = cell;
                 o.input_size = input_size;
                 o.hidden_size = hidden_size;
                 o.num_layers = num_layers;
                 o.bias = bias;
                 o.bidirectional = bidirectional;
                 o.dropout = dropout;
                 o.variational = variational;
                 o.weights = named<Weights>("weights", weights);
                 o.recompute = recompute;
                 o.single = single;
                 o.window = window;
                 return without_gil([&] { return std::make_unique<Layer>(o, seed); });
             }),
             py::arg("cell"), py::arg("input_size"), py::arg("hidden_size"), py::arg("num_layers") = 1,
             py::arg("bias") = true, py::arg("bidirectional") = false, py::arg("dropout") = 0.0f, py::arg("seed") = 0,
             py::arg("weights") = "f32", py::arg("recompute") = false, py::arg("single") = false,
             py::arg("variational") = false, py::arg("window") = 1)
        .def("forward", &forward, py::arg("x"), py::arg("state"), py::arg("lengths"), py::arg("save"),
             py::arg("dropout_key"))
        .def("backward", &backward, py::arg("tape"), py::arg("dy"), py::arg("dstate"), py::arg("input_gradient"))
        .def_property_readonly("has_c", [](const Layer& l) { return l.rnn.cell().has_c; });
    add_parameters(layer);
}

}  // namespace rnnfast::bindings
