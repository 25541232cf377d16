// Greedy and beam search for the likeliest sequences of any model that gives the logits of a next token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/table.h"

namespace rnnfast::core {

// A model as a search sees it. A row is a beginning of a sequence; the model keeps what each row's state needs.
class StepModel {
public:
    virtual ~StepModel() = default;
    virtual const Kernels& kernels() const = 0;
    virtual size_t vocabulary() const = 0;
    // Row r goes on from row parents[r] of the step before (at the first step: from source parents[r]) and reads
    // previous[r]. logits: [rows, V] out; attention: [rows, S] out, or nullptr.
    virtual void step(const size_t* parents, const int32_t* previous, size_t rows, float* logits, float* attention) = 0;
};

// What there is to translate, beside the model's own memory of it.
struct SearchSources {
    std::vector<size_t> lengths;  // of each source, its <eos> counted
    size_t steps = 0;             // S, the longest
};

struct DecodeOptions {
    size_t beam_size = 1;          // sequences kept; 1: greedy
    size_t n_best = 1;             // sequences given back, at most beam_size
    size_t max_length = 0;         // tokens of a sequence at most, <eos> counted; 0: twice its source's length and ten
    double length_penalty = 0.75;  // score = log P / length^penalty: more favours longer ones
    int32_t pad = 1, bos = 2, eos = 3;
    bool scores = true;  // false: log-probabilities and scores are not wanted, which makes greedy translation faster
};

// Most tokens of a sequence, <eos> counted.
size_t length_limit(const DecodeOptions& options, size_t source_length);
// Throws std::invalid_argument for options that cannot be.
void check_options(const DecodeOptions& options, size_t vocabulary);

struct Hypothesis {
    std::vector<int32_t> tokens;   // without <bos> and <eos>
    double log_probability = 0;    // of the tokens and, if it ended, of <eos>; in nats
    double score = 0;              // log_probability / length^penalty, where the length counts <eos>
    bool ended = false;            // by <eos>; else by max_length
    std::vector<float> attention;  // [tokens, and one more for <eos> if it ended; the source's length], if asked for
};

// For each source its n_best sequences, or fewer if there are not so many: those that ended first, by falling score,
// ties in the order of their ids.
//
// Every step continues the beginnings with each token, and keeps the likeliest beam_size less the sequences that ended,
// so that beam_size 1 is greedy search. Equal probabilities: the better beginning, then the lower id. <pad> and <bos>
// are never chosen. A source is done when beam_size sequences ended, or none that runs could still be among its n_best.
// Its result does not depend on the other sources.
std::vector<std::vector<Hypothesis>> search(StepModel& model, const SearchSources& sources,
                                            const DecodeOptions& options, bool attention);

// log P(target, <eos>) of one target a source, in nats: what search says of the same sequence, to the bit.
std::vector<double> forced_scores(StepModel& model, const std::vector<std::vector<int32_t>>& targets,
                                  const DecodeOptions& options);

}  // namespace rnnfast::core
