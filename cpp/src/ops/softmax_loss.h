// Softmax cross-entropy joined with the output product, block of rows by block: the T·N x V logits never exist at once.
#pragma once

#include "kernels/table.h"
#include "runtime/buffer.h"

namespace rnnfast::core {

constexpr size_t pairs_tile = 6;  // as many rows as a product's tile has: it reads them side by side
inline bool pairs_in_chunks(const GemmKernel& kernel) { return kernel.depth_unit > 1; }

struct OutputLoss {
    size_t rows, hidden, vocabulary;
    const float* h;  // [rows, H]
    size_t h_stride;
    const float* weight;        // [V, H]
    const GemmKernel* gemm;     // of the logits
    const float* left;          // [V, words of H] the weight as gemm's left rows; in f32 the weight itself
    size_t left_stride, words;  // words: of a row and of h, those of zeros at the end among them
    const float* bias;          // [V] or nullptr
    // Rows whose h W^T is there already, [V] of each, nullptr where it is not; or nullptr: all are computed here.
    const float* const* products = nullptr;
    const int32_t* targets;  // [rows]; negative: the row counts for nothing
    double* nll;             // [rows] out: -log softmax(h W^T + b)[target], in nats; 0 where the target is negative
    // Gradients of weight_per_row * sum of nll; or dh = nullptr: none. With `pairs` by gemm's products of bf16 words,
    // without in f32. dbias adds numbers that are not rounded to bf16.
    float weight_per_row = 0;
    // Words (weight[2i], weight[2i + 1]): [H / tile rounded up][V / 2 rounded up][tile]; for pairs_in_chunks
    // [V / 2 / unit rounded up][H][unit]
    const float* pairs = nullptr;
    float* dh = nullptr;  // [rows, H] out
    size_t dh_stride = 0;
    float* dweight = nullptr;  // [V, H] out
    float* dbias = nullptr;    // [V] out
    Buffer* scratch = nullptr;
};

// nll of rows whose logits are there already; the same bits as output_loss. logits: [rows, V], nll: [rows], 0 where the
// target is negative. scratch grows at the first call, then allocates no more.
void nll_of_logits(const Kernels& kernels, const float* logits, size_t rows, size_t vocabulary, const int32_t* targets,
                   double* nll, Buffer& scratch);

// log(sum of e^logit) of one row of logits: of a step's, where nll_of_logits is made for many rows.
double log_sum_exp(const Kernels& kernels, const float* logits, size_t vocabulary);

void output_loss(const Kernels& kernels, const OutputLoss& loss);

}  // namespace rnnfast::core
