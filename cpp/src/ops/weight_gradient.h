// dW += dgates^T · rows, over the rows of all steps: one product in blocks of the depth, straight into PyTorch's order.
#pragma once

#include <initializer_list>

#include "ops/scan_weights.h"
#include "ops/steps.h"

namespace rnnfast::core {

// gradient[G*H, depth] += dgates^T · rows. With h0, row (t, n) is that of step t - 1, and h0's at the first step.
// gates: those whose rows of the gradient get something; none means all.
struct GradientPart {
    ConstView rows, h0;
    View gradient;
    Range gates{0, 0};
};

// Floats of scratch a thread needs for parts of these depths together.
size_t weight_gradient_scratch(const ScanWeights& w, size_t depth, size_t other_depth);

struct WeightGradient {
    const ScanWeights* weights;
    const Steps* steps;
    ConstView gates;               // [total, G*H] gradients
    float* scratch;                // this thread's
    const float* zeros = nullptr;  // as many as the widest gradient has columns, in whole panels: gradients are written
    RowPlaces places = {};         // where the rows lie, of gates, parts and tokens

    // Parts that share the gate gradients, which are read once; each thread adds the rows of the gate blocks it owns.
    void add(const Team& team, std::initializer_list<GradientPart> parts) const;
    // The same for the weights of gates that read c unit by unit. gradient: [gates that read c, H]
    void add_state_weights(const Team& team, const ConstView& c, const ConstView& c0, const View& gradient) const;
    // The same for one-hot rows: column `token` of the gradient += dgates of each row, in order.
    void add_tokens(const Team& team, const int32_t* tokens, size_t depth, float* gradient) const;

private:
    void add_row(const Range& blocks, const GradientPart& part) const;
    void add_few_tokens(const Range& columns, const int32_t* tokens, size_t depth, float* gradient) const;
};

}  // namespace rnnfast::core
