// Beam search on small models, compared with exhaustive search.
#include <algorithm>
#include <functional>
#include <numeric>
#include <stdexcept>

#include "helpers.h"
#include "models/search.h"
#include "ops/softmax_loss.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

using Tokens = std::vector<int32_t>;

// Logits are a hash of the source and of all tokens read so far; with `levels`, of few values, so that many tie.
class HashModel : public StepModel {
public:
    HashModel(size_t vocabulary, const Tokens& sources, uint64_t seed, size_t levels = 0)
        : vocabulary_(vocabulary), seed_(seed), levels_(levels) {
        for (const int32_t source : sources) rows_.push_back({source});
    }

    const Kernels& kernels() const override { return active(); }
    size_t vocabulary() const override { return vocabulary_; }

    void step(const size_t* parents, const int32_t* previous, size_t rows, float* logits, float* attention) override {
        std::vector<Tokens> next;
        for (size_t r = 0; r < rows; ++r) {
            REQUIRE(parents[r] < rows_.size());
            next.push_back(rows_[parents[r]]);
            next.back().push_back(previous[r]);
            const std::vector<float> own = of(next.back());
            std::copy(own.begin(), own.end(), logits + r * vocabulary_);
            for (size_t j = 0; attention && j < width; ++j)
                attention[r * width + j] = static_cast<float>(next.back().back()) + 0.1f * static_cast<float>(j);
        }
        rows_ = next;
        most_rows = std::max(most_rows, rows);
        ++steps;
    }

    // Of a source followed by <bos> and tokens.
    std::vector<float> of(const Tokens& read) const {
        uint64_t key = seed_;
        for (const int32_t id : read) key = random_key(key, static_cast<uint64_t>(id) + 1);
        std::vector<float> logits(vocabulary_);
        for (size_t v = 0; v < vocabulary_; ++v) {
            const double u = random_uniform(key, v);
            logits[v] = static_cast<float>(levels_ ? std::floor(u * static_cast<double>(levels_)) : 4.0 * u);
        }
        return logits;
    }

    size_t width = 4, most_rows = 0, steps = 0;

private:
    size_t vocabulary_;
    uint64_t seed_;
    size_t levels_;
    std::vector<Tokens> rows_;
};

struct Sequence {
    Tokens tokens;
    double log_probability, score;
    bool ended;
};

bool better(const Sequence& a, const Sequence& b) {
    if (a.ended != b.ended) return a.ended;
    return a.score != b.score ? a.score > b.score : a.tokens < b.tokens;
}

// Every sequence of a source, best first.
std::vector<Sequence> all_sequences(const HashModel& model, int32_t source, const DecodeOptions& o) {
    std::vector<Sequence> all;
    const auto score = [&](double p, size_t n) { return p / std::pow(static_cast<double>(n), o.length_penalty); };
    const std::function<void(const Tokens&, double)> extend = [&](const Tokens& tokens, double log_probability) {
        Tokens read{source, o.bos};
        read.insert(read.end(), tokens.begin(), tokens.end());
        const std::vector<float> logits = model.of(read);
        const double log_sum = log_sum_exp(active(), logits.data(), logits.size());
        for (size_t v = 0; v < logits.size(); ++v) {
            const auto id = static_cast<int32_t>(v);
            if (id == o.pad || id == o.bos) continue;
            const double p = log_probability + (static_cast<double>(logits[v]) - log_sum);
            Tokens longer = tokens;
            longer.push_back(id);
            if (id == o.eos)
                all.push_back({tokens, p, score(p, longer.size()), true});
            else if (longer.size() == o.max_length)
                all.push_back({longer, p, score(p, longer.size()), false});
            else
                extend(longer, p);
        }
    };
    extend({}, 0.0);
    std::sort(all.begin(), all.end(), better);
    return all;
}

// The same by a search that keeps whole sequences and sorts all continuations.
std::vector<Sequence> plain_beam(const HashModel& model, int32_t source, const DecodeOptions& o) {
    std::vector<Sequence> ended, running{{{}, 0.0, 0.0, false}};
    while (!running.empty()) {
        std::vector<Sequence> next;
        for (const Sequence& s : running) {
            Tokens read{source, o.bos};
            read.insert(read.end(), s.tokens.begin(), s.tokens.end());
            const std::vector<float> logits = model.of(read);
            const double log_sum = log_sum_exp(active(), logits.data(), logits.size());
            for (size_t v = 0; v < logits.size(); ++v) {
                const auto id = static_cast<int32_t>(v);
                if (id == o.pad || id == o.bos) continue;
                next.push_back(s);
                next.back().tokens.push_back(id);
                next.back().log_probability += static_cast<double>(logits[v]) - log_sum;
            }
        }
        std::stable_sort(next.begin(), next.end(),
                         [](const Sequence& a, const Sequence& b) { return a.log_probability > b.log_probability; });
        next.resize(std::min(next.size(), o.beam_size - ended.size()));
        running.clear();
        for (Sequence& s : next) {
            const size_t length = s.tokens.size();
            s.ended = s.tokens.back() == o.eos;
            s.score = s.log_probability / std::pow(static_cast<double>(length), o.length_penalty);
            if (s.ended) s.tokens.pop_back();
            (s.ended || length == o.max_length ? ended : running).push_back(s);
        }
    }
    std::sort(ended.begin(), ended.end(), better);
    return ended;
}

