#include "ops/cell.h"

#include <cmath>
#include <stdexcept>

namespace rnnfast::core {

namespace {

double torch_bound(size_t hidden) { return 1.0 / std::sqrt(static_cast<double>(hidden)); }

}  // namespace

const std::vector<CellInfo>& cells() {
    static const std::vector<CellInfo> table = {
        // name, description, gate_order, kernels, gates, has_c, has_extra, initial_bound
        {"rnn", "Elman's network with tanh, as torch.nn.RNN", "h", cell_rnn_tanh, 1, false, false, torch_bound},
        {"rnn_relu", "Elman's network with ReLU, as torch.nn.RNN", "h", cell_rnn_relu, 1, false, false, torch_bound},
        {"lstm", "long short-term memory, as torch.nn.LSTM", "i f g o", cell_lstm, 4, true, false, torch_bound},
        {"gru", "gated recurrent unit, as torch.nn.GRU", "r z n", cell_gru, 3, false, true, torch_bound},
        {"mgu", "minimal gated unit (Zhou et al., 2016), f applied after the recurrent product", "f n", cell_mgu, 2,
         false, true, torch_bound},
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

}  // namespace rnnfast::core
