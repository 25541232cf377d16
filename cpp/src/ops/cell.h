// The table of cells. A new cell is two kernels (kernels/cells.h, kernels/scan_cells.h) and one row here.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"

namespace rnnfast::core {

// The kinds of parameters of a cell.
enum class CellWeight { input, recurrent, state, bias };
// New values are uniform in mean +- bound.
struct Start {
    double bound, mean;
    bool operator==(const Start& other) const { return bound == other.bound && mean == other.mean; }
};

// The gates that read c unit by unit with weights of their own, the rows of weight_c.
struct StateReads {
    size_t count = 0;
    size_t gates[3] = {};
    bool last_reads_new = false;  // the last of them reads c of its own step, the others that of the step before
};

struct CellInfo {
    const char* name;  // what users write
    const char*
        description;  // one line of the documentation: what it is, and the layer of PyTorch with the same weights
    const char* gate_order;  // how the weights' rows are ordered, H rows for each letter
    CellIndex kernel;
    size_t gates;
    bool has_c;      // a second state beside h
    bool has_extra;  // GRU: a row of H is kept for backward, such as the last gate's recurrent part
    Start (*start)(CellWeight weight, size_t gate, size_t inputs, size_t hidden);
    bool recurrent = true;  // it has a recurrent product, so weight_hh and bias_hh
    StateReads state_reads = {};
    bool highway = false;                 // the output reads the layer's input unit by unit, which must be H wide
    const CellInfo* projected = nullptr;  // what takes its place where the input is not
    // The last gate's recurrent product reads what the first kernel leaves in `extra`, r h: a second product in every
    // step, and then this kernel.
    CellIndex second_kernel = cell_count;
    bool has_second() const { return second_kernel != cell_count; }
    // The last gate's recurrent bias is seen by the reset gate, and the gradients of its two parts differ.
    bool parts_last_gate() const { return has_extra && !has_second(); }

    // The form of this cell for a layer with so many inputs.
    const CellInfo& reading(size_t inputs, size_t hidden) const {
        return highway && inputs != hidden ? *projected : *this;
    }
    size_t recurrent_depth(size_t hidden) const { return recurrent ? hidden : 0; }
};

const std::vector<CellInfo>& cells();

// By name; throws std::invalid_argument that lists the names.
const CellInfo& cell_named(const std::string& name);

}  // namespace rnnfast::core
