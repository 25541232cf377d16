#include "models/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

#include "core/random.h"

namespace rnnfast {

Sampler::Sampler(SamplerOptions options) : options_(options) {
    if (!(options_.temperature >= 0.0) || !std::isfinite(options_.temperature))
        throw std::invalid_argument("temperature is " + std::to_string(options_.temperature) +
                                    ": expected 0 (the most likely token) or more");
    if (!(options_.top_p > 0.0 && options_.top_p <= 1.0))
        throw std::invalid_argument("top_p is " + std::to_string(options_.top_p) +
                                    ": expected more than 0 and at most 1 (all tokens)");
}

// Leaves in ids_, in rising order, the fewest tokens that together have top_p of the probability of those there.
void Sampler::keep_nucleus(const float* logits) {
    std::sort(ids_.begin(), ids_.end(),
              [logits](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
    weights_.resize(ids_.size());
    double total = 0;
    for (size_t i = 0; i < ids_.size(); ++i)
        weights_[i] = total += std::exp((static_cast<double>(logits[ids_[i]]) - static_cast<double>(logits[ids_[0]])) /
                                        options_.temperature);
    const auto last = std::lower_bound(weights_.begin(), weights_.end(), options_.top_p * total);
    ids_.resize(std::min(static_cast<size_t>(last - weights_.begin()) + 1, ids_.size()));
    std::sort(ids_.begin(), ids_.end());
}

int32_t Sampler::sample(const float* logits, size_t vocabulary) {
    const auto likelier = [logits](int32_t a, int32_t b) {  // ties go to the lower id
        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    };
    const float top = *std::max_element(logits, logits + vocabulary);
    if (!std::isfinite(top))
        throw std::domain_error("the logits are not finite: the model's weights or its state are damaged");
    if (options_.temperature == 0.0 || options_.top_k == 1)
        return static_cast<int32_t>(std::max_element(logits, logits + vocabulary) - logits);
    ids_.resize(vocabulary);
    std::iota(ids_.begin(), ids_.end(), 0);
    if (options_.top_k && options_.top_k < vocabulary) {
        std::nth_element(ids_.begin(), ids_.begin() + static_cast<ptrdiff_t>(options_.top_k), ids_.end(), likelier);
        ids_.resize(options_.top_k);
        std::sort(ids_.begin(), ids_.end());
    }
    if (options_.top_p < 1.0) keep_nucleus(logits);
    weights_.resize(ids_.size());
    double total = 0;
    for (size_t i = 0; i < ids_.size(); ++i)
        weights_[i] = total +=
            std::exp((static_cast<double>(logits[ids_[i]]) - static_cast<double>(top)) / options_.temperature);
    const double point = random_uniform(random_key(options_.seed, 0), draws_++) * total;
    const auto at = std::upper_bound(weights_.begin(), weights_.end(), point) - weights_.begin();
    return ids_[std::min(static_cast<size_t>(at), ids_.size() - 1)];
}

}  // namespace rnnfast
