// Which results a table gives: tables of one class give the same bits (docs/same-bits.md).
#pragma once

#include "kernels/table.h"

namespace rnnfast::core {

// "fused" if the table's products are fused multiply-adds, else "unfused"; "fused, bf16 in tiles" if those of bf16 sum
// in the order of AMX. The CPU must support the table.
const char* bits_of(const Kernels& kernels);

}  // namespace rnnfast::core
