// How many vectors the panels of each shape have.
#pragma once

#include "kernels/gemm.h"

namespace rnnfast::core::RNNFAST_ISA {

constexpr size_t panel_vectors_of_3 = panel_vectors == 4 && lanes == 16 ? 3 : panel_vectors;
constexpr size_t least_vectors = lanes < unit_block ? unit_block / lanes : 1;  // a panel of 16 columns
constexpr size_t half_panel = lanes == 16 ? 2 : least_vectors;

}  // namespace rnnfast::core::RNNFAST_ISA
