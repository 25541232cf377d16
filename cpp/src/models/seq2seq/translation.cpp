#include "models/seq2seq/translation.h"
#include "runtime/sentence.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

namespace rnnfast::core {

namespace {

// Some sources beside one another, each ended by <eos> and padded to the longest.
struct Batch {
    Batch(const Sentences& sentences, const size_t* chosen, size_t count, const DecodeOptions& o) : lengths(count) {
        for (size_t n = 0; n < count; ++n) {
            lengths[n] = static_cast<int64_t>(sentences[chosen[n]].size() + 1);
            steps = std::max(steps, sentences[chosen[n]].size() + 1);
        }
        ids.resize(steps * count, o.pad);
        for (size_t n = 0; n < count; ++n) {
            const std::vector<int32_t>& sentence = sentences[chosen[n]];
            for (size_t t = 0; t < sentence.size(); ++t) ids[t * count + n] = sentence[t];
            ids[sentence.size() * count + n] = o.eos;
        }
    }

    size_t steps = 0;
    std::vector<int64_t> lengths;
    std::vector<int32_t> ids;  // [steps, count]
};

// Calls body(numbers of some sentences, how many), sentences of similar length together, so that few steps are padding.
template <class Body>
void for_each_batch(const Sentences& sentences, size_t batch_size, Body body) {
    if (batch_size == 0) refuse({"batch_size is 0: expected at least 1"});
    std::vector<size_t> order(sentences.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return sentences[a].size() != sentences[b].size() ? sentences[a].size() < sentences[b].size() : a < b;
    });
    for (size_t at = 0; at < order.size(); at += batch_size)
        body(order.data() + at, std::min(batch_size, order.size() - at));
}

// A model and the sources it translates, with the decoder's state of every row.
class Decoding : public StepModel {
public:
    Decoding(const Seq2Seq& model, const Batch& sources) : model_(model) {
        model.encode(sources.ids.data(), sources.lengths.data(), sources.steps, sources.lengths.size(), encoded_,
                     memory_);
        state_ = model.initial_state(encoded_);
    }

    const Kernels& kernels() const override { return model_.kernels(); }
    size_t vocabulary() const override { return model_.options().target_vocabulary; }

    void step(const size_t* parents, const int32_t* previous, size_t rows, float* logits, float* attention) override {
        continue_rows(parents, rows);
        model_.step(encoded_, previous, state_, logits, attention, memory_);
    }

    void step_argmax(const size_t* parents, const int32_t* previous, size_t rows, const std::vector<int32_t>& never,
                     int32_t* tokens) override {
        continue_rows(parents, rows);
        model_.step_argmax(encoded_, previous, state_, never, tokens, memory_);
    }

private:
    // Row r's state becomes that of row parents[r].
    void continue_rows(const size_t* parents, size_t rows) {
        bool same = rows == state_.rows;
        for (size_t r = 0; same && r < rows; ++r) same = parents[r] == r;
        if (same) return;
        const size_t layers = model_.options().num_layers, hidden = model_.options().hidden_size;
        const auto gather = [&](const Buffer& from, Buffer& to) {
            to.reserve(layers * rows * hidden);
            for (size_t layer = 0; layer < layers; ++layer)
                for (size_t r = 0; r < rows; ++r)
                    std::copy_n(from.data() + (layer * state_.rows + parents[r]) * hidden, hidden,
                                to.data() + (layer * rows + r) * hidden);
        };
        gather(state_.h, next_.h);
        if (model_.cell().has_c) gather(state_.c, next_.c);
        next_.source.resize(rows);
        for (size_t r = 0; r < rows; ++r) next_.source[r] = state_.source[parents[r]];
        next_.rows = rows;
        std::swap(state_, next_);
    }

    const Seq2Seq& model_;
    EncodedSource encoded_;
    DecoderState state_, next_;
    Seq2Seq::Memory memory_;
};

}  // namespace

std::vector<std::vector<Hypothesis>> translate(const Seq2Seq& model, const Sentences& sources,
                                               const DecodeOptions& options, bool attention, size_t batch_size) {
    check_options(options, model.options().target_vocabulary);
    std::vector<std::vector<Hypothesis>> all(sources.size());
    for_each_batch(sources, batch_size, [&](const size_t* chosen, size_t count) {
        for (; count && sources[*chosen].empty(); ++chosen, --count) {
            Hypothesis nothing;
            nothing.ended = true;
            all[*chosen].push_back(nothing);
        }
        if (count == 0) return;
        const Batch batch(sources, chosen, count, options);
        Decoding decoding(model, batch);
        SearchSources searched;
        searched.steps = batch.steps;
        searched.lengths.assign(batch.lengths.begin(), batch.lengths.end());
        auto found = search(decoding, searched, options, attention);
        for (size_t n = 0; n < count; ++n) all[chosen[n]] = std::move(found[n]);
    });
    return all;
}

std::vector<double> score_pairs(const Seq2Seq& model, const Sentences& sources, const Sentences& targets,
                                const DecodeOptions& options, size_t batch_size) {
    if (targets.size() != sources.size())
        refuse({sources.size(), " sources and ", targets.size(), " targets: expected equal numbers"});
    std::vector<double> all(sources.size());
    for_each_batch(targets, batch_size, [&](const size_t* chosen, size_t count) {
        Decoding decoding(model, Batch(sources, chosen, count, options));
        Sentences wanted;
        for (size_t n = 0; n < count; ++n) wanted.push_back(targets[chosen[n]]);
        const std::vector<double> scores = forced_scores(decoding, wanted, options);
        for (size_t n = 0; n < count; ++n) all[chosen[n]] = scores[n];
    });
    return all;
}

}  // namespace rnnfast::core
