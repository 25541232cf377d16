// From logits to a token.
#pragma once

#include <map>

#include "rnnfast/sampler_options.hpp"

namespace rnnfast::core {

// Draw i of a seed and sample is always the same for the same logits.
class Sampler {
public:
    explicit Sampler(SamplerOptions options);

    // Tokens that precede those to be drawn; they matter to no_repeat_ngram_size alone.
    void read(const int32_t* tokens, size_t count);
    // The next draw depends on so many of the largest logits, which are those of forbidden tokens too, and on no
    // others; 0: on all.
    size_t reads_largest() const;
    // Minus infinity forbids a token. Throws std::domain_error for NaN, plus infinity, or if every token is forbidden.
    int32_t sample(const float* logits, size_t vocabulary);
    // A sampler that has read and drawn the same tokens, with the random stream of another sample.
    Sampler numbered(uint64_t sample) const;

    // Options, what was read and how often it drew, as bytes. restored() throws std::invalid_argument for others.
    std::vector<uint8_t> save() const;
    static Sampler restored(const void* bytes, size_t size);

private:
    const float* allowed(const float* logits, size_t vocabulary);
    int32_t draw(const float* logits, size_t vocabulary, float top);
    void sort_by_logit(const float* logits);
    void keep_nucleus(const float* logits);

    SamplerOptions options_;
    uint64_t draws_ = 0;
    std::map<std::vector<int32_t>, std::vector<int32_t>> followers_;  // of each n - 1 tokens in a row
    std::vector<int32_t> recent_;                                     // the last n - 1 tokens
    std::vector<double> weights_;
    std::vector<float> tops_;
    std::vector<std::pair<uint32_t, int32_t>> keyed_, sorted_;
    std::vector<int32_t> ids_;
    std::vector<float> masked_;
};

}  // namespace rnnfast::core
