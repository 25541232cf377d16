// The cross-entropy of a linear layer's outputs as a function: it owns no parameters. The logits never exist all
// together.
#pragma once

#include "kernels/table.h"
#include "runtime/buffer.h"

namespace rnnfast::core {

struct LinearCrossEntropy {
    size_t rows = 0, inputs = 0, classes = 0;
    const float* x = nullptr;                        // [rows, inputs]
    const float *weight = nullptr, *bias = nullptr;  // [classes, inputs]; [classes] or nullptr
    const int64_t* targets = nullptr;                // [rows]
    int64_t ignored = -100;                          // a target of rows that do not count
    bool mean = true;                                // over the rows that count; else the sum
    // Gradients of the loss, or dx = nullptr: none. They are written, not added.
    float *dx = nullptr, *dweight = nullptr, *dbias = nullptr;
};

// Throws std::out_of_range if a target that counts is not a class. Without a row that counts, the mean is NaN.
double linear_cross_entropy(const Kernels& kernels, const LinearCrossEntropy& l);

}  // namespace rnnfast::core
