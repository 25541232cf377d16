// Layers as functions of memory that belongs to another framework: arrays are addresses, which Python has checked.
#include <array>

#include "bindings/arrays.h"
#include "layers/attention_function.h"
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

struct FrozenAttention {
    std::shared_ptr<const AttentionForward> weights;
};

// steps, rows, whether rows are the first dimension, address of the keys' counts, threads
using AttentionShape = std::array<Address, 5>;

// in_proj_weight, in_proj_bias, out_proj.weight, out_proj.bias; or the two weights alone
template <class Parameters>
Parameters attention_parameters(const AttentionFunction& f, const std::vector<Address>& weights) {
    const size_t expected = f.options().bias ? 4 : 2;
    if (weights.size() != expected)
        throw std::invalid_argument("got " + std::to_string(weights.size()) + " parameters, expected " +
                                    std::to_string(expected));
    if (expected == 2) return {at(weights[0]), nullptr, at(weights[1]), nullptr};
    return {at(weights[0]), at(weights[1]), at(weights[2]), at(weights[3])};
}

AttentionCall attention_call(const AttentionFunction& f, const AttentionShape& shape, const Address* arrays,
                             const std::vector<Address>& weights) {
    AttentionCall c;
    if (!weights.empty()) c.parameters = attention_parameters<AttentionParameters>(f, weights);
    const size_t D = f.options().embed_dim;
    const Layout layout =
        shape[2] ? Layout::batch_first(shape[0], shape[1], D) : Layout::time_first(shape[0], shape[1], D);
    c.x = {at(arrays[0]), layout};
    c.y = at(arrays[1]);
    c.saved = at(arrays[2]);
    c.keys = reinterpret_cast<const int64_t*>(shape[3]);
    return c;
}

// arrays: x, y, saved
void attention_forward(const AttentionFunction& f, const AttentionShape& shape, const std::array<Address, 3>& arrays,
                       const std::vector<Address>& weights, const FrozenAttention* frozen) {
    const AttentionCall call = attention_call(f, shape, arrays.data(), weights);
    const auto packed = frozen ? frozen->weights : nullptr;
    const py::gil_scoped_release release;
    const ThreadsForCall threads(static_cast<int>(shape[4]));
    if (packed)
        f.forward(call, *packed);
    else
        f.forward(call);
}

// arrays: x, saved, dy, dx; gradients, which are added to, as weights
void attention_backward(const AttentionFunction& f, const AttentionShape& shape, const std::array<Address, 4>& arrays,
                        const std::vector<Address>& weights, const std::vector<Address>& gradients) {
    const std::array<Address, 3> forward{arrays[0], 0, arrays[1]};
    const AttentionCall call = attention_call(f, shape, forward.data(), weights);
    const auto g = attention_parameters<AttentionGradients>(f, gradients);
    const py::gil_scoped_release release;
    const ThreadsForCall threads(static_cast<int>(shape[4]));
    f.backward(call, at(arrays[2]), g, at(arrays[3]));
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

void register_attention_function(py::module_& m) {
    py::class_<FrozenAttention>(m, "FrozenAttention");
    py::class_<AttentionFunction>(m, "AttentionFunction")
        .def(py::init([](size_t embed_dim, size_t num_heads, bool causal, bool bias) {
                 return std::make_unique<AttentionFunction>(AttentionOptions{embed_dim, num_heads, causal, bias},
                                                            active());
             }),
             py::arg("embed_dim"), py::arg("num_heads"), py::arg("causal"), py::arg("bias"))
        .def("saved_floats", &AttentionFunction::saved_floats, py::arg("steps"), py::arg("rows"))
        .def(
            "freeze",
            [](const AttentionFunction& f, const std::vector<Address>& weights) {
                const auto parameters = attention_parameters<AttentionParameters>(f, weights);
                return without_gil([&] { return FrozenAttention{f.packed(parameters)}; });
            },
            py::arg("weights"))
        .def("forward", &attention_forward, py::arg("shape"), py::arg("arrays"), py::arg("weights"),
             py::arg("frozen") = nullptr)
        .def("backward", &attention_backward, py::arg("shape"), py::arg("arrays"), py::arg("weights"),
             py::arg("gradients"));
}

}  // namespace

void register_functions(py::module_& m) {
    register_attention_function(m);
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
