// One layer in one direction over time: the fused step forward, back-propagation through time backward.
#pragma once

#include <array>
#include <functional>
#include <optional>

#include "ops/group_tree.h"
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
// Grows the scratch buffer, so that scan_forward of these steps, or of some of them, does not: it then throws nothing.
void reserve_scratch(const ScanWeights& w, const ScanForward& s);
// part[r, :] = W f_r + b, [rows, G*H] in the kernels' order, for `fixed` [rows, F]. scratch: as above.
void fixed_part(const ScanWeights& w, const ConstView& fixed, float* part, Buffer& scratch);

// Groups of rows, over each of which gradients of parameters are summed alone, and then in a binary tree. Without rows:
// one sum over all.
struct ScanGroups {
    const std::vector<GroupRows>* rows = nullptr;
    const GroupSums* sums = nullptr;
    Buffer* memory = nullptr;
    explicit operator bool() const { return rows != nullptr; }
};

struct ScanBackward : ScanArrays {       // gates and extra: what forward saved; used up, unless they are workspace and
    ConstView saved_gates, saved_extra;  // ... what forward saved is here, to stay
    ConstView fixed;                     // [N, F]
    ConstView dy;                        // [total, H]
    ConstView dh_last;                   // [N, H] gradient of each row's last h
    View dc;                             // [N, padded H] in: gradient of each row's last c; out: of c0
    View dh0, dx, dfixed;                // [N, H], [total, D], [N, F] out
    Buffer* scratch = nullptr;
    ScanGroups groups = {};
};
void scan_backward(const ScanWeights& w, const ScanBackward& s, const ScanGradients& gradients);

// The second half of scan_backward, for a team whose threads all come here when the gates hold their gradients: what
// they give to the parameters, as products over all rows. Outputs, never rows, are split over threads.
// scratch: this thread's weight_gradient_scratch; sums: [G*H], one for the team; zeros, for gradients to overwrite: as
// many as the widest has columns, in whole panels.
void scan_weight_gradients(const Team& team, const ScanWeights& w, const ScanArrays& s, const ScanGradients& gradients,
                           float* scratch, float* sums, const float* zeros = nullptr);

// The same over each group alone and then in the tree. Made before a team comes.
class GroupedGradients {
public:
    GroupedGradients(const ScanWeights& w, const ScanArrays& s, const ScanGroups& groups, const ScanGradients& to);
    // also: what else a group gives, and to which memory; its rows' gates hold what scan_weight_gradients leaves there.
    using Also = std::function<void(const GroupRows& group, const ScanGradients& to)>;
    void add(const Team& team, float* scratch, float* sums, const float* zeros, const Also& also = {}) const;

private:
    // Calls body(gradient, where it lies in a leaf of the tree, size) for those that are wanted.
    template <class Body>
    void for_each_part(Body body) const;
    ScanGradients leaf(size_t group) const;

    const ScanWeights& w_;
    const ScanArrays& s_;
    ScanGroups groups_;
    ScanGradients to_;
    struct Part {
        float* ScanGradients::*gradient;
        size_t size;
    };
    std::array<Part, 5> parts_;
    size_t size_ = 0;
    std::optional<GroupTree> tree_;
};

// to = gates W, all columns of `to`: from gradients of the gates to those of what the weights read; zeros where they
// read nothing. zeros: as many as the weights have columns, or nullptr: the product is added; left: left_scratch.
void multiply_back(const PackedMatrix& weights, const ConstView& gates, const float* zeros, const View& to,
                   float* left);
// The same to the input of these gates, which then holds the part that bypassed the gates if the cell has a highway.
void multiply_back_to_input(const ScanWeights& w, const ConstView& gates, const float* zeros, const View& dx,
                            float* left);

}  // namespace rnnfast::core
