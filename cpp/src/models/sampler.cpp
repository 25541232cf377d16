#include "models/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "runtime/check.h"
#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

constexpr float forbidden = -std::numeric_limits<float>::infinity();

constexpr size_t lanes = 64;  // not so few that the compiler unrolls loops over them, which it then leaves scalar

// The largest logit; the same pass finds NaN, which no comparison of maxima would show.
float largest(const float* logits, size_t vocabulary) {
    float top[lanes];
    std::fill(top, top + lanes, forbidden);
    uint32_t nan[lanes] = {};
    size_t at = 0;
    for (; at + lanes <= vocabulary; at += lanes)
        for (size_t i = 0; i < lanes; ++i) {
            const float logit = logits[at + i];
            top[i] = logit > top[i] ? logit : top[i];
            nan[i] |= logit != logit;
        }
    for (; at < vocabulary; ++at) {
        top[0] = std::max(top[0], logits[at]);
        nan[0] |= std::isnan(logits[at]);
    }
    if (std::find(nan, nan + lanes, 1u) != nan + lanes)
        throw std::domain_error("the logits have NaN: the model's weights or its state are not finite");
    const float all = *std::max_element(top, top + lanes);
    if (all > std::numeric_limits<float>::max())
        throw std::domain_error("the logits have infinity: the model's weights or its state are not finite");
    return all;
}

// A value that at least k logits reach: the k-th largest of the maxima of k or more groups of 16.
float reached_by(size_t k, const float* logits, size_t vocabulary, std::vector<float>& tops) {
    constexpr size_t group = 16;
    tops.resize(vocabulary / (group * lanes) * lanes);
    if (tops.size() < k) return forbidden;
    for (size_t at = 0; at < tops.size(); at += lanes) {
        float top[lanes];
        std::fill(top, top + lanes, forbidden);
        for (size_t j = 0; j < group; ++j)
            for (size_t i = 0; i < lanes; ++i) {
                const float logit = logits[at * group + j * lanes + i];
                top[i] = logit > top[i] ? logit : top[i];
            }
        std::copy(top, top + lanes, &tops[at]);
    }
    std::nth_element(tops.begin(), tops.begin() + static_cast<ptrdiff_t>(k - 1), tops.end(), std::greater<>());
    return tops[k - 1];
}

// The tokens whose logits are at least so large.
void collect(const float* logits, size_t vocabulary, float least, std::vector<int32_t>& ids) {
    size_t id = 0;
    for (; id + lanes <= vocabulary; id += lanes) {
        int any = 0;  // most blocks have none: one comparison a number, in vectors
        for (size_t i = 0; i < lanes; ++i) any |= logits[id + i] >= least;
        for (size_t i = 0; any && i < lanes; ++i)
            if (logits[id + i] >= least) ids.push_back(static_cast<int32_t>(id + i));
    }
    for (; id < vocabulary; ++id)
        if (logits[id] >= least) ids.push_back(static_cast<int32_t>(id));
}

}  // namespace

Sampler::Sampler(SamplerOptions options) : options_(std::move(options)) {
    if (!(options_.temperature >= 0.0) || !std::isfinite(options_.temperature))
        refuse({"temperature is ", std::to_string(options_.temperature),
                ": expected 0 (the most probable token) or a finite number above it"});
    if (!(options_.top_p > 0.0 && options_.top_p <= 1.0))
        refuse({"top_p is ", std::to_string(options_.top_p), ": expected more than 0 and at most 1 (all tokens)"});
    if (options_.top_k > static_cast<size_t>(std::numeric_limits<int32_t>::max()))  // such as -1 from C
        refuse({"top_k is ", options_.top_k, ": expected 0 (all tokens) to 2147483647"});
}

Sampler Sampler::numbered(uint64_t sample) const {
    Sampler other = *this;
    other.options_.sample = sample;
    return other;
}

void Sampler::read(const int32_t* tokens, size_t count) {
    if (options_.no_repeat_ngram_size == 0) return;
    const size_t before = options_.no_repeat_ngram_size - 1;
    for (size_t i = 0; i < count; ++i) {
        if (recent_.size() == before) followers_[recent_].push_back(tokens[i]);
        recent_.push_back(tokens[i]);
        if (recent_.size() > before) recent_.erase(recent_.begin());
    }
}

