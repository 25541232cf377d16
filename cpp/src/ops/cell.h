// The table of cells. A new cell is two kernels (kernels/cells.h) and one row here.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"

namespace rnnfast::core {

struct CellInfo {
    const char* name;  // what users write
    const char*
        description;  // one line of the documentation: what it is, and the layer of PyTorch with the same weights
    const char* gate_order;  // how the weights' rows are ordered, H rows for each letter
    CellIndex kernel;
    size_t gates;
    bool has_c;                              // a second state beside h
    bool has_extra;                          // GRU: the last gate's recurrent part is kept apart from its input part
    double (*initial_bound)(size_t hidden);  // parameters start uniform in +-bound
};

const std::vector<CellInfo>& cells();

// By name; throws std::invalid_argument that lists the names.
const CellInfo& cell_named(const std::string& name);

}  // namespace rnnfast::core
