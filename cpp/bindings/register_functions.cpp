// Layers as functions of memory that belongs to another framework: arrays are addresses, which Python has checked.
#include <array>

#include "bindings/arrays.h"
#include "layers/linear_cross_entropy.h"
#include "layers/recurrent_function.h"
#include "runtime/dispatch.h"
#include "runtime/named.h"
#include "runtime/parallel.h"
#include "runtime/random.h"

namespace rnnfast::bindings {

using namespace core;

namespace {

using Address = uintptr_t;  // 0: none

float* at(Address address) { return reinterpret_cast<float*>(address); }

// Weights that stay packed, and where they came from.
using PackedWeights = std::shared_ptr<const std::vector<ScanWeights>>;
struct FrozenWeights {
    PackedWeights scans;
};

std::unique_ptr<RecurrentFunction> make_function(const std::string& cell, const std::array<size_t, 3>& sizes, bool bias,
                                                 bool bidirectional, const std::string& weights) {
    RecurrentOptions o;
    o.cell = cell;
    o.input_size = sizes[0];
    o.hidden_size = sizes[1];
    o.num_layers = sizes[2];
    o.bias = bias;
    o.bidirectional = bidirectional;
    o.weights = named<Weights>("weights", weights);
    return std::make_unique<RecurrentFunction>(o, active());
}

// Two or four addresses for each scan, in PyTorch's order.
template <class Scan>
std::vector<Scan> scans_of(const RecurrentFunction& f, const std::vector<Address>& addresses) {
    const size_t each = f.options().bias ? 4 : 2;
    if (addresses.size() != each * f.scans())
        throw std::invalid_argument("got " + std::to_string(addresses.size()) + " parameters, expected " +
                                    std::to_string(each * f.scans()));
    std::vector<Scan> scans;
    for (size_t i = 0; i < addresses.size(); i += each)
        scans.push_back({at(addresses[i]), at(addresses[i + 1]), at(each == 4 ? addresses[i + 2] : 0),
                         at(each == 4 ? addresses[i + 3] : 0)});
    return scans;
}

// steps, rows, address of batch_sizes, threads
using Shape = std::array<Address, 4>;

// arrays: x, h0, c0, y, saved
RecurrentCall call_of(const RecurrentFunction& f, const Shape& shape, const Address* arrays,
                      const std::vector<Address>& weights, const std::pair<float, uint64_t>& dropout) {
    RecurrentCall c;
    c.input.steps = shape[0];
    c.input.rows = shape[1];
    c.input.batch_sizes = reinterpret_cast<const int64_t*>(shape[2]);
    c.input.x = at(arrays[0]);
    c.start = {at(arrays[1]), at(arrays[2])};
    c.y = at(arrays[3]);
    c.saved = at(arrays[4]);
    if (!weights.empty()) c.parameters = scans_of<ScanParameters>(f, weights);
    c.dropout = dropout.first;
    c.dropout_key = dropout.second;
    return c;
}

// arrays: x, h0, c0, y, saved, h_n, c_n; dropout: probability and key
void function_forward(const RecurrentFunction& f, const Shape& shape, const std::array<Address, 7>& arrays,
                      const std::vector<Address>& weights, const std::pair<float, uint64_t>& dropout) {
    const RecurrentCall call = call_of(f, shape, arrays.data(), weights, dropout);
    const py::gil_scoped_release release;
    const ThreadsForCall threads(static_cast<int>(shape[3]));
    f.forward(call, {at(arrays[5]), at(arrays[6])});
}

void function_forward_frozen(const RecurrentFunction& f, const Shape& shape, const std::array<Address, 7>& arrays,
                             const FrozenWeights& weights) {
    const RecurrentCall call = call_of(f, shape, arrays.data(), {}, {0.0f, 0});
    const PackedWeights scans = weights.scans;
    const py::gil_scoped_release release;
    const ThreadsForCall threads(static_cast<int>(shape[3]));
    f.forward(call, *scans, {at(arrays[5]), at(arrays[6])});
}

// arrays: x, h0, c0, y, saved, dy, dh_n, dc_n, dx, dh0, dc0; gradients as weights
void function_backward(const RecurrentFunction& f, const Shape& shape, const std::array<Address, 11>& arrays,
                       const std::vector<Address>& weights, const std::vector<Address>& gradients,
                       const std::pair<float, uint64_t>& dropout, bool use_up) {
    const RecurrentCall call = call_of(f, shape, arrays.data(), weights, dropout);
    RecurrentCallGradients g;
    g.arrays.dy = at(arrays[5]);
    g.arrays.dend = {at(arrays[6]), at(arrays[7])};
    g.arrays.dx = at(arrays[8]);
    g.arrays.dstart = {at(arrays[9]), at(arrays[10])};
    g.parameters = scans_of<ScanGradients>(f, gradients);
    for (ScanGradients& scan : g.parameters) scan.overwrite = true;
    g.use_up = use_up;
    const py::gil_scoped_release release;
    const ThreadsForCall threads(static_cast<int>(shape[3]));
    f.backward(call, g);
}

// sizes: rows, inputs, classes, threads; arrays: x, weight, bias, targets (int64), dx, dweight, dbias
double cross_entropy(const std::array<Address, 4>& sizes, const std::array<Address, 7>& arrays, int64_t ignored,
                     bool mean) {
    LinearCrossEntropy l;
    l.rows = sizes[0];
    l.inputs = sizes[1];
    l.classes = sizes[2];
    l.x = at(arrays[0]);
    l.weight = at(arrays[1]);
    l.bias = at(arrays[2]);
    l.targets = reinterpret_cast<const int64_t*>(arrays[3]);
    l.ignored = ignored;
    l.mean = mean;
    l.dx = at(arrays[4]);
    l.dweight = at(arrays[5]);
    l.dbias = at(arrays[6]);
    const py::gil_scoped_release release;
    const ThreadsForCall threads(static_cast<int>(sizes[3]));
    return linear_cross_entropy(active(), l);
}

// out: [size] what dropout multiplies by; stream: the key and the layer before it
void dropout_mask(Address out, size_t size, float p, const std::pair<uint64_t, uint64_t>& stream) {
    const py::gil_scoped_release release;
    std::fill_n(at(out), size, 1.0f);
    dropout(at(out), at(out), size, p, random_key(stream.first, stream.second));
}

}  // namespace

void register_functions(py::module_& m) {
    py::class_<FrozenWeights>(m, "FrozenWeights");
    py::class_<RecurrentFunction>(m, "RecurrentFunction")
        .def(py::init(&make_function), py::arg("cell"), py::arg("sizes"), py::arg("bias"), py::arg("bidirectional"),
             py::arg("weights"))
        .def("saved_floats", &RecurrentFunction::saved_floats, py::arg("total"))
        .def(
            "freeze",
            [](const RecurrentFunction& f, const std::vector<Address>& weights) {
                const auto parameters = scans_of<ScanParameters>(f, weights);
                return without_gil([&] { return FrozenWeights{f.packed(parameters)}; });
            },
            py::arg("weights"))
        .def("forward", &function_forward, py::arg("shape"), py::arg("arrays"), py::arg("weights"), py::arg("dropout"))
        .def("forward_frozen", &function_forward_frozen, py::arg("shape"), py::arg("arrays"), py::arg("weights"))
        .def("backward", &function_backward, py::arg("shape"), py::arg("arrays"), py::arg("weights"),
             py::arg("gradients"), py::arg("dropout"), py::arg("use_up"));
    m.def("dropout_mask", &dropout_mask, py::arg("out"), py::arg("size"), py::arg("p"), py::arg("stream"));
    m.def("linear_cross_entropy", &cross_entropy, py::arg("sizes"), py::arg("arrays"), py::arg("ignored"),
          py::arg("mean"));
}

}  // namespace rnnfast::bindings
