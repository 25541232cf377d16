// From logits to a token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rnnfast {

struct SamplerOptions {
    double temperature = 1.0;  // 0: the most likely token
    size_t top_k = 0;          // 0: all tokens; else only the k most likely
    uint64_t seed = 0;
    double top_p = 1.0;  // below 1: only the most likely that together reach this probability
};

// Draw i of a seed is always the same for the same logits.
class Sampler {
public:
    explicit Sampler(SamplerOptions options);
    int32_t sample(const float* logits, size_t vocabulary);

private:
    void keep_nucleus(const float* logits);

    SamplerOptions options_;
    uint64_t draws_ = 0;
    std::vector<double> weights_;
    std::vector<int32_t> ids_;
};

}  // namespace rnnfast
