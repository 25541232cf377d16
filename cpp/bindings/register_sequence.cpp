// Conv1d and SelfAttention: layers over whole sequences, in either layout.
#include "bindings/parameters.h"
#include "layers/conv1d.h"
#include "layers/self_attention.h"
#include "runtime/dispatch.h"

namespace rnnfast::bindings {

using namespace core;

namespace {

Layout layout_of(const Array<float>& x, size_t channels, bool batch_first, const char* name) {
    const char* wanted = batch_first ? "(N, T, " : "(T, N, ";
    if (x.ndim() != 3)
        throw std::invalid_argument("input has shape " + shape_text(x) + ", expected " + wanted +
                                    std::to_string(channels) + ")");
    if (static_cast<size_t>(x.shape(2)) != channels)
        throw std::invalid_argument("input has " + std::to_string(x.shape(2)) + " channels, expected " +
                                    std::to_string(channels) + " (" + name +
                                    "), the last dimension. torch's (N, C, L) needs its last two axes swapped.");
    const auto a = static_cast<size_t>(x.shape(0)), b = static_cast<size_t>(x.shape(1));
    return batch_first ? Layout::batch_first(b, a, channels) : Layout::time_first(a, b, channels);
}

std::vector<py::ssize_t> shape_of(const Layout& l, bool batch_first) {
    const auto T = signed_size(l.steps), N = signed_size(l.rows), C = signed_size(l.channels);
    return batch_first ? std::vector<py::ssize_t>{N, T, C} : std::vector<py::ssize_t>{T, N, C};
}

Layout with(const Layout& l, size_t steps, size_t channels, bool batch_first) {
    return batch_first ? Layout::batch_first(steps, l.rows, channels) : Layout::time_first(steps, l.rows, channels);
}

struct ConvLayer : Trainable<Conv1d> {
    ConvLayer(const Conv1dOptions& options, bool layout, uint64_t seed)
        : Trainable(options, seed, active()), batch_first(layout) {}
    bool batch_first;
};

Array<float> conv_forward(ConvLayer& l, const Array<float>& x) {
    const Layout in = layout_of(x, l.options().in_channels, l.batch_first, "in_channels");
    const Layout out = with(in, l.output_steps(in.steps), l.options().out_channels, l.batch_first);
    Array<float> y(shape_of(out, l.batch_first));
    float* to = y.mutable_data();
    const py::gil_scoped_release release;
    l.forward({x.data(), in}, {to, out});
    return y;
}

// stamp: of the weights at forward
py::object conv_backward(ConvLayer& l, const Array<float>& x, const Array<float>& dy, bool input_gradient,
                         uint64_t stamp) {
    const Layout in = layout_of(x, l.options().in_channels, l.batch_first, "in_channels");
    const Layout out = with(in, l.output_steps(in.steps), l.options().out_channels, l.batch_first);
    check_shape(dy, shape_of(out, l.batch_first), "gradient of the output");
    Array<float> dx(input_gradient ? shape_of(in, l.batch_first) : std::vector<py::ssize_t>{0});
    float* to = input_gradient ? dx.mutable_data() : nullptr;
    {
        const py::gil_scoped_release release;
        const GradientLock lock(l.gradients_mutex());
        l.weights_stamp().check(stamp);
        l.backward({x.data(), in}, {dy.data(), out}, to);
    }
    return input_gradient ? py::object(dx) : py::none();
}

Array<float> conv_step(ConvLayer& l, const Array<float>& window) {
    const auto& o = l.options();
    if (window.ndim() != 3) throw std::invalid_argument("window must have three dimensions (k, N, C)");
    check_shape(window, {signed_size(o.kernel_size), window.shape(1), signed_size(o.in_channels)}, "window");
    Array<float> y({window.shape(1), signed_size(o.out_channels)});
    float* to = y.mutable_data();
    const py::gil_scoped_release release;
    l.step(window.data(), static_cast<size_t>(window.shape(1)), to);
    return y;
}

struct AttentionLayer : Trainable<SelfAttention> {
    AttentionLayer(const AttentionOptions& options, bool layout, uint64_t seed)
        : Trainable(options, seed, active()), batch_first(layout) {}
    Pool<SelfAttentionTape> inference;
    bool batch_first;
};

// Returns (y, tape or None).
py::tuple attention_forward(AttentionLayer& l, const Array<float>& x, const Lengths& lengths, bool save) {
    const Layout layout = layout_of(x, l.options().embed_dim, l.batch_first, "embed_dim");
    const int64_t* steps = lengths_data(lengths, signed_size(layout.rows));
    Array<float> y(shape_of(layout, l.batch_first));
    float* to = y.mutable_data();
    auto tape = save ? std::make_unique<SelfAttentionTape>() : nullptr;
    {
        const py::gil_scoped_release release;
        if (tape) {
            l.forward({x.data(), layout}, steps, to, *tape, true);
        } else {
            Pool<SelfAttentionTape>::Loan inference(l.inference);
            l.forward({x.data(), layout}, steps, to, *inference, false);
        }
    }
    return py::make_tuple(y, tape ? py::cast(std::move(tape)) : py::none());
}

py::object attention_backward(AttentionLayer& l, SelfAttentionTape& tape, const Array<float>& x, const Array<float>& dy,
                              bool input_gradient) {
    check_shape(dy, shape_of(tape.attention.layout, l.batch_first), "gradient of the output");
    check_shape(x, shape_of(tape.attention.layout, l.batch_first), "input");
    Array<float> dx(input_gradient ? shape_of(tape.attention.layout, l.batch_first) : std::vector<py::ssize_t>{0});
    float* to = input_gradient ? dx.mutable_data() : nullptr;
    {
        const py::gil_scoped_release release;
        const GradientLock lock(l.gradients_mutex());
        l.backward(tape, x.data(), dy.data(), to);
    }
    return input_gradient ? py::object(dx) : py::none();
}

Array<float> attention_step(AttentionLayer& l, const Array<float>& x, AttentionCache& cache) {
    if (x.ndim() != 2) throw std::invalid_argument("a step's input must have two dimensions (N, D)");
    check_shape(x, {x.shape(0), signed_size(l.options().embed_dim)}, "input");
    Array<float> y({x.shape(0), x.shape(1)});
    float* to = y.mutable_data();
    const py::gil_scoped_release release;
    l.step(x.data(), static_cast<size_t>(x.shape(0)), cache, to);
    return y;
}

}  // namespace

void register_sequence(py::module_& m) {
    py::class_<ConvLayer> conv(m, "Conv1d");
    conv.def(py::init([](size_t in_channels, size_t out_channels, size_t kernel_size, size_t dilation, size_t before,
                         size_t after, bool bias, bool batch_first, uint64_t seed, size_t stride, size_t groups) {
                 const Conv1dOptions options{in_channels, out_channels, kernel_size, dilation, before,
                                             after,       bias,         stride,      groups};
                 return without_gil([&] { return std::make_unique<ConvLayer>(options, batch_first, seed); });
             }),
             py::arg("in_channels"), py::arg("out_channels"), py::arg("kernel_size"), py::arg("dilation") = 1,
             py::arg("before") = 0, py::arg("after") = 0, py::arg("bias") = true, py::arg("batch_first") = false,
             py::arg("seed") = 0, py::arg("stride") = 1, py::arg("groups") = 1)
        .def("forward", &conv_forward, py::arg("x"))
        .def("backward", &conv_backward, py::arg("x"), py::arg("dy"), py::arg("input_gradient"), py::arg("stamp"))
        .def_property_readonly("weights_stamp", [](const ConvLayer& l) { return l.weights_stamp().now(); })
        .def("step", &conv_step, py::arg("window"));
    add_parameters(conv);

    py::class_<SelfAttentionTape>(m, "AttentionTape");
    py::class_<AttentionCache>(m, "AttentionCache")
        .def(py::init<>())
        .def_readonly("length", &AttentionCache::length)
        .def_property_readonly("bytes", &AttentionCache::bytes);
    py::class_<AttentionLayer> attention(m, "SelfAttention");
    attention
        .def(py::init([](size_t embed_dim, size_t num_heads, bool causal, bool bias, bool batch_first, uint64_t seed) {
                 const AttentionOptions options{embed_dim, num_heads, causal, bias};
                 return without_gil([&] { return std::make_unique<AttentionLayer>(options, batch_first, seed); });
             }),
             py::arg("embed_dim"), py::arg("num_heads") = 1, py::arg("causal") = false, py::arg("bias") = true,
             py::arg("batch_first") = false, py::arg("seed") = 0)
        .def("forward", &attention_forward, py::arg("x"), py::arg("lengths"), py::arg("save"))
        .def("backward", &attention_backward, py::arg("tape"), py::arg("x"), py::arg("dy"), py::arg("input_gradient"))
        .def("step", &attention_step, py::arg("x"), py::arg("cache"));
    add_parameters(attention);
}

}  // namespace rnnfast::bindings
