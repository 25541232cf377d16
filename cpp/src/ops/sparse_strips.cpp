#include "ops/sparse_strips.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace rnnfast::core {

namespace {

constexpr size_t deepest = 65536;  // terms whose places fit 16 bits
constexpr uint32_t no_strip = UINT32_MAX;

// The time of a block in that of a block of the whole product with one row, measured with LSTM 512 on Zen 4; and the
// rows that the whole product multiplies in the time of one, since it waits for the weights.
constexpr double cost_of_word = 1.1, cost_of_terms = 2.0;
constexpr double rows_of_one_read = 4;

// Bits of a word's terms that are 0 in a zero: of f32, bf16 and int8
std::vector<uint32_t> magnitudes(size_t terms) {
    if (terms == 1) return {0x7fffffffu};
    if (terms == 2) return {0x7fffu, 0x7fff0000u};
    return {0xffu, 0xff00u, 0xff0000u, 0xff000000u};
}

const float* block_at(const Panels& p, size_t strip, size_t word) {
    const size_t column = strip * unit_block, width = p.kernel->width;
    return p.data + column / width * width * p.depth + word * width + column % width;
}

// All bits that any column of a block has.
uint32_t bits_of(const Panels& p, size_t strip, size_t word) {
    uint32_t bits[unit_block], all = 0;
    std::memcpy(bits, block_at(p, strip, word), sizeof bits);
    for (const uint32_t own : bits) all |= own;
    return all;
}

// Terms of the depth in the order in which sums add them: the second of a bf16 pair first.
size_t term_at(size_t terms, size_t i) { return terms == 2 ? i ^ 1 : i; }

// A rough fraction of the numbers that are not zero, from few of the words: training packs its weights at every step.
double sampled_density(const Panels& p, const std::vector<uint32_t>& masks) {
    constexpr size_t samples = 128;
    const size_t strips = p.columns / unit_block;
    size_t full = 0;
    for (size_t i = 0; i < samples; ++i) {
        const uint32_t bits = bits_of(p, i * strips / samples, i * 37 % p.depth);
        for (const uint32_t mask : masks) full += (bits & mask) != 0;
    }
    return static_cast<double>(full) / static_cast<double>(samples * masks.size());
}

// The strips of each window by their counts. The gates of a unit differ most: sorted neighbors fill up little.
std::vector<uint32_t> by_counts(const std::vector<size_t>& counts) {
    std::vector<uint32_t> order(counts.size());
    std::iota(order.begin(), order.end(), 0u);
    for (size_t i = 0; i < order.size(); i += sparse_window) {
        const auto begin = order.begin() + static_cast<ptrdiff_t>(i);
        const auto end = order.begin() + static_cast<ptrdiff_t>(std::min(i + sparse_window, order.size()));
        std::stable_sort(begin, end, [&](uint32_t a, uint32_t b) { return counts[a] > counts[b]; });
    }
    return order;
}

// For each strip, so many of its units (words or terms) are kept: all that are not zero, and some zeros, so that a
// group's strips, neighbors in the order, have equally many, which fill whole words.
std::vector<size_t> even_counts(std::vector<size_t> counts, size_t of_word) {
    const std::vector<uint32_t> order = by_counts(counts);
    for (size_t i = 0; i < counts.size(); i += sparse_group) {
        const size_t most = round_up(std::max<size_t>(counts[order[i]], 1), of_word);
        for (size_t j = i; j < std::min(i + sparse_group, counts.size()); ++j) counts[order[j]] = most;
    }
    return counts;
}

double total(const std::vector<size_t>& counts) {
    double sum = 0;
    for (const size_t count : counts) sum += static_cast<double>(count);
    return sum;
}

}  // namespace