size_t Sampler::reads_largest() const {
    const size_t chosen = options_.temperature == 0.0 ? 1 : options_.top_k;
    if (chosen == 0) return 0;
    const auto found = followers_.find(recent_);
    return chosen + options_.never.size() + (found == followers_.end() ? 0 : found->second.size());
}

// The logits without the tokens that the options forbid: a copy if there are any.
const float* Sampler::allowed(const float* logits, size_t vocabulary) {
    const auto found = followers_.find(recent_);
    if (options_.never.empty() && found == followers_.end()) return logits;
    masked_.assign(logits, logits + vocabulary);
    const auto forbid = [&](const std::vector<int32_t>& ids) {
        check_ids(ids.data(), ids.size(), {vocabulary, "excluded token id"});
        for (const int32_t id : ids) masked_[static_cast<size_t>(id)] = forbidden;
    };
    forbid(options_.never);
    if (found != followers_.end()) forbid(found->second);
    return masked_.data();
}

// Sorts ids_, which are in rising order, by falling logit; ties stay in order. A radix sort, 11 bits at a time.
void Sampler::sort_by_logit(const float* logits) {
    constexpr uint32_t bits = 11, digits = 1u << bits, sign = 1u << 31;
    keyed_.resize(ids_.size());
    sorted_.resize(ids_.size());
    for (size_t i = 0; i < ids_.size(); ++i) {
        const float logit = logits[ids_[i]] + 0.0f;  // -0 becomes 0
        uint32_t word;
        std::memcpy(&word, &logit, sizeof word);
        keyed_[i] = {word & sign ? word : ~(word | sign), ids_[i]};  // rises as the logit falls
    }
    for (uint32_t shift = 0; shift < 32; shift += bits) {
        std::array<size_t, digits> place{};
        for (const auto& [key, id] : keyed_) ++place[(key >> shift) % digits];
        size_t sum = 0;
        for (size_t& n : place) sum += std::exchange(n, sum);
        for (const auto& entry : keyed_) sorted_[place[(entry.first >> shift) % digits]++] = entry;
        keyed_.swap(sorted_);
    }
    for (size_t i = 0; i < ids_.size(); ++i) ids_[i] = keyed_[i].second;
}

// Leaves in ids_, in rising order, the fewest tokens that together have top_p of the probability of those there.
void Sampler::keep_nucleus(const float* logits) {
    sort_by_logit(logits);
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
    float top = largest(logits, vocabulary);
    if (const float* left = allowed(logits, vocabulary); left != logits) {
        logits = left;
        top = *std::max_element(logits, logits + vocabulary);
    }
    if (top == forbidden)
        throw std::domain_error(
            "no token is left to draw: each has a logit of minus infinity, is forbidden by an option, or would repeat "
            "an n-gram");
    const int32_t token = draw(logits, vocabulary, top);
    read(&token, 1);
    return token;
}

int32_t Sampler::draw(const float* logits, size_t vocabulary, float top) {
    if (options_.temperature == 0.0 || options_.top_k == 1)
        return static_cast<int32_t>(std::find(logits, logits + vocabulary, top) - logits);
    const bool some = options_.top_k && options_.top_k < vocabulary;
    ids_.clear();
    ids_.reserve(vocabulary);
    if (some) {
        const float least = reached_by(options_.top_k, logits, vocabulary, tops_);
        collect(logits, vocabulary, least, ids_);
        const auto likelier = [logits](int32_t a, int32_t b) {  // ties go to the lower id
            return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
        };
        std::nth_element(ids_.begin(), ids_.begin() + static_cast<ptrdiff_t>(options_.top_k), ids_.end(), likelier);
        ids_.resize(options_.top_k);
        std::sort(ids_.begin(), ids_.end());
    } else {
        ids_.resize(vocabulary);
        std::iota(ids_.begin(), ids_.end(), 0);
    }
    if (options_.top_p < 1.0) keep_nucleus(logits);
    weights_.resize(ids_.size());
    double total = 0;
    for (size_t i = 0; i < ids_.size(); ++i)
        weights_[i] = total +=
            std::exp((static_cast<double>(logits[ids_[i]]) - static_cast<double>(top)) / options_.temperature);
    const double share = random_uniform(random_key(options_.seed, options_.sample), draws_++);
    const double point = std::min(share * total, std::nextafter(total, 0.0));  // below total, so on a possible token
    return ids_[static_cast<size_t>(std::upper_bound(weights_.begin(), weights_.end(), point) - weights_.begin())];
}

