// PyTorch's parameters of one layer and direction, in the orders that a scan's products want.
#pragma once

#include "ops/cell.h"
#include "ops/packing.h"

namespace rnnfast::core {

// PyTorch's parameters of one layer and direction; biases may be nullptr, as what the cell does not have is.
struct ScanParameters {
    const float *weight_ih, *weight_hh;  // [G*H, D + F], [G*H, H]
    const float *bias_ih, *bias_hh;      // [G*H]
    const float* weight_c = nullptr;     // [state weights * H]
};
struct ScanGradients {
    float *weight_ih, *weight_hh, *bias_ih, *bias_hh, *weight_c = nullptr;  // nullptr: not wanted
    bool overwrite = false;                                                 // else they are added to
};

// The parameters in the kernels' order.
class ScanWeights {
public:
    ScanWeights() = default;
    ScanWeights(const Kernels& kernels, const CellInfo& cell, Weights weights, size_t input_size, size_t hidden_size,
                size_t fixed_size = 0);

    // For forward; token_input lays the input weights out for a gather of rows instead of a product.
    void pack(const ScanParameters& p, bool token_input);
    // For backward; the input part only when input gradients are wanted.
    void pack_backward(const ScanParameters& p, bool input_gradient);
    // In f32, for a scan of one step: the parameters are read where they are, which then must not move.
    bool borrows = false;

    // Columns of the recurrent product that may be done apart: whole blocks of units, whole panels.
    size_t column_grain() const;

    const Kernels* kernels = nullptr;
    const CellInfo* cell = nullptr;
    Weights weights = Weights::f32;
    size_t input_size = 0, fixed_size = 0;
    size_t input_stride() const { return input_size + fixed_size; }  // of weight_ih's rows
    GateOrder order{};
    PackedMatrix input, recurrent;            // [D, G*H], [H or 0, G*H]
    PackedMatrix fixed, fixed_back;           // [F, G*H], [G*H, F]
    Buffer token_rows;                        // [D, G*H] row-major, bias included
    Buffer input_bias, recurrent_bias;        // [G*H] padded to panels
    Buffer state_weights;                     // [state weights, padded H]
    PackedMatrix input_back, recurrent_back;  // [G*H, D], [G*H, H or 0]
    // Of a cell with a second product, [H, H] each: the last gate's, whose columns and rows above are zeros.
    PackedMatrix second, second_back;
    Buffer second_bias;  // zeros

private:
    void take_columns(PackedMatrix& to, const float* matrix, size_t stride) const;
    void take_rows(PackedMatrix& to, const float* matrix, size_t stride) const;
    std::vector<const float*> recurrent_rows(const float* weight_hh) const;
    std::vector<const float*> second_rows(const float* weight_hh) const;
    void pack_state_weights(const float* weight_c);
};

}  // namespace rnnfast::core
