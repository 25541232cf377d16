// Which results a table gives: tables of one class give the same bits (docs/same-bits.md).
#pragma once

#include "kernels/table.h"

namespace rnnfast::core {

// "fused" if the table's products are fused multiply-adds, else "unfused". The CPU must support the table.
const char* bits_of(const Kernels& kernels);

}  // namespace rnnfast::core