SparseStrips::SparseStrips(const Panels& p) : kernel_(p.kernel), depth_(p.depth) {
    const size_t strips = p.columns / unit_block, terms = kernel_->terms;
    const auto masks = magnitudes(terms);
    const double all = static_cast<double>(strips * p.depth);
    if (!kernel_->sparse_words || all == 0 || p.depth * terms > deepest) return;
    if (cost_of_word * sampled_density(p, masks) > 1) return;
    std::vector<size_t> words(strips), single(strips);
    for (size_t strip = 0; strip < strips; ++strip)
        for (size_t k = 0; k < p.depth; ++k) {
            const uint32_t bits = bits_of(p, strip, k);
            size_t own = 0;
            for (const uint32_t mask : masks) own += (bits & mask) != 0;
            words[strip] += own > 0;
            single[strip] += own;
        }
    words = even_counts(std::move(words), 1);
    single = even_counts(std::move(single), terms);
    const double by_words = cost_of_word * total(words) / all;
    const double by_terms = cost_of_terms * total(single) / static_cast<double>(terms) / all;
    by_terms_ = terms > 1 && by_terms < by_words;
    const double cost = by_terms_ ? by_terms : by_words;
    if (cost >= 1) return;
    fill(p, by_terms_ ? single : words);
    most_rows_ = static_cast<size_t>(std::min(1 / cost, rows_of_one_read));
}

void SparseStrips::fill(const Panels& p, const std::vector<size_t>& counts) {
    const size_t of_word = by_terms_ ? kernel_->terms : 1;
    strips_ = by_counts(counts);
    first_.assign(1, 0);
    for (size_t i = 0; i < strips_.size(); i += sparse_group)
        first_.push_back(first_.back() + static_cast<uint32_t>(counts[strips_[i]] / of_word));
    const size_t groups = first_.size() - 1, blocks = first_.back() * sparse_group;
    strips_.resize(groups * sparse_group, no_strip);
    blocks_ = Buffer(blocks * unit_block);
    places_.assign(blocks * of_word / 4, 0);  // four to a number
    for (size_t i = 0; i < strips_.size(); ++i)
        if (strips_[i] != no_strip)
            fill_strip(p, strips_[i], counts[strips_[i]], first_[i / sparse_group] * sparse_group + i % sparse_group);
}

// The units of a strip that are kept, from a block on: all that are not zero, and the first zeros up to `count`.
void SparseStrips::fill_strip(const Panels& p, size_t strip, size_t count, size_t block) {
    const size_t terms = kernel_->terms, of_word = by_terms_ ? terms : 1, units = p.depth * of_word;
    const size_t bytes = sizeof(float) / of_word;
    const auto masks = magnitudes(terms);
    uint32_t any = 0;
    for (const uint32_t mask : masks) any |= mask;
    const auto is_full = [&](size_t unit) {  // a weight of -0 is a zero
        const uint32_t bits = bits_of(p, strip, unit / of_word);
        return (bits & (by_terms_ ? masks[unit % of_word] : any)) != 0;
    };
    size_t zeros = count, kept = 0;  // zeros to keep
    for (size_t i = 0; i < units; ++i) zeros -= is_full(i);
    for (size_t i = 0; i < units; ++i) {
        const size_t unit = by_terms_ ? term_at(terms, i) : i;
        if (!is_full(unit) && zeros == 0) continue;
        if (!is_full(unit)) --zeros;
        // A word's terms are added in the order that term_at gives, so this one's place in its word follows it too.
        const size_t within = by_terms_ ? term_at(terms, kept % of_word) : 0;
        const size_t at = block + kept / of_word * sparse_group;
        const size_t place = at * of_word + within;
        places_[place / 4] |= static_cast<uint64_t>(unit) << place % 4 * 16;
        auto* to = reinterpret_cast<unsigned char*>(blocks_.data() + at * unit_block) + within * bytes;
        const auto* from = reinterpret_cast<const unsigned char*>(block_at(p, strip, unit / of_word));
        for (size_t j = 0; j < unit_block; ++j)
            std::memcpy(to + j * sizeof(float), from + j * sizeof(float) + unit % of_word * bytes, bytes);
        ++kept;
    }
}

bool SparseStrips::multiply(const float* a, size_t first_column, size_t columns, const float* start, float* c) const {
    SparseProduct p;
    p.begin = first_column / unit_block;
    p.end = p.begin + columns / unit_block;
    p.depth = depth_;
    p.a = a;
    p.groups = first_.size() - 1;
    p.first = first_.data();
    p.strips = strips_.data();
    p.blocks = blocks_.data();
    p.places = places_.data();
    p.start = start;
    p.c = c;
    return (by_terms_ ? kernel_->sparse_terms : kernel_->sparse_words)(p);
}

}  // namespace rnnfast::core
