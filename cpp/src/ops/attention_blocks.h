// The inner part of attention: one head of one row of the batch, block by block. Projections are not its business.
#pragma once

#include <atomic>

#include "ops/packing.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

constexpr size_t query_block = attention_queries;
// Scores of a block are 32 KiB. Fixed, since a row's running maximum, and so its last bits, depend on it.
constexpr size_t key_block = 128;

// Heads in panels as the kernels read them: [part][head][panels][T][width], the same for every row of the batch.
struct HeadPanels {
    const GemmKernel* kernel = nullptr;  // the width that wastes least
    size_t heads = 0, size = 0;          // units of a head
    size_t width() const { return kernel->width; }
    size_t padded() const { return round_up(size, width()); }
    size_t panels() const { return padded() / width(); }
};

// A head's matrices: [panels][T][width].
struct Head {
    const HeadPanels* shape;
    const Kernels* kernels;
    bool causal;
    size_t length;  // queries: steps that count
    size_t keys;    // which all of them see, or if causal, up to their own
    size_t plane;   // floats from one panel to the next: T * width
    const float *q, *k, *v;
    size_t query_blocks() const { return (length + query_block - 1) / query_block; }
};

size_t attend_scratch(const HeadPanels& shape, const Kernels& kernels);
// context[t, :] = softmax of row t times V, for the queries of one block; row t at context + t * stride.
void attend(const Head& head, size_t block, float* context, size_t stride, float* maximum, float* inverse,
            float* scratch);

struct HeadGradients {
    const float* dcontext;  // [panels][T][width]
    const float *maximum, *inverse, *delta;
    float *dq, *dk, *dv;  // added to
    float scale;          // of the scores, for dq
};
// Threads that share a head own runs of keys. Each adds its part to a block of dq after the thread before it has, so
// that the sum runs over the keys in order.
struct Turn {
    std::atomic<size_t>* before = nullptr;  // query blocks that the owner of earlier keys has done; nullptr: the first
    std::atomic<size_t>* done = nullptr;    // nullptr: the last, which also applies the scale
};
size_t attend_backward_scratch(const HeadPanels& shape, const Kernels& kernels);
void attend_backward(const Head& head, const HeadGradients& gradients, Range key_blocks, const Turn& turn,
                     float* scratch);
constexpr size_t key_block_backward = 64;

}  // namespace rnnfast::core
