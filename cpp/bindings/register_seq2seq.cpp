#include <pybind11/stl.h>

#include "bindings/parameters.h"
#include "models/seq2seq/seq2seq.h"
#include "runtime/dispatch.h"

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

// nll [T, N]
Array<double> loss(Seq2Seq& model, const Array<int32_t>& source, const Array<int64_t>& lengths,
                   const Array<int32_t>& inputs, const Array<int32_t>& targets, bool train, float teacher_forcing,
                   uint64_t key) {
    check_pair(source, lengths);
    const py::ssize_t rows = source.shape(1);
    if (targets.ndim() != 2 || targets.size() == 0 || targets.shape(1) != rows)
        throw std::invalid_argument("targets have shape " + shape_text(targets) + ", expected (T, " +
                                    std::to_string(rows) + "): a column for each of the source");
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
    const py::gil_scoped_release release;
    model.loss(batch, out, train, teacher_forcing, key);
    return nll;
}

// logits [rows, V] of what follows `previous`; the state moves on. attention: [rows, S] out, or nullptr
Array<float> step_into(const Seq2Seq& model, const EncodedSource& encoded, const Array<int32_t>& previous,
                       DecoderState& state, float* attention) {
    if (encoded.model != &model || state.model != &model || state.rows != encoded.rows)
        throw std::invalid_argument("the encoded source and the state are not of this model and of each other");
    check_shape(previous, {signed_size(state.rows)}, "previous");
    Array<float> logits({signed_size(state.rows), signed_size(model.options().target_vocabulary)});
    Seq2Seq::Memory memory;
    model.step(encoded, previous.data(), state, logits.mutable_data(), attention, memory);
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
    model
        .def(py::init([](const std::string& cell, size_t source_vocabulary, size_t target_vocabulary,
                         size_t embedding_size, size_t hidden_size, size_t num_layers, bool bidirectional,
                         const std::string& context, const std::string& initial_state, bool reads_context,
                         bool reads_previous, const std::string& attention, bool readout_all, float dropout,
                         float output_dropout, uint64_t seed, const std::string& weights) {
                 Seq2SeqOptions o;
                 o.cell = cell;
                 o.source_vocabulary = source_vocabulary;
                 o.target_vocabulary = target_vocabulary;
                 o.embedding_size = embedding_size;
                 o.hidden_size = hidden_size;
                 o.num_layers = num_layers;
                 o.bidirectional = bidirectional;
                 o.context = context;
                 o.initial_state = initial_state;
                 o.reads_context = reads_context;
                 o.reads_previous = reads_previous;
                 o.attention = attention;
                 o.readout_all = readout_all;
                 o.dropout = dropout;
                 o.output_dropout = output_dropout;
                 o.weights = weights_named(weights);
                 return std::make_unique<Seq2Seq>(o, seed, active());
             }),
             py::arg("cell"), py::arg("source_vocabulary"), py::arg("target_vocabulary"), py::arg("embedding_size"),
             py::arg("hidden_size"), py::arg("num_layers"), py::arg("bidirectional"), py::arg("context"),
             py::arg("initial_state"), py::arg("reads_context"), py::arg("reads_previous"), py::arg("attention"),
             py::arg("readout_all"), py::arg("dropout"), py::arg("output_dropout"), py::arg("seed"), py::arg("weights"))
        .def("loss", &loss, py::arg("source"), py::arg("source_lengths"), py::arg("inputs"), py::arg("targets"),
             py::arg("train"), py::arg("teacher_forcing"), py::arg("key"))
        .def("backward", &Seq2Seq::backward, py::call_guard<py::gil_scoped_release>())
        .def("encode", &encode, py::arg("source"), py::arg("source_lengths"), py::keep_alive<0, 1>())
        .def(
            "initial_state",
            [](const Seq2Seq& l, const EncodedSource& encoded) {
                if (encoded.model != &l) throw std::invalid_argument("the encoded source is of another model");
                return l.initial_state(encoded);
            },
            py::arg("encoded"), py::keep_alive<0, 1>())
        .def("step", &step, py::arg("encoded"), py::arg("previous"), py::arg("state"))
        .def("step_and_weights", &step_and_weights, py::arg("encoded"), py::arg("previous"), py::arg("state"))
        .def_property_readonly("has_c", [](const Seq2Seq& l) { return l.cell().has_c; });
    add_parameters(model);
}

}  // namespace rnnfast::bindings
