// Softmax of attention on blocks of scores: queries are lanes, so every sum runs down the keys in one fixed order.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// From the number of keys that each of `lanes` queries sees: all ones in the lanes that see key j.
inline IntVec limits(const int32_t* visible) {
    IntVec limit;
    for (size_t i = 0; i < lanes; ++i) limit[i] = visible[i];
    return limit;
}
inline IntVec sees(IntVec limit, size_t key) { return IntVec{} + static_cast<int32_t>(key) < limit; }

inline Vec keep(Vec x, IntVec mask) { return as_float(as_int(x) & mask); }
inline Vec hide(Vec x, IntVec mask) { return mask ? x : broadcast(-3.4e38f); }

template <bool Masked>
void softmax_block(const AttentionBlock& b) {
    for (size_t q = 0; q < b.queries; q += lanes) {
        float* scores = b.scores + q;
        const IntVec limit = Masked ? limits(b.visible + q) : IntVec{};
        const Vec before = load(b.maximum + q);
        Vec top = before;
        for (size_t j = 0; j < b.keys; ++j) {
            const Vec score = load(scores + j * attention_queries);
            top = max(top, Masked ? hide(score, sees(limit, j)) : score);
        }
        Vec sum = broadcast(0.0f);
        for (size_t j = 0; j < b.keys; ++j) {
            Vec e = exp(load(scores + j * attention_queries) - top);
            if (Masked) e = keep(e, sees(limit, j));
            store(scores + j * attention_queries, e);
            sum += e;
        }
        const Vec rescale = exp(before - top);
        store(b.maximum + q, top);
        store(b.rescale + q, rescale);
        store(b.sum + q, fma(load(b.sum + q), rescale, sum));
    }
}

// maximum' = max(maximum, scores), rescale = e^(maximum - maximum'), weight = e^(score - maximum'),
// sum' = sum * rescale + sum of weights   (Milakov and Gimelshein, arXiv:1805.02867)
void attention_softmax(const AttentionBlock& b) { b.visible ? softmax_block<true>(b) : softmax_block<false>(b); }

// The same for one query with contiguous scores; the sum has the same order of keys, so the bits are the same.
void attention_softmax_row(const AttentionBlock& b) {
    float top = *b.maximum;
    for (size_t j = 0; j < b.keys; ++j) top = b.scores[j] > top ? b.scores[j] : top;
    size_t j = 0;
    for (; j + lanes <= b.keys; j += lanes) store(b.scores + j, exp(load(b.scores + j) - broadcast(top)));
    if (j < b.keys)
        store_partial(b.scores + j, exp(load_partial(b.scores + j, b.keys - j) - broadcast(top)), b.keys - j);
    float sum = 0.0f;
    for (j = 0; j < b.keys; ++j) sum += b.scores[j];
    const Vec rescale = exp(broadcast(*b.maximum - top));
    *b.maximum = top;
    *b.rescale = rescale[0];
    *b.sum = fma(broadcast(*b.sum), rescale, broadcast(sum))[0];
}

template <bool Masked>
void softmax_gradient_block(const AttentionGradient& b) {
    for (size_t q = 0; q < b.queries; q += lanes) {
        const IntVec limit = Masked ? limits(b.visible + q) : IntVec{};
        const Vec top = load(b.maximum + q), inverse = load(b.inverse + q), delta = load(b.delta + q);
        for (size_t j = 0; j < b.keys; ++j) {
            float* score = b.scores + j * attention_queries + q;
            float* dweight = b.dweights + j * attention_queries + q;
            Vec weight = exp(load(score) - top) * inverse;
            if (Masked) weight = keep(weight, sees(limit, j));
            store(score, weight);
            store(dweight, weight * (load(dweight) - delta));
        }
    }
}

// weight = e^(score - maximum) / sum; dscore = weight * (dweight - delta), delta = sum over keys of weight * dweight
void attention_gradient(const AttentionGradient& b) {
    b.visible ? softmax_gradient_block<true>(b) : softmax_gradient_block<false>(b);
}

// Sixteen partial sums for every vector and panel width, added in order.
void row_dots(const RowDots& d) {
    constexpr size_t vectors = unit_block / lanes;
    for (size_t r = 0; r < d.rows; ++r) {
        Vec part[vectors] = {};
        for (size_t j = 0; j < d.columns; j += unit_block) {
            const float* x = d.panels + j / d.width * d.plane + r * d.width + j % d.width;
            const float* y = d.y + r * d.y_stride + j;
            const size_t left = d.columns - j;
            for (size_t i = 0; i < vectors && i * lanes < left; ++i) {
                const size_t n = left - i * lanes;
                const bool whole = n >= lanes;
                const Vec a = whole ? load(x + i * lanes) : load_partial(x + i * lanes, n);
                part[i] = fma(a, whole ? load(y + i * lanes) : load_partial(y + i * lanes, n), part[i]);
            }
        }
        float sum = 0.0f;
        for (size_t i = 0; i < unit_block; ++i) sum += part[i / lanes][i % lanes];
        d.sums[r] = sum;
    }
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
