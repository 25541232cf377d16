#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "models/seq2seq/translation.h"
#include "runtime/dispatch.h"

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

// A model whose step is a function of Python: step(parents, previous) returns the logits [rows, V].
class CallableModel : public StepModel {
public:
    CallableModel(const py::function& step, size_t vocabulary) : step_(step), vocabulary_(vocabulary) {}
    const Kernels& kernels() const override { return active(); }
    size_t vocabulary() const override { return vocabulary_; }
    void step(const size_t* parents, const int32_t* previous, size_t rows, float* logits, float*) override {
        const py::gil_scoped_acquire acquire;
        const Array<int64_t> from(signed_size(rows), reinterpret_cast<const int64_t*>(parents));
        const Array<int32_t> read(signed_size(rows), previous);
        const auto result = py::cast<Array<float>>(step_(from, read));
        check_shape(result, {signed_size(rows), signed_size(vocabulary_)}, "logits");
        std::copy_n(result.data(), result.size(), logits);
    }

private:
    const py::function& step_;
    size_t vocabulary_;
};

// The most probable max_length tokens after the prompt.
std::vector<int32_t> continuation(const py::function& step, size_t vocabulary, const Array<int32_t>& prompt,
                                  const DecodeOptions& options) {
    CallableModel model(step, vocabulary);
    SearchSources sources;
    sources.lengths = {1};
    sources.prefix.assign(prompt.data(), prompt.data() + prompt.size());
    const py::gil_scoped_release release;
    return search(model, sources, options, false)[0][0].tokens;
}

}  // namespace

void register_translation(py::module_& m) {
    py::class_<DecodeOptions>(m, "DecodeOptions")
        .def(py::init([](size_t beam_size, size_t n_best, size_t max_length, double length_penalty, int32_t pad,
                         int32_t bos, int32_t eos, bool scores, std::vector<int32_t> never,
                         size_t no_repeat_ngram_size) {
                 return DecodeOptions{beam_size, n_best, max_length, length_penalty,   pad,
                                      bos,       eos,    scores,     std::move(never), no_repeat_ngram_size};
             }),
             py::arg("beam_size") = 1, py::arg("n_best") = 1, py::arg("max_length") = 0,
             py::arg("length_penalty") = 0.75, py::arg("pad") = 1, py::arg("bos") = 2, py::arg("eos") = 3,
             py::arg("scores") = true, py::arg("never") = std::vector<int32_t>(), py::arg("no_repeat_ngram_size") = 0);
    m.def("continuation", &continuation, py::arg("step"), py::arg("vocabulary"), py::arg("prompt"), py::arg("options"));
    m.def("translate", &translate_sentences, py::arg("model"), py::arg("sources"), py::arg("options"),
          py::arg("attention"), py::arg("batch_size"));
    m.def("score_pairs", &score, py::arg("model"), py::arg("sources"), py::arg("targets"), py::arg("options"),
          py::arg("batch_size"));
}

}  // namespace rnnfast::bindings
