// The argmax and the k largest of many outputs y = x W^T + b, without computing most of them exactly.
//
// Products of int8 read a quarter of the weights, and by Cauchy and Schwarz |y - y8| is at most
// |w - w8| |x| + |w8| |x - x8|, plus rounding, where x8 is x in twice eight bits: rounded, and what that leaves,
// rounded. Outputs whose bounds leave them a chance, a handful of thousands, are then computed as ever, so the answer
// is that of the exact outputs.
#pragma once

#include <vector>

#include "ops/packed_linear.h"

namespace rnnfast::core {

class LargestOutputs {
public:
    LargestOutputs() = default;
    // weight: [O, I], bias: [O]
    void pack(const Kernels& kernels, const float* weight, const float* bias, size_t inputs, size_t outputs);

    struct Chance {  // an output, or a block of them, that may be one of the largest, and what it is at most
        float most;
        size_t first;
    };
    struct Scratch {  // one for each caller
        Buffer parts, left, outputs, tops, exact;
        std::vector<Chance> chances;
        std::vector<float> found;
    };
    // largest[r]: argmax of x[r] W^T + b, where `exact` gives the outputs, but for those of `never`; ties to the lower
    // index. -1 if an output is NaN or plus infinity, or none is a number. x: [rows, I].
    void argmax(const PackedLinear& exact, const float* x, size_t rows, const std::vector<int32_t>& never,
                int32_t* largest, Scratch& scratch) const;
    // Of one row x: `linear` gives the outputs, and `weight` [O, I], or nullptr, has its weights row by row.
    struct Exact {
        const PackedLinear& linear;
        const float *weight, *x;
    };
    // y: [O] out: the exact outputs wherever one is among the `count` largest (all that tie with the last of them), NaN
    // or plus infinity; the exact output or minus infinity elsewhere.
    void largest(const Exact& exact, size_t count, float* y, Scratch& scratch, size_t most_threads = all_threads) const;

private:
    struct Row {
        const float *x, *parts;
        float* outputs;  // [2, O] in: of the parts; out, in the first half: what an output is at most
        float* tops;     // of each group of outputs: the largest of what they are at least
    };
    void approximate(const float* x, size_t rows, Scratch& scratch, size_t most_threads) const;
    float bounds(const Row& row, const std::vector<int32_t>& never, size_t count) const;
    void compute(const Exact& exact, Range range, float* y, Scratch& scratch) const;
    float reached(size_t computed, size_t together, size_t count, const float* y, Scratch& scratch) const;
    int32_t argmax(const PackedLinear& exact, const Row& row, const std::vector<int32_t>& never, float* panel) const;

    const Kernels* kernels_ = nullptr;
    PackedLinear rounded_;  // in int8
    Buffer bias_, error_;   // [O]; error: |w - w8|, and what a product of |x| = 1 may round
    float longest_ = 0;     // the largest |w|
};

}  // namespace rnnfast::core
