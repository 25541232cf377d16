#include <pybind11/stl.h>

#include "bindings/model.h"
#include "bindings/parameters.h"
#include "models/seq2seq/seq2seq.h"

namespace rnnfast::bindings {

using namespace core;

namespace {

void check_pair(const Array<int32_t>& source, const Array<int64_t>& lengths) {
    if (source.ndim() != 2 || source.size() == 0)
        throw std::invalid_argument("source has shape " + shape_text(source) +
                                    ", expected (S, N) token ids with at least one step and one row");
    check_shape(lengths, {source.shape(1)}, "source_lengths");
}

std::unique_ptr<EncodedSource> encode(const Seq2Seq& model, const Array<int32_t>& source,
                                      const Array<int64_t>& lengths) {
    check_pair(source, lengths);
    auto encoded = std::make_unique<EncodedSource>();
    Seq2Seq::Memory memory;
    const py::gil_scoped_release release;
    model.encode(source.data(), lengths.data(), static_cast<size_t>(source.shape(0)),
                 static_cast<size_t>(source.shape(1)), *encoded, memory);
    return encoded;
}

// nll [T, N]. training: the share of teacher forcing and the keys of the random numbers; None: an evaluation.
Array<double> loss(Seq2Seq& model, const Array<int32_t>& source, const Array<int64_t>& lengths,
                   const Array<int32_t>& inputs, const Array<int32_t>& targets,
                   const std::optional<std::pair<float, Keys>>& training) {
    check_pair(source, lengths);
    const py::ssize_t rows = source.shape(1);
    if (targets.ndim() != 2 || targets.size() == 0 || targets.shape(1) != rows)
        throw std::invalid_argument("targets have shape " + shape_text(targets) + ", expected (T, " +
                                    std::to_string(rows) + "): one column per source");
    check_shape(inputs, {targets.shape(0), rows}, "inputs");
    PairBatch batch;
    batch.source_steps = static_cast<size_t>(source.shape(0));
    batch.target_steps = static_cast<size_t>(targets.shape(0));
    batch.rows = static_cast<size_t>(rows);
    batch.source = source.data();
    batch.source_lengths = lengths.data();
    batch.inputs = inputs.data();
    batch.targets = targets.data();
    Array<double> nll({targets.shape(0), rows});
    double* out = nll.mutable_data();
    const auto [teacher_forcing, keys] = training.value_or(std::pair<float, Keys>{1.0f, uint64_t{0}});
    const RowGroups groups = row_groups_of(keys);
    const py::gil_scoped_release release;
    model.loss(batch, out, training.has_value(), teacher_forcing, groups);
    return nll;
}

// logits [rows, V] of what follows `previous`; the state moves on. attention: [rows, S] out, or nullptr
Array<float> step_into(const Seq2Seq& model, const EncodedSource& encoded, const Array<int32_t>& previous,
                       DecoderState& state, float* attention) {
    if (encoded.model != &model || state.model != &model || state.rows != encoded.rows)
        throw std::invalid_argument("the encoded source and the state do not belong to this model or to each other");
    check_shape(previous, {signed_size(state.rows)}, "previous");
    Array<float> logits({signed_size(state.rows), signed_size(model.options().target_vocabulary)});
    float* out = logits.mutable_data();
    const py::gil_scoped_release release;
    Seq2Seq::Memory memory;
    model.step(encoded, previous.data(), state, out, attention, memory);
    return logits;
}

Array<float> step(const Seq2Seq& model, const EncodedSource& encoded, const Array<int32_t>& previous,
                  DecoderState& state) {
    return step_into(model, encoded, previous, state, nullptr);
}

py::tuple step_and_weights(const Seq2Seq& model, const EncodedSource& encoded, const Array<int32_t>& previous,
                           DecoderState& state) {
    Array<float> weights({signed_size(state.rows), signed_size(encoded.steps)});
    Array<float> logits = step_into(model, encoded, previous, state, weights.mutable_data());
    return py::make_tuple(logits, weights);
}

}  // namespace

void register_seq2seq(py::module_& m) {
    py::class_<EncodedSource>(m, "EncodedSource").def_readonly("rows", &EncodedSource::rows);
    py::class_<DecoderState>(m, "DecoderState").def_readonly("rows", &DecoderState::rows);
    py::class_<Seq2Seq> model(m, "Seq2Seq");
    model.def(py::init(&made_of<Seq2Seq, Seq2SeqOptions>), py::arg("config"))
        .def_property_readonly("config", [](const Seq2Seq& l) { return write_options(l.options()); })
        .def("loss", &loss, py::arg("source"), py::arg("source_lengths"), py::arg("inputs"), py::arg("targets"),
             py::arg("training"))
        .def("backward", &Seq2Seq::backward, py::call_guard<py::gil_scoped_release>())
        .def("encode", &encode, py::arg("source"), py::arg("source_lengths"), py::keep_alive<0, 1>())
        .def(
            "initial_state",
            [](const Seq2Seq& l, const EncodedSource& encoded) {
                if (encoded.model != &l) throw std::invalid_argument("the encoded source belongs to another model");
                return l.initial_state(encoded);
            },
            py::arg("encoded"), py::keep_alive<0, 1>())
        .def("step", &step, py::arg("encoded"), py::arg("previous"), py::arg("state"))
        .def("step_and_weights", &step_and_weights, py::arg("encoded"), py::arg("previous"), py::arg("state"))
        .def_property_readonly("has_c", [](const Seq2Seq& l) { return l.cell().has_c; });
    add_parameters(model);
}

}  // namespace rnnfast::bindings
