// Linear and Embedding on their own, for models put together in Python.
#include <pybind11/stl.h>

#include <cmath>

#include "bindings/parameters.h"
#include "layers/packed.h"
#include "ops/embedding.h"
#include "ops/packed_linear.h"
#include "runtime/dispatch.h"
#include "runtime/random.h"
#include "runtime/weights_stamp.h"

namespace rnnfast::bindings {

using namespace core;

namespace {

struct LinearLayer {
    LinearLayer(size_t inputs, size_t outputs, bool with_bias, uint64_t seed)
        : weight(make_parameter("weight", {outputs, inputs})),
          bias(make_parameter("bias", {with_bias ? outputs : 0})),
          packed_([inputs, outputs] { return PackedLinear(active(), Weights::f32, inputs, outputs); }) {
        if (inputs == 0 || outputs == 0)
            throw std::invalid_argument("Linear: in_features and out_features must be at least 1");
        const double bound = 1.0 / std::sqrt(static_cast<double>(inputs));  // PyTorch's initialisation
        uint64_t key = seed;
        for (Buffer* values : {&weight.value, &bias.value}) {
            key = random_key(seed, key + 1);
            for (size_t i = 0; i < values->size(); ++i)
                values->data()[i] = static_cast<float>((2.0 * random_uniform(key, i) - 1.0) * bound);
        }
    }
    const Kernels& kernels() const { return active(); }
    ForkSafeMutex& gradients_mutex() { return gradients_mutex_; }
    const float* bias_data() const { return bias.size() ? bias.value.data() : nullptr; }
    size_t inputs() const { return weight.shape[1]; }
    size_t outputs() const { return weight.shape[0]; }
    const PackedLinear& packed() {
        return packed_.get([&](PackedLinear& p) { p.pack(weight.value.data(), bias_data()); });
    }
    void weights_changed() {
        packed_.weights_changed();
        stamp.renew();
    }

    Parameter weight, bias;
    Pool<Buffer> scratch;
    WeightsStamp stamp;

private:
    Packed<PackedLinear> packed_;
    ForkSafeMutex gradients_mutex_;
};

Array<float> linear_forward(LinearLayer& l, const Array<float>& x) {
    const auto rows = static_cast<size_t>(x.shape(0));
    Array<float> y({x.shape(0), signed_size(l.outputs())});
    float* out = y.mutable_data();
    const py::gil_scoped_release release;
    Pool<Buffer>::Loan scratch(l.scratch);
    l.packed().forward(x.data(), l.inputs(), rows, out, *scratch);
    return y;
}

// stamp: of the weights at forward
Array<float> linear_gradients(LinearLayer& l, const Array<float>& x, const Array<float>& dy, uint64_t stamp) {
    check_shape(dy, {x.shape(0), signed_size(l.outputs())}, "gradient of the output");
    Array<float> dx({x.shape(0), x.shape(1)});
    LinearGradients g{};
    g.x = x.data();
    g.dy = dy.data();
    g.weight = l.weight.value.data();
    g.rows = static_cast<size_t>(x.shape(0));
    g.inputs = l.inputs();
    g.outputs = l.outputs();
    g.dx = dx.mutable_data();
    g.dweight = l.weight.grad.data();
    g.dbias = l.bias.size() ? l.bias.grad.data() : nullptr;
    const py::gil_scoped_release release;
    const GradientLock lock(l.gradients_mutex());
    l.stamp.check(stamp);
    linear_backward(active(), g);
    return dx;
}

struct EmbeddingLayer {
    EmbeddingLayer(size_t rows, size_t width, uint64_t seed) : weight(make_parameter("weight", {rows, width})) {
        if (rows == 0 || width == 0)
            throw std::invalid_argument("Embedding: num_embeddings and embedding_dim must be at least 1");
        for (size_t i = 0; i < weight.size(); ++i)
            weight.value.data()[i] = static_cast<float>(random_normal(random_key(seed, 1), i));
    }
    const Kernels& kernels() const { return active(); }
    ForkSafeMutex& gradients_mutex() { return gradients_mutex_; }
    size_t width() const { return weight.shape[1]; }
    void check(const Array<int32_t>& ids) const {
        for (py::ssize_t i = 0; i < ids.size(); ++i)
            if (ids.data()[i] < 0 || static_cast<size_t>(ids.data()[i]) >= weight.shape[0])
                throw std::out_of_range("Embedding: id " + std::to_string(ids.data()[i]) + ", expected 0 to " +
                                        std::to_string(weight.shape[0] - 1));
    }
    Parameter weight;

private:
    ForkSafeMutex gradients_mutex_;
};

}  // namespace

void register_layers(py::module_& m) {
    py::class_<LinearLayer> linear(m, "Linear");
    linear
        .def(py::init<size_t, size_t, bool, uint64_t>(), py::arg("in_features"), py::arg("out_features"),
             py::arg("bias") = true, py::arg("seed") = 0)
        .def("forward", &linear_forward, py::arg("x"))
        .def("backward", &linear_gradients, py::arg("x"), py::arg("dy"), py::arg("stamp"))
        .def_property_readonly("weights_stamp", [](const LinearLayer& l) { return l.stamp.now(); });
    add_parameters<LinearLayer>(
        linear, [](LinearLayer& l) { return l.bias.size() ? Parameters{&l.weight, &l.bias} : Parameters{&l.weight}; },
        [](LinearLayer& l) { l.weights_changed(); });

    py::class_<EmbeddingLayer> embedding(m, "Embedding");
    embedding
        .def(py::init<size_t, size_t, uint64_t>(), py::arg("num_embeddings"), py::arg("embedding_dim"),
             py::arg("seed") = 0)
        .def(
            "forward",
            [](const EmbeddingLayer& e, const Array<int32_t>& ids) {
                e.check(ids);
                Array<float> y({ids.size(), signed_size(e.width())});
                embedding_forward(e.weight.value.data(), e.width(), ids.data(), static_cast<size_t>(ids.size()),
                                  y.mutable_data());
                return y;
            },
            py::arg("ids"))
        .def(
            "backward",
            [](EmbeddingLayer& e, const Array<int32_t>& ids, const Array<float>& dy) {
                e.check(ids);
                check_shape(dy, {ids.size(), signed_size(e.width())}, "gradient of the output");
                embedding_backward(dy.data(), e.width(), ids.data(), static_cast<size_t>(ids.size()),
                                   e.weight.grad.data());
            },
            py::arg("ids"), py::arg("dy"));
    add_parameters<EmbeddingLayer>(
        embedding, [](EmbeddingLayer& e) { return Parameters{&e.weight}; }, [](EmbeddingLayer&) {});
}

}  // namespace rnnfast::bindings
