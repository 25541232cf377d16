// Linear, LayerNorm and Embedding on their own, for models put together in Python.
#include "bindings/parameters.h"
#include "layers/embedding.h"
#include "layers/linear.h"
#include "layers/norm.h"
#include "runtime/dispatch.h"
#include "runtime/random.h"

namespace rnnfast::bindings {

using namespace core;

namespace {

using LinearLayer = Trainable<Linear>;
using NormLayer = Trainable<LayerNorm>;
using EmbeddingLayer = Trainable<Embedding>;

// Layers that map each row on its own: x [rows, inputs()], y [rows, outputs()].
template <class Layer>
size_t rows_of(const Layer& l, const Array<float>& x) {
    check_shape(x, {x.ndim() ? x.shape(0) : 0, signed_size(l.inputs())}, "input");
    return static_cast<size_t>(x.shape(0));
}

template <class Layer>
Array<float> rows_forward(const Layer& l, const Array<float>& x) {
    const size_t rows = rows_of(l, x);
    Array<float> y({x.shape(0), signed_size(l.outputs())});
    float* to = y.mutable_data();
    const py::gil_scoped_release release;
    l.forward(x.data(), rows, to);
    return y;
}

// stamp: of the weights at forward
template <class Layer>
Array<float> rows_backward(Layer& l, const Array<float>& x, const Array<float>& dy, uint64_t stamp) {
    const size_t rows = rows_of(l, x);
    check_shape(dy, {x.shape(0), signed_size(l.outputs())}, "gradient of the output");
    Array<float> dx({x.shape(0), x.shape(1)});
    float* to = dx.mutable_data();
    const py::gil_scoped_release release;
    const GradientLock lock(l.gradients_mutex());
    l.weights_stamp().check(stamp);
    l.backward(x.data(), dy.data(), rows, to);
    return dx;
}

template <class Layer>
void add_rows(py::class_<Layer>& bound) {
    bound.def("forward", &rows_forward<Layer>, py::arg("x"))
        .def("backward", &rows_backward<Layer>, py::arg("x"), py::arg("dy"), py::arg("stamp"))
        .def_property_readonly("weights_stamp", [](const Layer& l) { return l.weights_stamp().now(); });
    add_parameters(bound);
}

Array<float> embedding_forward(const EmbeddingLayer& e, const Array<int32_t>& ids) {
    Array<float> y({ids.size(), signed_size(e.width())});
    float* to = y.mutable_data();
    const py::gil_scoped_release release;
    e.forward(ids.data(), static_cast<size_t>(ids.size()), to);
    return y;
}

void embedding_backward(EmbeddingLayer& e, const Array<int32_t>& ids, const Array<float>& dy) {
    check_shape(dy, {ids.size(), signed_size(e.width())}, "gradient of the output");
    const py::gil_scoped_release release;
    const GradientLock lock(e.gradients_mutex());
    e.backward(ids.data(), static_cast<size_t>(ids.size()), dy.data());
}

}  // namespace

void register_layers(py::module_& m) {
    py::class_<LinearLayer> linear(m, "Linear");
    linear.def(py::init([](size_t in_features, size_t out_features, bool bias, uint64_t seed) {
                   return without_gil(
                       [&] { return std::make_unique<LinearLayer>(in_features, out_features, bias, seed, active()); });
               }),
               py::arg("in_features"), py::arg("out_features"), py::arg("bias") = true, py::arg("seed") = 0);
    add_rows(linear);

    py::class_<NormLayer> norm(m, "LayerNorm");
    norm.def(py::init([](size_t normalized_size, float eps, bool weight, bool bias, bool centered) {
                 const LayerNormOptions options{normalized_size, eps, weight, bias, centered};
                 return std::make_unique<NormLayer>(options, active());
             }),
             py::arg("normalized_size"), py::arg("eps"), py::arg("weight"), py::arg("bias"), py::arg("centered"));
    add_rows(norm);

    py::class_<EmbeddingLayer> embedding(m, "Embedding");
    embedding
        .def(py::init([](size_t num_embeddings, size_t embedding_dim, uint64_t seed) {
                 return without_gil([&] {
                     return std::make_unique<EmbeddingLayer>(num_embeddings, embedding_dim, random_key(seed, 1),
                                                             active());
                 });
             }),
             py::arg("num_embeddings"), py::arg("embedding_dim"), py::arg("seed") = 0)
        .def("forward", &embedding_forward, py::arg("ids"))
        .def("backward", &embedding_backward, py::arg("ids"), py::arg("dy"));
    add_parameters(embedding);
}

}  // namespace rnnfast::bindings
