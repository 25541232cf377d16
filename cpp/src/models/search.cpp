#include "models/search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#include "ops/softmax_loss.h"
#include "runtime/check.h"
#include "runtime/parallel.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

constexpr size_t none = static_cast<size_t>(-1);
constexpr double work_per_logit = 20;  // operations of exp and of comparisons

struct Choice {
    float logit;
    int32_t token;
};

// The `most` largest of some logits, largest first, ties to the lower id, in one pass.
class Largest {
public:
    Largest(Choice* choices, size_t most) : choices_(choices), most_(most) {}
    size_t size() const { return size_; }

    void scan(const float* logits, size_t size) {
        for (size_t at = 0; at < size; at += block) {
            const size_t count = std::min(block, size - at);
            bool any = false;  // most blocks hold nothing large enough: one comparison a number, in vectors
            for (size_t i = 0; i < count; ++i) any |= logits[at + i] > least_;
            for (size_t i = 0; any && i < count; ++i)
                if (logits[at + i] > least_) insert({logits[at + i], static_cast<int32_t>(at + i)});
        }
    }

private:
    void insert(Choice c) {
        size_t at = size_ < most_ ? size_++ : size_ - 1;
        for (; at && choices_[at - 1].logit < c.logit; --at) choices_[at] = choices_[at - 1];
        choices_[at] = c;
        if (size_ == most_) least_ = choices_[size_ - 1].logit;
    }

    static constexpr size_t block = 64;
    Choice* choices_;
    size_t most_, size_ = 0;
    float least_ = -std::numeric_limits<float>::infinity();
};

double normalised(double log_probability, size_t length, double penalty) {
    return log_probability / std::pow(static_cast<double>(length), penalty);
}

[[noreturn]] void refuse_logits() {
    throw std::domain_error("the logits have NaN or infinity: the model's weights or its state are not finite");
}

// Tokens that no search chooses: <pad>, <bos> and those of the options.
std::vector<int32_t> never_chosen(const DecodeOptions& o) {
    std::vector<int32_t> never = o.never;
    for (const int32_t id : {o.pad, o.bos})
        if (id != no_token) never.push_back(id);
    return never;
}

class BeamSearch {
public:
    BeamSearch(StepModel& model, const SearchSources& sources, const DecodeOptions& options, bool attention)
        : model_(model),
          sources_(sources),
          options_(options),
          attention_(attention),
          never_(never_chosen(options)),
          ended_(sources.lengths.size()) {
        for (size_t s = 0; s < sources.lengths.size(); ++s) running_.push_back({s, none, 0.0});
        for (const size_t length : sources.lengths) limits_.push_back(length_limit(options, length));
    }

    std::vector<std::vector<Hypothesis>> run() {
        while (!running_.empty()) {
            step();
            choose();
            advance();
        }
        for (std::vector<Hypothesis>& all : ended_) {
            rank(all);
            if (all.size() > options_.n_best) all.resize(options_.n_best);
        }
        return std::move(ended_);
    }

private:
    // A token of a sequence and what came before: sequences share their prefixes.
    struct Node {
        size_t before;  // none: the first token
        int32_t token;
        size_t step, row;  // which row of which step chose it
    };
    struct Prefix {
        size_t source, node;
        double log_probability;
    };
    struct Continuation {
        double log_probability;
        size_t row;
        int32_t token;
    };

    size_t places(size_t source) const { return options_.beam_size - ended_[source].size(); }

    // Logits of what follows each running row.
    void step() {
        const size_t rows = running_.size(), vocabulary = model_.vocabulary();
        parents_.resize(rows);
        previous_.resize(rows);
        for (size_t r = 0; r < rows; ++r) {
            const Prefix& b = running_[r];
            parents_[r] = b.node == none ? b.source : parent_rows_[r];
            previous_[r] = b.node == none ? options_.bos : nodes_[b.node].token;
        }
        logits_.reserve(rows * vocabulary);
        float* weights = nullptr;
        if (attention_) {
            trace_.emplace_back(rows * sources_.steps);
            weights = trace_.back().data();
        }
        model_.step(parents_.data(), previous_.data(), rows, logits_.data(), weights);
    }

