// What a sequence-to-sequence model makes of sentences: translations by search, and scores of given pairs.
#pragma once

#include "models/search.h"
#include "models/seq2seq/seq2seq.h"

namespace rnnfast::core {

using Sentences = std::vector<std::vector<int32_t>>;  // ids, without <bos> and <eos>

constexpr size_t sentences_at_once = 64;

// For each source its n_best sequences as search() finds them; a source without tokens has one, which is empty too.
// Sources of similar length are searched together, batch_size at once; the results are those of one by one to the bit.
std::vector<std::vector<Hypothesis>> translate(const Seq2Seq& model, const Sentences& sources,
                                               const DecodeOptions& options, bool attention,
                                               size_t batch_size = sentences_at_once);

// log P(target, <eos> | source) in nats of each pair: what translate says of the same sequence, to the bit.
std::vector<double> score_pairs(const Seq2Seq& model, const Sentences& sources, const Sentences& targets,
                                const DecodeOptions& options, size_t batch_size = sentences_at_once);

}  // namespace rnnfast::core