// Sources 0, 1, ... of lengths 1 to the model's width.
std::vector<std::vector<Hypothesis>> searched(HashModel& model, size_t sources, const DecodeOptions& o,
                                              bool attention = false) {
    SearchSources s;
    s.steps = model.width;
    for (size_t i = 0; i < sources; ++i) s.lengths.push_back(1 + i % s.steps);
    return search(model, s, o, attention);
}

Tokens first_numbers(size_t count) {
    Tokens numbers(count);
    std::iota(numbers.begin(), numbers.end(), 0);
    return numbers;
}

void check_equal(const std::vector<Hypothesis>& found, const std::vector<Sequence>& expected) {
    for (size_t i = 0; i < found.size(); ++i) {
        CAPTURE(i);
        REQUIRE(found[i].tokens == expected[i].tokens);
        REQUIRE(found[i].log_probability == expected[i].log_probability);
        REQUIRE(found[i].score == expected[i].score);
        REQUIRE(found[i].ended == expected[i].ended);
    }
}

}  // namespace

TEST_CASE("a beam as wide as all prefixes equals exhaustive search") {
    size_t stopped_early = 0;
    for (const size_t levels : {size_t{0}, size_t{3}, size_t{1}})  // 1: all tokens equally likely
        for (const double penalty : {0.0, 0.75, 1.5})
            for (const size_t n_best : {size_t{1}, size_t{7}, size_t{400}}) {
                CAPTURE(levels);
                CAPTURE(penalty);
                CAPTURE(n_best);
                DecodeOptions o;
                o.max_length = 5;
                o.beam_size = 400;  // 1 + 3 + 9 + 27 + 81 sequences that end, 243 that do not
                o.n_best = n_best;
                o.length_penalty = penalty;
                HashModel model(6, {0, 1, 2}, 11, levels);
                const auto found = searched(model, 3, o);
                stopped_early += model.steps < o.max_length;
                for (size_t s = 0; s < 3; ++s) {
                    const auto expected = all_sequences(model, static_cast<int32_t>(s), o);
                    REQUIRE(expected.size() == 364);
                    REQUIRE(found[s].size() == std::min(n_best, expected.size()));
                    check_equal(found[s], expected);
                }
            }
    CHECK(stopped_early > 0);
}

