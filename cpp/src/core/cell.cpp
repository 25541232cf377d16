#include "core/cell.h"

#include <stdexcept>

namespace rnnfast {

const std::vector<CellInfo>& cells() {
    static const std::vector<CellInfo> table = {
        // name, kernels, gates, has_c, has_extra
        {"rnn", cell_rnn_tanh, 1, false, false},
        {"rnn_relu", cell_rnn_relu, 1, false, false},
        {"lstm", cell_lstm, 4, true, false},
        {"gru", cell_gru, 3, false, true},
    };
    return table;
}

const CellInfo& cell_named(const std::string& name) {
    std::string names;
    for (const CellInfo& cell : cells()) {
        if (cell.name == name) return cell;
        names += (names.empty() ? "" : ", ") + std::string(cell.name);
    }
    throw std::invalid_argument("unknown cell '" + name + "': expected one of " + names);
}

}  // namespace rnnfast
