#include <pybind11/stl.h>

#include "bindings/model.h"
#include "bindings/parameters.h"
#include "models/language_model.h"

namespace rnnfast::bindings {

using namespace core;

namespace {

std::vector<py::ssize_t> state_shape(const LanguageModel& model, py::ssize_t rows) {
    return {signed_size(model.options().num_layers), rows, signed_size(model.options().hidden_size)};
}

// Returns (nll [T, N] float64, h, c or None).
py::tuple loss(LanguageModel& model, const Array<int32_t>& x, const Array<int32_t>& y, const py::object& h0,
               const py::object& c0, bool train, uint64_t dropout_key) {
    if (x.ndim() != 2 || x.shape(0) == 0)
        throw std::invalid_argument("x has shape " + shape_text(x) +
                                    ", expected (T, N) token ids with at least one step");
    check_shape(y, {x.shape(0), x.shape(1)}, "y");
    const auto states = state_shape(model, x.shape(1));
    const RecurrentState start{optional_data(h0, states, "state h"), optional_data(c0, states, "state c")};
    const bool has_c = model.cell().has_c;
    Array<double> nll({x.shape(0), x.shape(1)});
    Array<float> h(states), c(has_c ? states : std::vector<py::ssize_t>{0});
    double* out = nll.mutable_data();
    const RecurrentStateOut end{h.mutable_data(), has_c ? c.mutable_data() : nullptr};
    {
        const py::gil_scoped_release release;
        model.loss(x.data(), y.data(), static_cast<size_t>(x.shape(0)), static_cast<size_t>(x.shape(1)), start, end,
                   out, train, dropout_key);
    }
    return py::make_tuple(nll, h, has_c ? py::object(c) : py::none());
}

// Returns (logits [N, V], h, c or None).
py::tuple step(const LanguageModel& model, const Array<int32_t>& tokens, const py::object& h0, const py::object& c0) {
    if (tokens.ndim() != 1)
        throw std::invalid_argument("tokens has shape " + shape_text(tokens) + ", expected (N,): one id a row");
    const auto rows = static_cast<size_t>(tokens.size());
    const auto states = state_shape(model, tokens.size());
    LanguageState state = model.initial_state(rows);
    const float *h_in = optional_data(h0, states, "state h"), *c_in = optional_data(c0, states, "state c");
    if (h_in) std::copy_n(h_in, state.h.size(), state.h.data());
    if (c_in) std::copy_n(c_in, state.c.size(), state.c.data());
    const bool has_c = model.cell().has_c;
    Array<float> logits({tokens.size(), signed_size(model.options().vocabulary)});
    Array<float> h(states), c(has_c ? states : std::vector<py::ssize_t>{0});
    float* out = logits.mutable_data();
    {
        const py::gil_scoped_release release;
        LanguageModel::StepMemory memory;
        model.step(tokens.data(), state, out, memory);
    }
    std::copy_n(state.h.data(), state.h.size(), h.mutable_data());
    if (has_c) std::copy_n(state.c.data(), state.c.size(), c.mutable_data());
    return py::make_tuple(logits, h, has_c ? py::object(c) : py::none());
}

}  // namespace

namespace {

int32_t sample(Sampler& sampler, const Array<float>& logits) {
    if (logits.ndim() != 1 || logits.size() == 0)
        throw std::invalid_argument("logits has shape " + shape_text(logits) + ", expected (V,)");
    return sampler.sample(logits.data(), static_cast<size_t>(logits.size()));
}

std::unique_ptr<Generator> generator(const LanguageModel& model, const Array<int32_t>& prompt,
                                     const SamplerOptions& options) {
    const py::gil_scoped_release release;
    return std::make_unique<Generator>(model, prompt.data(), static_cast<size_t>(prompt.size()), options);
}

}  // namespace

void register_language_model(py::module_& m) {
    py::class_<LanguageModel> model(m, "LanguageModel");
    model.def(py::init(&made_of<LanguageModel, LanguageModelOptions>), py::arg("config"))
        .def_property_readonly("config", [](const LanguageModel& l) { return write_options(l.options()); })
        .def("loss", &loss, py::arg("x"), py::arg("y"), py::arg("h0"), py::arg("c0"), py::arg("train"),
             py::arg("dropout_key"))
        .def("backward", &LanguageModel::backward, py::call_guard<py::gil_scoped_release>())
        .def("step", &step, py::arg("tokens"), py::arg("h0"), py::arg("c0"))
        .def_property_readonly("has_c", [](const LanguageModel& l) { return l.cell().has_c; });
    add_parameters(model);

    py::class_<SamplerOptions>(m, "SamplerOptions")
        .def(py::init([](double temperature, size_t top_k, double top_p, uint64_t seed, size_t no_repeat_ngram_size,
                         std::vector<int32_t> never) {
                 SamplerOptions o;
                 o.temperature = temperature;
                 o.top_k = top_k;
                 o.top_p = top_p;
                 o.seed = seed;
                 o.no_repeat_ngram_size = no_repeat_ngram_size;
                 o.never = std::move(never);
                 return o;
             }),
             py::arg("temperature"), py::arg("top_k"), py::arg("top_p"), py::arg("seed"),
             py::arg("no_repeat_ngram_size"), py::arg("never"));
    py::class_<Sampler>(m, "Sampler")
        .def(py::init<SamplerOptions>(), py::arg("options"))
        .def("numbered", &Sampler::numbered, py::arg("sample"))
        .def(
            "read",
            [](Sampler& sampler, const Array<int32_t>& tokens) {
                sampler.read(tokens.data(), static_cast<size_t>(tokens.size()));
            },
            py::arg("tokens"))
        .def("sample", &sample, py::arg("logits"));
    py::class_<Generator>(m, "Generator")
        .def(py::init(&generator), py::arg("model"), py::arg("prompt"), py::arg("options"), py::keep_alive<1, 2>())
        .def("next", &Generator::next, py::call_guard<py::gil_scoped_release>())
        .def("numbered", &Generator::numbered, py::arg("sample"), py::keep_alive<0, 1>());
}

}  // namespace rnnfast::bindings