TEST_CASE("beam size 1 takes the most probable token until <eos>") {
    DecodeOptions o;
    o.max_length = 9;
    size_t cut = 0;
    for (const size_t levels : {size_t{0}, size_t{2}}) {
        HashModel model(9, first_numbers(40), 5, levels);
        const auto found = searched(model, 40, o);
        for (size_t s = 0; s < 40; ++s) {
            Tokens read{static_cast<int32_t>(s), o.bos};
            while (read.size() < 2 + o.max_length) {
                std::vector<float> logits = model.of(read);
                logits[1] = logits[2] = -INFINITY;
                read.push_back(static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
                if (read.back() == o.eos) break;
            }
            const bool ended = read.back() == o.eos;
            cut += !ended;
            REQUIRE(found[s].size() == 1);
            REQUIRE(found[s][0].tokens == Tokens(read.begin() + 2, read.end() - (ended ? 1 : 0)));
            REQUIRE(found[s][0].ended == ended);
        }
    }
    CHECK(cut > 0);
    CHECK(cut < 80);
}

TEST_CASE("narrow beams keep the same prefixes as a search that sorts everything") {
    for (const size_t levels : {size_t{0}, size_t{2}})
        for (const size_t beam : {size_t{1}, size_t{2}, size_t{3}, size_t{10}}) {
            CAPTURE(levels);
            CAPTURE(beam);
            DecodeOptions o;
            o.beam_size = beam;
            o.max_length = 12;
            HashModel model(150, first_numbers(5), 21, levels);
            const auto found = searched(model, 5, o);
            for (size_t s = 0; s < 5; ++s) check_equal(found[s], plain_beam(model, static_cast<int32_t>(s), o));
            o.n_best = beam;
            HashModel again(150, first_numbers(5), 21, levels);
            const auto all = searched(again, 5, o);
            for (size_t s = 0; s < 5; ++s) {
                REQUIRE(all[s].size() == beam);
                check_equal(all[s], plain_beam(again, static_cast<int32_t>(s), o));
            }
        }
}

TEST_CASE("a source's sequences do not depend on the others, nor on their padding") {
    for (const size_t levels : {size_t{0}, size_t{2}})
        for (const size_t beam : {size_t{1}, size_t{2}, size_t{5}, size_t{17}}) {
            DecodeOptions o;
            o.beam_size = o.n_best = beam;
            HashModel together(12, first_numbers(8), 3, levels);
            const auto all = searched(together, 8, o, true);
            CHECK(together.most_rows <= 8 * beam);
            for (size_t s = 0; s < 8; ++s) {
                HashModel alone(12, {static_cast<int32_t>(s)}, 3, levels);
                SearchSources one;
                one.lengths = {1 + s % together.width};
                one.steps = alone.width = one.lengths[0];
                const auto found = search(alone, one, o, true)[0];
                REQUIRE(found.size() == all[s].size());
                for (size_t i = 0; i < found.size(); ++i) {
                    REQUIRE(found[i].tokens == all[s][i].tokens);
                    REQUIRE(found[i].score == all[s][i].score);
                    REQUIRE(found[i].attention == all[s][i].attention);
                }
            }
        }
}

TEST_CASE("attention is that of the steps that chose the tokens") {
    DecodeOptions o;
    o.beam_size = o.n_best = 4;
    o.max_length = 6;
    HashModel model(7, first_numbers(3), 8);
    for (const auto& sequences : searched(model, 3, o, true))
        for (const Hypothesis& h : sequences) {
            const size_t steps = h.tokens.size() + (h.ended ? 1 : 0), length = h.attention.size() / steps;
            REQUIRE(length * steps == h.attention.size());
            for (size_t t = 0; t < steps; ++t)  // the model writes there what it has read last
                for (size_t j = 0; j < length; ++j)
                    REQUIRE(h.attention[t * length + j] ==
                            static_cast<float>(t ? h.tokens[t - 1] : o.bos) + 0.1f * static_cast<float>(j));
        }
}

TEST_CASE("forced scores are bit-identical to the log-probabilities of the search") {
    DecodeOptions o;
    o.beam_size = o.n_best = 6;
    HashModel model(20, first_numbers(4), 2);
    const auto found = searched(model, 4, o);
    std::vector<Tokens> targets;
    Tokens sources;
    std::vector<double> expected;
    for (size_t s = 0; s < 4; ++s)
        for (const Hypothesis& h : found[s]) {
            if (!h.ended) continue;
            targets.push_back(h.tokens);
            sources.push_back(static_cast<int32_t>(s));
            expected.push_back(h.log_probability);
        }
    REQUIRE(targets.size() > 10);
    HashModel forced(20, sources, 2);
    CHECK(forced_scores(forced, targets, o) == expected);
    HashModel other(20, {0}, 2);
    CHECK_THROWS_AS(forced_scores(other, {{5, 20}}, o), std::out_of_range);
}

TEST_CASE("a search reports what is wrong with its options or its model") {
    const auto refused = [](DecodeOptions o, const char* part) {
        HashModel model(6, {0}, 1);
        std::string text;
        try {
            searched(model, 1, o);
        } catch (const std::invalid_argument& error) {
            text = error.what();
        }
        CAPTURE(text);
        CHECK(text.find(part) != std::string::npos);
    };
    DecodeOptions o;
    o.beam_size = 0;
    refused(o, "beam_size is 0");
    o = {};
    o.n_best = 2;
    refused(o, "n_best is 2");
    o = {};
    o.length_penalty = -1;
    refused(o, "length_penalty is -1");
    o = {};
    o.eos = 6;
    refused(o, "not in the vocabulary of 6");
    o = {};
    o.eos = o.bos;
    refused(o, "a different one");

    class Broken : public HashModel {
    public:
        Broken() : HashModel(6, {0}, 1) {}
        void step(const size_t* p, const int32_t* previous, size_t rows, float* logits, float* a) override {
            HashModel::step(p, previous, rows, logits, a);
            logits[5] = NAN;
        }
    } broken;
    CHECK_THROWS_AS(searched(broken, 1, {}), std::domain_error);
}
