// The index of the largest of many outputs y = x W^T + b, without computing most of them exactly.
//
// Products of int8 read a quarter of the weights, and by Cauchy and Schwarz |y - y8| is at most
// |w - w8| |x| + |w8| |x - x8|, plus rounding, where x8 is x in twice eight bits: rounded, and what that leaves,
// rounded. Outputs whose bounds leave them a chance, a handful of thousands, are then computed as ever, so the answer
// is that of the exact outputs.
#pragma once

#include <vector>

#include "ops/packed_linear.h"

namespace rnnfast::core {

class LargestOutput {
public:
    LargestOutput() = default;
    // weight: [O, I], bias: [O]
    void pack(const Kernels& kernels, const float* weight, const float* bias, size_t inputs, size_t outputs);

    // largest[r]: of x[r] W^T + b, where `exact` gives the outputs, but for those of `never`; ties to the lower index.
    // -1 if an output is NaN or plus infinity, or none is a number. x: [rows, I]. scratch: one for each caller.
    struct Scratch {
        Buffer parts, left, outputs, bounds, exact;
    };
    void find(const PackedLinear& exact, const float* x, size_t rows, const std::vector<int32_t>& never,
              int32_t* largest, Scratch& scratch) const;

private:
    int32_t find(const PackedLinear& exact, const float* x, const float* parts, const std::vector<int32_t>& never,
                 float* approximate, float* bounds, float* panel) const;

    const Kernels* kernels_ = nullptr;
    PackedLinear rounded_;                        // in int8
    Buffer bias_, error_, norm_, bias_rounding_;  // [O] each: |w - w8|, |w8|, what adding the bias may round
};

}  // namespace rnnfast::core
