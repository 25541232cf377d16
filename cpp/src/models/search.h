// Greedy and beam search for the most probable sequences, of any model that gives the logits of a next token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/table.h"

namespace rnnfast::core {

// A model as a search sees it. A row is a prefix of a sequence; the model keeps the state of each row.
class StepModel {
public:
    virtual ~StepModel() = default;
    virtual const Kernels& kernels() const = 0;
    virtual size_t vocabulary() const = 0;
    // Row r continues row parents[r] of the step before (at the first step: source parents[r]) and reads previous[r].
    // logits: [rows, V] out; attention: [rows, S] out, or nullptr.
    virtual void step(const size_t* parents, const int32_t* previous, size_t rows, float* logits, float* attention) = 0;
    // The same, but gives each row's argmax alone, excluding `never`; -1 where the logits are not finite. A model that
    // finds it without all logits is faster.
    virtual void step_argmax(const size_t* parents, const int32_t* previous, size_t rows,
                             const std::vector<int32_t>& never, int32_t* tokens);
};

// The sequences to translate or to continue; the model holds their contents.
struct SearchSources {
    std::vector<size_t> lengths;  // of each source, its <eos> counted
    size_t steps = 0;             // S, the longest
    std::vector<int32_t> prefix;  // tokens before the first step, of every source; they matter to n-grams alone
};

struct DecodeOptions {
    size_t beam_size = 1;          // sequences kept; 1: greedy
    size_t n_best = 1;             // sequences returned, at most beam_size
    size_t max_length = 0;         // most tokens of a sequence, <eos> counted; 0: twice its source's length plus ten
    double length_penalty = 0.75;  // score = log P / length^penalty: more favours longer sequences
    int32_t pad = 1, bos = 2, eos = 3;  // eos no_token: every sequence has max_length tokens
    bool scores = true;  // false: log-probabilities and scores are not wanted, which makes greedy search faster
    std::vector<int32_t> never{};     // tokens that are not chosen, besides <pad> and <bos>
    size_t no_repeat_ngram_size = 0;  // n above 0: no n tokens in a row occur twice
};
constexpr int32_t no_token = -1;

// Most tokens of a sequence, <eos> counted.
size_t length_limit(const DecodeOptions& options, size_t source_length);
// Throws std::invalid_argument for options that no search can have.
void check_options(const DecodeOptions& options, size_t vocabulary);

struct Hypothesis {
    std::vector<int32_t> tokens;   // without <bos> and <eos>
    double log_probability = 0;    // of the tokens and, if it ended, of <eos>; in nats
    double score = 0;              // log_probability / length^penalty, where the length counts <eos>
    bool ended = false;            // by <eos>; otherwise by max_length
    std::vector<float> attention;  // [tokens, plus one for <eos> if it ended; the source's length], if asked for
};

// For each source its n_best sequences, or fewer if there are not so many: those that ended first, by falling score,
// ties in the order of their ids.
//
// Each step continues the prefixes with every token, and keeps the most probable beam_size less the sequences that
// ended, so that beam_size 1 is greedy search. Equal probabilities: the better prefix, then the lower id. A source is
// finished when beam_size sequences ended, or no running one could still be among its n_best. Its result does not
// depend on the other sources.
std::vector<std::vector<Hypothesis>> search(StepModel& model, const SearchSources& sources,
                                            const DecodeOptions& options, bool attention);

// log P(target, <eos>) of one target for each source, in nats: bit-identical to search's for the same sequence.
std::vector<double> forced_scores(StepModel& model, const std::vector<std::vector<int32_t>>& targets,
                                  const DecodeOptions& options);

}  // namespace rnnfast::core