    // The most probable tokens of each row, as many as its source has places.
    void choose() {
        const size_t rows = running_.size(), vocabulary = model_.vocabulary();
        const size_t most = std::min(options_.beam_size, vocabulary);
        choices_.resize(rows * most);
        counts_.resize(rows);
        log_sums_.resize(rows);
        parallel(threads_for(work_per_logit * static_cast<double>(rows * vocabulary)), [&](const Team& team) {
            const Range own = split(rows, team.size, team.index);
            for (size_t r = own.begin; r < own.end; ++r) {
                float* logits = logits_.data() + r * vocabulary;
                log_sums_[r] = log_sum_exp(model_.kernels(), logits, vocabulary);
                forbid(running_[r], logits);
                Largest largest(choices_.data() + r * most, std::min(most, places(running_[r].source)));
                largest.scan(logits, vocabulary);
                counts_[r] = largest.size();
            }
        });
        for (const double log_sum : log_sums_)
            if (!std::isfinite(log_sum)) refuse_logits();
    }

    // Minus infinity for tokens that may not follow a prefix.
    void forbid(const Prefix& prefix, float* logits) const {
        constexpr float forbidden = -std::numeric_limits<float>::infinity();
        for (const int32_t id : never_) logits[id] = forbidden;
        const size_t n = options_.no_repeat_ngram_size;
        if (n == 0) return;
        std::vector<int32_t> read(sources_.prefix.size() + steps_);
        std::copy(sources_.prefix.begin(), sources_.prefix.end(), read.begin());
        size_t at = read.size();
        for (size_t node = prefix.node; node != none; node = nodes_[node].before) read[--at] = nodes_[node].token;
        for (size_t i = 0; i + n <= read.size(); ++i)
            if (std::equal(read.end() - static_cast<ptrdiff_t>(n - 1), read.end(),
                           read.begin() + static_cast<ptrdiff_t>(i)))
                logits[read[i + n - 1]] = forbidden;
    }

    // From all rows of a source its next prefixes; the sources' rows stay together, the most probable first.
    void advance() {
        const size_t most = std::min(options_.beam_size, model_.vocabulary());
        next_.clear();
        parent_rows_.clear();
        ++steps_;
        for (size_t first = 0, end; first < running_.size(); first = end) {
            const size_t source = running_[first].source;
            all_.clear();
            for (end = first; end < running_.size() && running_[end].source == source; ++end)
                for (size_t i = 0; i < counts_[end]; ++i) {
                    const Choice& c = choices_[end * most + i];
                    all_.push_back({running_[end].log_probability + (static_cast<double>(c.logit) - log_sums_[end]),
                                    end, c.token});
                }
            const size_t kept = std::min(places(source), all_.size());
            std::partial_sort(all_.begin(), all_.begin() + static_cast<ptrdiff_t>(kept), all_.end(),
                              [](const Continuation& a, const Continuation& b) {
                                  if (a.log_probability != b.log_probability)
                                      return a.log_probability > b.log_probability;
                                  return a.row != b.row ? a.row < b.row : a.token < b.token;
                              });
            all_.resize(kept);
            keep(source);
        }
        running_.swap(next_);
    }

    // Takes over what is in all_: sequences that ended, and prefixes to continue unless they cannot win.
    void keep(size_t source) {
        if (all_.empty() && ended_[source].empty())
            throw std::domain_error("no token is left to continue with after " + std::to_string(steps_ - 1) +
                                    ": each is impossible, forbidden by an option, or would repeat an n-gram");
        const size_t started = next_.size();
        for (const Continuation& c : all_) {
            nodes_.push_back({running_[c.row].node, c.token, steps_ - 1, c.row});
            const size_t node = nodes_.size() - 1;
            if (c.token == options_.eos || steps_ == limits_[source]) {
                ended_[source].push_back(finished(source, node, c.log_probability));
            } else {
                next_.push_back({source, node, c.log_probability});
                parent_rows_.push_back(c.row);
            }
        }
        if (next_.size() == started || !decided(source, next_[started].log_probability)) return;
        next_.resize(started);
        parent_rows_.resize(started);
    }

