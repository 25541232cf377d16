// How to sample the next token from the logits of a model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rnnfast {

struct SamplerOptions {
    double temperature = 1.0;  // 0: always the most probable token
    size_t top_k = 0;          // 0: all tokens; else only the k most probable
    uint64_t seed = 0;
    double top_p = 1.0;   // below 1: only the most probable tokens that together reach this probability
    uint64_t sample = 0;  // samples 0, 1, 2, ... of one seed have independent random streams
    // n above 0: no n tokens in a row occur twice, including tokens given to Sampler::read, such as the prompt.
    size_t no_repeat_ngram_size = 0;
    std::vector<int32_t> never{};  // ids that are never sampled, such as 0, "<unk>"
};

}  // namespace rnnfast
