#include <pybind11/stl.h>

#include "bindings/model.h"
#include "bindings/parameters.h"
#include "bindings/state.h"
#include "models/language_model.h"
#include "models/sampler.h"

namespace rnnfast::bindings {

using namespace core;

namespace {

// A batch's states as Python gives and takes them: tuples of h, c of a cell that has it, and x with a window of two
// steps.
struct Batch {
    Batch(const LanguageModel& model, const Array<int32_t>& x, const py::sequence& given)
        : steps(static_cast<size_t>(x.shape(0))),
          rows(static_cast<size_t>(x.shape(1))),
          parts(model.stream_shape(), rows),
          start(state_of(parts, given, "state ", "")),
          end(parts) {}

    size_t steps, rows;
    StateParts parts;
    RecurrentState start;
    NewState end;
};

void check_tokens(const Array<int32_t>& x) {
    if (x.ndim() != 2 || x.shape(0) == 0)
        throw std::invalid_argument("x has shape " + shape_text(x) +
                                    ", expected (T, N) token ids with at least one step");
}

// One dropout key, or one for each group of rows. zero_gradients: they are, and nobody reads them before backward.
// Returns (nll [T, N] float64, state).
py::tuple loss(LanguageModel& model, const Array<int32_t>& x, const Array<int32_t>& y, const py::sequence& state,
               bool train, const Keys& dropout_keys, bool zero_gradients) {
    check_tokens(x);
    check_shape(y, {x.shape(0), x.shape(1)}, "y");
    const Batch batch(model, x, state);
    Array<double> nll({x.shape(0), x.shape(1)});
    double* out = nll.mutable_data();
    const RowGroups groups = row_groups_of(dropout_keys);
    {
        const py::gil_scoped_release release;
        if (zero_gradients) model.expect_zero_gradients();
        model.loss(x.data(), y.data(), batch.steps, batch.rows, batch.start, batch.end.at, out, train, groups);
    }
    return py::make_tuple(nll, batch.end.arrays);
}

// Returns (what the output layer reads [T, N, H], or [T, N, E] with a projection, and the state).
py::tuple read(LanguageModel& model, const Array<int32_t>& x, const py::sequence& state) {
    check_tokens(x);
    const Batch batch(model, x, state);
    Array<float> hidden({x.shape(0), x.shape(1), signed_size(model.options().output_inputs())});
    float* out = hidden.mutable_data();
    {
        const py::gil_scoped_release release;
        model.read(x.data(), batch.steps, batch.rows, batch.start, batch.end.at, out);
    }
    return py::make_tuple(hidden, batch.end.arrays);
}

py::dict state_parts(const LanguageModel& model) {
    const StateParts parts(model.stream_shape(), 1);
    py::dict all;
    for (size_t i = 0; i < parts.count; ++i)
        all[parts.parts[i]->name] = py::make_tuple(parts.shape(i).front(), parts.shape(i).back());
    return all;
}

// Returns (logits [N, V], state).
py::tuple step(const LanguageModel& model, const Array<int32_t>& tokens, const py::sequence& given) {
    if (tokens.ndim() != 1)
        throw std::invalid_argument("tokens has shape " + shape_text(tokens) + ", expected (N,): one id per row");
    const auto rows = static_cast<size_t>(tokens.size());
    const StateParts parts(model.stream_shape(), rows);
    const RecurrentState start = state_of(parts, given, "state ", "");
    StreamState state = model.initial_state(rows);
    state.set(start.h, start.c, start.x);
    Array<float> logits({tokens.size(), signed_size(model.options().vocabulary)});
    const NewState end(parts);
    float* out = logits.mutable_data();
    {
        const py::gil_scoped_release release;
        StreamState* const all[] = {&state};
        model.step(tokens.data(), all, rows, out);
    }
    state.get(end.at.h, end.at.c, end.at.x);
    return py::make_tuple(logits, end.arrays);
}

}  // namespace

namespace {

int32_t sample(Sampler& sampler, const Array<float>& logits) {
    if (logits.ndim() != 1 || logits.size() == 0)
        throw std::invalid_argument("logits has shape " + shape_text(logits) + ", expected (V,)");
    return sampler.sample(logits.data(), static_cast<size_t>(logits.size()));
}

// Continues a prompt, one token at a time. all_logits: computes those too that no draw depends on.
class Generator {
public:
    Generator(const LanguageModel& model, const Array<int32_t>& prompt, const SamplerOptions& options, bool all_logits)
        : model_(model),
          all_logits_(all_logits),
          sampler_(options),
          state_(model.initial_state(1)),
          logits_(model.options().vocabulary) {
        const py::gil_scoped_release release;
        const auto length = static_cast<size_t>(prompt.size());
        if (length == 0) throw std::invalid_argument("the prompt is empty: expected at least one token to start from");
        model_.run(prompt.data(), length, state_, logits_.data(), workspace_);
        sampler_.read(prompt.data(), length);
    }

    int32_t next() {
        const py::gil_scoped_release release;
        const SoleUse use(mutex_, "this text generator", "start a new one");
        if (last_ >= 0)
            model_.step(last_, state_, all_logits_ ? 0 : sampler_.reads_largest(), logits_.data(), workspace_, largest_,
                        all_threads);
        return last_ = sampler_.sample(logits_.data(), logits_.size());
    }

    // From here on, with the random stream of another sample; the prompt is not read again.
    std::unique_ptr<Generator> numbered(uint64_t sample) const {
        return std::unique_ptr<Generator>(new Generator(*this, sampler_.numbered(sample)));
    }

private:
    Generator(const Generator& from, Sampler sampler)
        : model_(from.model_),
          all_logits_(from.all_logits_),
          sampler_(std::move(sampler)),
          logits_(from.logits_),
          last_(from.last_) {
        state_.assign(from.state_);
    }

    ForkSafeMutex mutex_;  // of next()
    const LanguageModel& model_;
    const bool all_logits_;
    Sampler sampler_;
    StreamState state_;
    NetworkWorkspace workspace_;
    LargestMemory largest_;
    std::vector<float> logits_;
    int32_t last_ = -1;
};

}  // namespace

void register_language_model(py::module_& m) {
    py::class_<LanguageModel> model(m, "LanguageModel");
    model.def(py::init(&made_of<LanguageModel, LanguageModelOptions>), py::arg("config"))
        .def_property_readonly("config", [](const LanguageModel& l) { return write_options(l.options()); })
        .def("loss", &loss, py::arg("x"), py::arg("y"), py::arg("state"), py::arg("train"), py::arg("dropout_keys"),
             py::arg("zero_gradients") = false)
        .def("backward", &LanguageModel::backward, py::call_guard<py::gil_scoped_release>())
        .def_property_readonly("unfinished", &LanguageModel::unfinished,
                               "All parameters but so many leading ones have complete gradients.")
        .def("read", &read, py::arg("x"), py::arg("state"))
        .def("step", &step, py::arg("tokens"), py::arg("state"))
        .def_property_readonly("state_parts", &state_parts,
                               "The parts of a state, in the order of its tuples: their names, and the sizes of their "
                               "first and last dimension.");
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
        .def(py::init<const LanguageModel&, const Array<int32_t>&, const SamplerOptions&, bool>(), py::arg("model"),
             py::arg("prompt"), py::arg("options"), py::arg("all_logits") = false, py::keep_alive<1, 2>())
        .def("next", &Generator::next)
        .def("numbered", &Generator::numbered, py::arg("sample"), py::keep_alive<0, 1>());
}

}  // namespace rnnfast::bindings
