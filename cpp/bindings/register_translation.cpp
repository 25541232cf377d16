#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "models/seq2seq/translation.h"

namespace rnnfast::bindings {

namespace {

using IdArrays = std::vector<Array<int32_t>>;

Sentences sentences_of(const IdArrays& arrays) {
    Sentences sentences;
    for (const Array<int32_t>& ids : arrays) sentences.emplace_back(ids.data(), ids.data() + ids.size());
    return sentences;
}

// (ids, log P, score, ended, attention or None)
py::tuple as_tuple(const Hypothesis& h) {
    const Array<int32_t> ids(signed_size(h.tokens.size()), h.tokens.data());
    py::object weights = py::none();
    if (!h.attention.empty()) {
        const size_t steps = h.tokens.size() + (h.ended ? 1 : 0);
        weights = Array<float>({signed_size(steps), signed_size(h.attention.size() / steps)}, h.attention.data());
    }
    return py::make_tuple(ids, h.log_probability, h.score, h.ended, weights);
}

py::list translate_sentences(const Seq2Seq& model, const IdArrays& sources, const DecodeOptions& options,
                             bool attention, size_t batch_size) {
    const Sentences sentences = sentences_of(sources);
    std::vector<std::vector<Hypothesis>> found;
    {
        const py::gil_scoped_release release;
        found = translate(model, sentences, options, attention, batch_size);
    }
    py::list all;
    for (const std::vector<Hypothesis>& hypotheses : found) {
        py::list best;
        for (const Hypothesis& h : hypotheses) best.append(as_tuple(h));
        all.append(best);
    }
    return all;
}

std::vector<double> score(const Seq2Seq& model, const IdArrays& sources, const IdArrays& targets,
                          const DecodeOptions& options, size_t batch_size) {
    const Sentences from = sentences_of(sources), to = sentences_of(targets);
    const py::gil_scoped_release release;
    return score_pairs(model, from, to, options, batch_size);
}

}  // namespace

void register_translation(py::module_& m) {
    py::class_<DecodeOptions>(m, "DecodeOptions")
        .def(py::init([](size_t beam_size, size_t n_best, size_t max_length, double length_penalty, int32_t pad,
                         int32_t bos, int32_t eos, bool scores) {
                 return DecodeOptions{beam_size, n_best, max_length, length_penalty, pad, bos, eos, scores};
             }),
             py::arg("beam_size") = 1, py::arg("n_best") = 1, py::arg("max_length") = 0,
             py::arg("length_penalty") = 0.75, py::arg("pad") = 1, py::arg("bos") = 2, py::arg("eos") = 3,
             py::arg("scores") = true);
    m.def("translate", &translate_sentences, py::arg("model"), py::arg("sources"), py::arg("options"),
          py::arg("attention"), py::arg("batch_size"));
    m.def("score_pairs", &score, py::arg("model"), py::arg("sources"), py::arg("targets"), py::arg("options"),
          py::arg("batch_size"));
}

}  // namespace rnnfast::bindings