    // No continuation of a prefix this likely can be among the n_best: at best all its further tokens are certain.
    bool decided(size_t source, double log_probability) {
        std::vector<Hypothesis>& all = ended_[source];
        if (all.size() < options_.n_best) return false;
        rank(all);
        return normalised(log_probability, limits_[source], options_.length_penalty) < all[options_.n_best - 1].score;
    }

    Hypothesis finished(size_t source, size_t node, double log_probability) const {
        Hypothesis h;
        h.ended = nodes_[node].token == options_.eos;
        h.log_probability = log_probability;
        h.score = normalised(log_probability, steps_, options_.length_penalty);
        h.tokens.resize(steps_);
        const size_t length = sources_.lengths[source];
        if (attention_) h.attention.resize(steps_ * length);
        for (size_t at = steps_; at-- > 0; node = nodes_[node].before) {
            const Node& n = nodes_[node];
            h.tokens[at] = n.token;
            if (attention_)
                std::copy_n(trace_[n.step].data() + n.row * sources_.steps, length, h.attention.data() + at * length);
        }
        if (h.ended) h.tokens.pop_back();
        return h;
    }

    // The best first.
    static void rank(std::vector<Hypothesis>& all) {
        std::sort(all.begin(), all.end(), [](const Hypothesis& a, const Hypothesis& b) {
            if (a.ended != b.ended) return a.ended;
            return a.score != b.score ? a.score > b.score : a.tokens < b.tokens;
        });
    }

    StepModel& model_;
    const SearchSources& sources_;
    const DecodeOptions options_;
    const bool attention_;
    const std::vector<int32_t> never_;
    std::vector<size_t> limits_;  // of each source's length
    size_t steps_ = 0;
    std::vector<Node> nodes_;
    std::vector<Prefix> running_, next_;
    std::vector<size_t> parents_, parent_rows_;
    std::vector<int32_t> previous_;
    Buffer logits_;
    std::vector<std::vector<float>> trace_;  // attention of every step
    std::vector<Choice> choices_;            // [rows, most]
    std::vector<size_t> counts_;
    std::vector<double> log_sums_;
    std::vector<Continuation> all_;
    std::vector<std::vector<Hypothesis>> ended_;
};

// What BeamSearch with beam_size 1 finds, without scores.
std::vector<std::vector<Hypothesis>> greedy(StepModel& model, const SearchSources& sources, const DecodeOptions& o) {
    std::vector<std::vector<Hypothesis>> found(sources.lengths.size());
    std::vector<size_t> running(found.size()), parents;
    std::iota(running.begin(), running.end(), size_t{0});
    parents = running;
    std::vector<int32_t> previous(running.size(), o.bos), tokens;
    std::vector<int32_t> never = never_chosen(o);
    std::sort(never.begin(), never.end());
    for (std::vector<Hypothesis>& one : found) one.resize(1);
    while (!running.empty()) {
        const size_t rows = running.size();
        tokens.resize(rows);
        model.step_argmax(parents.data(), previous.data(), rows, never, tokens.data());
        size_t kept = 0;  // rows that continue
        for (size_t r = 0; r < rows; ++r) {
            if (tokens[r] == no_token) refuse_logits();
            Hypothesis& h = found[running[r]][0];
            h.log_probability = h.score = std::numeric_limits<double>::quiet_NaN();
            h.ended = tokens[r] == o.eos;
            if (!h.ended) h.tokens.push_back(tokens[r]);
            if (h.ended || h.tokens.size() == length_limit(o, sources.lengths[running[r]])) continue;
            running[kept] = running[r];
            parents[kept] = r;
            previous[kept++] = tokens[r];
        }
        running.resize(kept);
    }
    return found;
}

}  // namespace

