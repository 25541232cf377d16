// One layer in one direction over time: the fused step forward, back-propagation through time backward.
#pragma once

#include "ops/scan_step.h"

namespace rnnfast::core {

struct ScanForward : ScanArrays {
    // Inputs that every step reads: [.., G*H] what fixed_part made of them, and each row's place there, or nullptr: its
    // own.
    const float* fixed_part = nullptr;
    const size_t* fixed_row = nullptr;
    Buffer* scratch = nullptr;  // grows at the first call, then allocates no more
};
void scan_forward(const ScanWeights& w, const ScanForward& s);
// part[r, :] = W f_r + b, [rows, G*H] in the kernels' order, for `fixed` [rows, F]. scratch: as above.
void fixed_part(const ScanWeights& w, const ConstView& fixed, float* part, Buffer& scratch);

struct ScanBackward : ScanArrays {       // gates and extra: what forward saved; used up, unless they are workspace and
    ConstView saved_gates, saved_extra;  // ... what forward saved is here, to stay
    ConstView fixed;                     // [N, F]
    ConstView dy;                        // [total, H]
    ConstView dh_last;                   // [N, H] gradient of each row's last h
    View dc;                             // [N, padded H] in: gradient of each row's last c; out: of c0
    View dh0, dx, dfixed;                // [N, H], [total, D], [N, F] out
    Buffer* scratch = nullptr;
    // The rows, of even steps, are so many groups of equal size: gradients of parameters are summed over each alone,
    // and then in a binary tree. group_sums: memory for that, which is not needed for one group.
    size_t groups = 1;
    Buffer* group_sums = nullptr;
};
void scan_backward(const ScanWeights& w, const ScanBackward& s, const ScanGradients& gradients);

// The second half of scan_backward, for a team whose threads all come here when the gates hold their gradients: what
// they give to the parameters, as products over all rows. Outputs, never rows, are split over threads.
// scratch: this thread's weight_gradient_scratch; sums: [G*H], one for the team; zeros, for gradients to overwrite: as
// many as the widest has columns, in whole panels.
void scan_weight_gradients(const Team& team, const ScanWeights& w, const ScanArrays& s, const ScanGradients& gradients,
                           float* scratch, float* sums, const float* zeros = nullptr);

// to = gates W, all columns of `to`: from gradients of the gates to those of what the weights read; zeros where they
// read nothing. zeros: as many as the weights have columns, or nullptr: the product is added; left: left_scratch.
void multiply_back(const PackedMatrix& weights, const ConstView& gates, const float* zeros, const View& to,
                   float* left);
// The same to the input of these gates, which then holds the part that bypassed the gates if the cell has a highway.
void multiply_back_to_input(const ScanWeights& w, const ConstView& gates, const float* zeros, const View& dx,
                            float* left);

}  // namespace rnnfast::core
