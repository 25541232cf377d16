// Selects the kernel table of this process.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"

namespace rnnfast::core {

struct Isa {
    const Kernels* kernels;
    bool supported;  // by this CPU and its operating system
};

// Every ISA in this build, best first.
const std::vector<Isa>& isas();

// Those whose bf16 products sum in another order: only RNNFAST_ISA selects them.
std::vector<Isa> isas_of_other_bits();

// The table for new objects: the best supported one, or the one that RNNFAST_ISA names. A wrong name throws
// std::invalid_argument, which lists the valid names.
const Kernels& active();

// A supported table by name, for tests that compare ISAs.
const Kernels& kernels_named(const std::string& name);

}  // namespace rnnfast::core
