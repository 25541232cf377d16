#include "ops/attention_blocks.h"

#include <algorithm>

#include "runtime/threads.h"

namespace rnnfast::core {

namespace {

// Queries [first, first + count) of [panels][T][width] as the right-hand side of scores = K Q^T: panels
// [query_block / gemm width][head size][gemm width], zeros for queries that are not there.
void transpose_block(const Head& head, const float* from, size_t first, size_t count, float* to) {
    const size_t width = head.shape->width(), panel = head.kernels->product().width;
    for (size_t p = 0; p < query_block; p += panel) {
        float* out = to + p * head.shape->size;
        const size_t valid = p < count ? std::min(panel, count - p) : 0;
        for (size_t d = 0; d < head.shape->size; ++d, out += panel) {
            const float* column = from + d / width * head.plane + (first + p) * width + d % width;
            for (size_t j = 0; j < valid; ++j) out[j] = column[j * width];
            std::fill(out + valid, out + panel, 0.0f);
        }
    }
}

// A block of queries after transpose_block.
struct TransposedQueries {
    const float* panels;
    size_t count;
    const float* zeros;  // [query_block]
};

// scores[j, q] = row j of K (or V, both in panels) times query q, for `keys` rows
void products_with_block(const Head& head, const float* rows, size_t keys, const TransposedQueries& block,
                         float* scores) {
    Gemm g;
    g.rows = keys;
    g.depth = head.shape->size;
    g.columns = round_up(block.count, unit_block);
    g.a = {rows, head.shape->width(), 0, 0};
    g.inner = head.shape->width();
    g.outer_step = head.plane;
    g.panels = block.panels;
    g.start = block.zeros;
    g.c = {scores, query_block, 0, 0};
    head.kernels->product().run(g);
}

// [rows, depth] numbers of a block of scores: by query, or by key.
struct Coefficients {
    const float* scores;  // [keys, query_block]
    size_t rows, depth;
    bool by_key;
};

// to[r, :] += sum over k of A[r, k] * B[k, :], for B and `to` in panels
void add_products(const Head& head, const Coefficients& a, const float* b, float* to) {
    const size_t width = head.shape->width();
    for (size_t p = 0; p < head.shape->panels(); ++p) {
        Gemm g;
        g.rows = a.rows;
        g.depth = a.depth;
        g.columns = width;
        g.a = {a.scores, a.by_key ? query_block : 1, 0, 0};
        g.step = a.by_key ? 1 : query_block;
        g.panels = b + p * head.plane;
        g.c = {to + p * head.plane, width, 0, 0};
        head.shape->kernel->run(g);
    }
}

struct Queries {
    size_t first, count, end_of_keys;
};
Queries queries_of(const Head& head, size_t block) {
    const size_t first = block * query_block, count = std::min(query_block, head.length - first);
    return {first, count, head.causal ? std::min(first + count, head.keys) : head.keys};
}

// How many of the keys from `first` each query sees, or nullptr where all see all.
const int32_t* visible_keys(const Head& head, const Queries& queries, size_t first, size_t keys, int32_t* visible) {
    if (!head.causal || first + keys <= queries.first + 1) return nullptr;
    for (size_t q = 0; q < query_block; ++q) {
        const size_t seen = queries.first + q + 1;  // keys 0 .. t
        visible[q] = static_cast<int32_t>(seen > first ? std::min(seen - first, keys) : 0);
    }
    return visible;
}

void wait_for(const std::atomic<size_t>* counter, size_t value) {
    for (int spins = 0; counter && counter->load(std::memory_order_acquire) < value; ++spins)
        if (spins > 4096) yield();
}

}  // namespace

size_t attend_scratch(const HeadPanels& shape, const Kernels&) {
    return query_block * (shape.size + key_block + shape.padded() + 4);
}

void attend(const Head& head, size_t block, float* context, size_t stride, float* maximum, float* inverse,
            float* scratch) {
    const Queries queries = queries_of(head, block);
    const size_t padded = head.shape->padded();
    float* transposed = scratch;
    float* scores = transposed + query_block * head.shape->size;
    float* out = scores + query_block * key_block;  // [query_block, padded head]
    float *top = out + query_block * padded, *sum = top + query_block, *rescale = sum + query_block;
    float* zeros = rescale + query_block;
    std::fill_n(zeros, query_block, 0.0f);
    std::fill_n(top, query_block, -3.4e38f);
    std::fill_n(sum, query_block, 0.0f);
    std::fill_n(out, query_block * padded, 0.0f);
    transpose_block(head, head.q, queries.first, queries.count, transposed);
    const TransposedQueries q{transposed, queries.count, zeros};
    const size_t width = head.shape->width();

    int32_t visible[query_block];
    for (size_t k = 0; k < queries.end_of_keys; k += key_block) {
        const size_t keys = std::min(key_block, queries.end_of_keys - k);
        products_with_block(head, head.k + k * width, keys, q, scores);
        AttentionBlock b;
        b.keys = keys;
        b.queries = round_up(queries.count, unit_block);
        b.scores = scores;
        b.visible = visible_keys(head, queries, k, keys, visible);
        b.maximum = top;
        b.sum = sum;
        b.rescale = rescale;
        head.kernels->attention_softmax(b);
        for (size_t r = 0; k && r < queries.count; ++r)
            if (rescale[r] != 1.0f) head.kernels->scale(padded, rescale[r], out + r * padded);
        Gemm g;
        g.rows = queries.count;
        g.depth = keys;
        g.columns = padded;
        g.a = {scores, 1, 0, 0};
        g.step = query_block;
        g.panels = head.v + k * width;
        g.panel_stride = head.plane;
        g.c = {out, padded, 0, 0};
        head.shape->kernel->run(g);
    }
    for (size_t r = 0; r < queries.count; ++r) {
        const float share = 1.0f / sum[r];
        head.kernels->scale(padded, share, out + r * padded);
        std::copy_n(out + r * padded, head.shape->size, context + (queries.first + r) * stride);
        maximum[queries.first + r] = top[r];
        inverse[queries.first + r] = share;
    }
}

size_t attend_backward_scratch(const HeadPanels& shape, const Kernels&) {
    return query_block * (2 * shape.size + 2 * key_block_backward + 4);
}

void attend_backward(const Head& head, const HeadGradients& gradients, Range key_blocks, const Turn& turn,
                     float* scratch) {
    const size_t width = head.shape->width(), block = key_block_backward;
    float* q = scratch;
    float* dcontext = q + query_block * head.shape->size;
    float* scores = dcontext + query_block * head.shape->size;
    float* dscores = scores + query_block * block;
    float* rows = dscores + query_block * block;  // of each query: maximum, inverse, delta; then zeros
    std::fill_n(rows, 4 * query_block, 0.0f);
    int32_t visible[query_block];
    for (size_t i = 0; i < head.query_blocks(); ++i) {
        const Queries queries = queries_of(head, i);
        if (key_blocks.begin * block < queries.end_of_keys && key_blocks.size()) {
            transpose_block(head, head.q, queries.first, queries.count, q);
            transpose_block(head, gradients.dcontext, queries.first, queries.count, dcontext);
            std::copy_n(gradients.maximum + queries.first, queries.count, rows);
            std::copy_n(gradients.inverse + queries.first, queries.count, rows + query_block);
            std::copy_n(gradients.delta + queries.first, queries.count, rows + 2 * query_block);
        }
        for (size_t j = key_blocks.begin; j < key_blocks.end && j * block < queries.end_of_keys; ++j) {
            const size_t k = j * block, keys = std::min(block, queries.end_of_keys - k);
            const size_t t = queries.first, count = queries.count;
            const float* zeros = rows + 3 * query_block;
            products_with_block(head, head.k + k * width, keys, {q, count, zeros}, scores);
            products_with_block(head, head.v + k * width, keys, {dcontext, count, zeros}, dscores);
            AttentionGradient b;
            b.keys = keys;
            b.queries = round_up(count, unit_block);
            b.scores = scores;
            b.dweights = dscores;
            b.visible = visible_keys(head, queries, k, keys, visible);
            b.maximum = rows;
            b.inverse = rows + query_block;
            b.delta = rows + 2 * query_block;
            head.kernels->attention_gradient(b);
            add_products(head, {scores, keys, count, true}, gradients.dcontext + t * width, gradients.dv + k * width);
            add_products(head, {dscores, keys, count, true}, head.q + t * width, gradients.dk + k * width);
            if (j == key_blocks.begin) wait_for(turn.before, i + 1);
            add_products(head, {dscores, count, keys, false}, head.k + k * width, gradients.dq + t * width);
        }
        wait_for(turn.before, i + 1);
        for (size_t p = 0; !turn.done && p < head.shape->panels(); ++p)
            head.kernels->scale(queries.count * width, gradients.scale,
                                gradients.dq + p * head.plane + queries.first * width);
        if (turn.done) turn.done->store(i + 1, std::memory_order_release);
    }
}

}  // namespace rnnfast::core
