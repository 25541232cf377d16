// A recurrent stack whose every step reads the context that additive attention computes from its top layer's previous
// state:
//     c_t = attention(s_{t-1}),   s_t = cells([e_t ; c_t], s_{t-1})
// All layers of one step, then the next step. Threads own rows for the whole sequence, so none waits for another until
// the weights' gradients, which are one product over all steps.
#pragma once

#include "layers/cross_attention.h"
#include "layers/recurrent.h"

namespace rnnfast::core {

// What one forward leaves for its backward, and the workspace of both. Rows of different length lie as in ops/steps,
// Q of them in all.
struct AttendingTape {
    size_t target_steps = 0;  // T
    float dropout = 0;
    struct Layer {
        Buffer h0, c0;        // [N, H], [N, padded H]
        Buffer gates, extra;  // [Q, G * H], [Q, padded H]
        Buffer c;             // [Q, padded H]
        Buffer y, dropped;    // [Q, H]; the next layer's input, if dropout is on
        ScanArrays arrays;    // all of these, and x
        Buffer sums;          // of gradients over groups of rows
    };
    std::vector<Layer> layers;
    CrossAttentionTape attention;  // and how the rows lie, and their groups
    Buffer x;                      // [Q, E + C]: e_t, c_t
    std::vector<Buffer> left;      // a thread's rows in the attention's precision
    Buffer scratch, dx, dy;

    const Steps& steps() const { return attention.targets.steps; }
};

// The stack reads E + C numbers, of which the last are the context.
struct AttendingInput {
    size_t steps = 0;
    const float* x = nullptr;          // [T, N, E], or nullptr if E = 0
    const int64_t* lengths = nullptr;  // [N] target steps of each row, or nullptr: all T
    RecurrentState start;              // [layers, N, H]
    Range part{0, 0};                  // the steps to compute now, or none: all. Parts come first to last.
    float dropout = 0;                 // between layers; 0 when not training
    RowGroups row_groups = {};
};
// Zeros beyond a row's length.
struct AttendingOutput {
    float* y = nullptr;         // [T, N, H]
    float* contexts = nullptr;  // [T, N, C], or nullptr
};
void attending_forward(const Recurrent& rnn, const CrossAttention& attention, const AttentionMemory& m,
                       const AttendingInput& input, const AttendingOutput& output, AttendingTape& tape);

struct AttendingGradients {
    const float* dy = nullptr;         // [T, N, H]
    const float* dcontexts = nullptr;  // [T, N, C] from readers of c_t other than the stack, or nullptr
    float* dx = nullptr;               // [T, N, E] out, or nullptr; zeros beyond a row's length
    RecurrentStateOut dstart;          // out, where given
    float* dvalues = nullptr;          // [S, N, C] added to
};
// Adds to the parameters' gradients of both. Uses the tape up.
void attending_backward(const Recurrent& rnn, CrossAttention& attention, const AttentionMemory& m, AttendingTape& tape,
                        const AttendingGradients& g);

}  // namespace rnnfast::core
