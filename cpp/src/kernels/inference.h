// What builds without training leave out of an ISA's table. A kernel that no table names is not compiled in.
#pragma once

#include "kernels/table.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

constexpr void leave_out_training(Kernels& k) {
    for (CellKernels& cell : k.cells) cell.backward = nullptr;
    for (PointwiseKernels& function : k.pointwise) function.backward = nullptr;
    k.softmax_loss = nullptr;
    k.loss_words = nullptr;
    k.panel_row_sums = nullptr;
    k.adam = nullptr;
    k.sgd = nullptr;
    k.clip = nullptr;
    k.column_sums = nullptr;
    k.attention_gradient = nullptr;
    k.additive_gradient = nullptr;
    k.softmax_gradient = nullptr;
    k.layer_norm_gradient = nullptr;
    k.layer_norm_weight_gradient = nullptr;
    k.row_softmax_gradient = nullptr;
    k.batch_statistics = nullptr;
    k.batch_norm_sums = nullptr;
    k.batch_norm_gradient = nullptr;
    k.attention_pool_gradient = nullptr;
    k.tanh_gradient = nullptr;
    k.multiply_add_rate = nullptr;  // of benchmarks
    k.bf16_rate = nullptr;
    k.read_rate = nullptr;
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