namespace {

constexpr char sampler_magic[] = "rnnfsm01";

class Writer {
public:
    template <class T>
    void put(const T& value) {
        const auto* from = reinterpret_cast<const uint8_t*>(&value);
        bytes.insert(bytes.end(), from, from + sizeof value);
    }
    void put(const std::vector<int32_t>& ids) {
        put(static_cast<uint64_t>(ids.size()));
        for (const int32_t id : ids) put(id);
    }
    std::vector<uint8_t> bytes;
};

// Of bytes nobody vouches for.
class Reader {
public:
    Reader(const void* bytes, size_t size) : at_(static_cast<const uint8_t*>(bytes)), left_(size) {}
    template <class T>
    T get() {
        T value;
        if (left_ < sizeof value) fail();
        std::memcpy(&value, at_, sizeof value);
        at_ += sizeof value;
        left_ -= sizeof value;
        return value;
    }
    std::vector<int32_t> ids() {
        const auto count = get<uint64_t>();
        if (count > left_ / sizeof(int32_t)) fail();
        std::vector<int32_t> all(static_cast<size_t>(count));
        for (int32_t& id : all) id = get<int32_t>();
        return all;
    }
    bool at_end() const { return left_ == 0; }
    [[noreturn]] static void fail() {
        refuse({"these bytes are not a saved sampler; they are truncated, damaged, or of another kind"});
    }

private:
    const uint8_t* at_;
    size_t left_;
};

}  // namespace

std::vector<uint8_t> Sampler::save() const {
    Writer w;
    for (size_t i = 0; i + 1 < sizeof sampler_magic; ++i) w.put(sampler_magic[i]);
    w.put(options_.temperature);
    w.put(options_.top_p);
    for (const uint64_t n :
         {uint64_t{options_.top_k}, options_.seed, options_.sample, uint64_t{options_.no_repeat_ngram_size}, draws_})
        w.put(n);
    w.put(options_.never);
    w.put(recent_);
    w.put(static_cast<uint64_t>(followers_.size()));
    for (const auto& [before, after] : followers_) {
        w.put(before);
        w.put(after);
    }
    return std::move(w.bytes);
}

Sampler Sampler::restored(const void* bytes, size_t size) {
    Reader r(bytes, size);
    for (size_t i = 0; i + 1 < sizeof sampler_magic; ++i)
        if (r.get<char>() != sampler_magic[i]) Reader::fail();
    SamplerOptions o;
    o.temperature = r.get<double>();
    o.top_p = r.get<double>();
    o.top_k = static_cast<size_t>(r.get<uint64_t>());
    o.seed = r.get<uint64_t>();
    o.sample = r.get<uint64_t>();
    o.no_repeat_ngram_size = static_cast<size_t>(r.get<uint64_t>());
    const auto draws = r.get<uint64_t>();
    o.never = r.ids();
    const size_t before = o.no_repeat_ngram_size ? o.no_repeat_ngram_size - 1 : 0;
    Sampler sampler(std::move(o));
    sampler.draws_ = draws;
    sampler.recent_ = r.ids();
    if (sampler.recent_.size() > before) Reader::fail();
    for (auto count = r.get<uint64_t>(); count; --count) {
        std::vector<int32_t> key = r.ids(), after = r.ids();
        if (!sampler.options_.no_repeat_ngram_size || key.size() != before || after.empty() ||
            !sampler.followers_.emplace(std::move(key), std::move(after)).second)
            Reader::fail();
    }
    if (!r.at_end()) Reader::fail();
    return sampler;
}

}  // namespace rnnfast::core