void StepModel::step_argmax(const size_t* parents, const int32_t* previous, size_t rows,
                            const std::vector<int32_t>& never, int32_t* tokens) {
    std::vector<float> logits(rows * vocabulary());
    step(parents, previous, rows, logits.data(), nullptr);
    for (size_t r = 0; r < rows; ++r) {
        float* row = logits.data() + r * vocabulary();
        const bool finite = std::isfinite(log_sum_exp(kernels(), row, vocabulary()));
        for (const int32_t id : never) row[id] = -std::numeric_limits<float>::infinity();
        tokens[r] = finite ? static_cast<int32_t>(std::max_element(row, row + vocabulary()) - row) : no_token;
    }
}

size_t length_limit(const DecodeOptions& options, size_t source_length) {
    return options.max_length ? options.max_length : 2 * source_length + 10;
}

void check_options(const DecodeOptions& o, size_t vocabulary) {
    if (o.beam_size == 0) refuse({"beam_size is 0: expected at least 1 (greedy search)"});
    if (o.n_best == 0 || o.n_best > o.beam_size)
        refuse({"n_best is ", o.n_best, ": expected 1 to ", o.beam_size, " (beam_size)"});
    if (!(o.length_penalty >= 0.0) || !std::isfinite(o.length_penalty))
        refuse({"length_penalty is ", std::to_string(o.length_penalty), ": expected 0 or more"});
    for (const int32_t id : {o.pad, o.bos, o.eos})
        if (id != no_token && (id < 0 || static_cast<size_t>(id) >= vocabulary))
            refuse({"the id ", id, " of <pad>, <bos> or <eos> is not in the vocabulary of ", vocabulary});
    if (o.eos != no_token && (o.eos == o.bos || o.eos == o.pad))
        refuse({"<eos> has the id ", o.eos, " of <pad> or <bos>: expected a different one"});
}

std::vector<std::vector<Hypothesis>> search(StepModel& model, const SearchSources& sources,
                                            const DecodeOptions& options, bool attention) {
    check_options(options, model.vocabulary());
    if (options.beam_size == 1 && !options.scores && !attention && !options.no_repeat_ngram_size)
        return greedy(model, sources, options);
    return BeamSearch(model, sources, options, attention).run();
}

std::vector<double> forced_scores(StepModel& model, const std::vector<std::vector<int32_t>>& targets,
                                  const DecodeOptions& options) {
    const size_t vocabulary = model.vocabulary();
    check_options(options, vocabulary);
    for (size_t s = 0; s < targets.size(); ++s) {
        const std::string what = "target " + std::to_string(s) + ": token id";
        check_ids(targets[s].data(), targets[s].size(), {vocabulary, what.c_str()});
    }
    std::vector<double> scores(targets.size(), 0.0), log_sums;
    std::vector<size_t> running(targets.size()), parents, next_parents;
    std::iota(running.begin(), running.end(), size_t{0});
    parents = running;
    std::vector<int32_t> previous(targets.size(), options.bos);
    Buffer logits;
    for (size_t t = 0; !running.empty(); ++t) {
        const size_t rows = running.size();
        logits.reserve(rows * vocabulary);
        model.step(parents.data(), previous.data(), rows, logits.data(), nullptr);
        log_sums.resize(rows);
        parallel(threads_for(work_per_logit * static_cast<double>(rows * vocabulary)), [&](const Team& team) {
            const Range own = split(rows, team.size, team.index);
            for (size_t r = own.begin; r < own.end; ++r)
                log_sums[r] = log_sum_exp(model.kernels(), logits.data() + r * vocabulary, vocabulary);
        });
        next_parents.clear();
        size_t kept = 0;  // rows whose target goes on
        for (size_t r = 0; r < rows; ++r) {
            if (!std::isfinite(log_sums[r])) refuse_logits();
            const std::vector<int32_t>& target = targets[running[r]];
            const int32_t id = t < target.size() ? target[t] : options.eos;
            scores[running[r]] +=
                static_cast<double>(logits.data()[r * vocabulary + static_cast<size_t>(id)]) - log_sums[r];
            if (t == target.size()) continue;
            running[kept] = running[r];
            previous[kept++] = id;
            next_parents.push_back(r);
        }
        running.resize(kept);
        previous.resize(kept);
        parents.swap(next_parents);
    }
    return scores;
}

}  // namespace rnnfast::core
