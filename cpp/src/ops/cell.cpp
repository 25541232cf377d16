#include "ops/cell.h"
#include "runtime/sentence.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace rnnfast::core {

namespace {

Start as_torch(CellWeight, size_t, size_t, size_t hidden) { return {1.0 / std::sqrt(static_cast<double>(hidden)), 0}; }

// As torch.nn.Linear
Start as_linear(CellWeight, size_t, size_t inputs, size_t) {
    return {1.0 / std::sqrt(static_cast<double>(std::max<size_t>(inputs, 1))), 0};
}

// The authors' program: weights of variance 1 / inputs, half of it for f and r; r begins closed, so that the highway is
// open, and its input x is scaled.
Start as_sru(CellWeight weight, size_t gate, size_t inputs, size_t) {
    constexpr double bias_of_r = -2;
    if (weight == CellWeight::bias) return {0, gate == 2 ? bias_of_r : 0};
    if (weight == CellWeight::state) return {std::sqrt(1.5), 0};
    const double scale = gate == 0 ? 1 : gate == 3 ? 1 + 2 * std::exp(bias_of_r) : 0.5;
    return {std::sqrt(3 * scale / static_cast<double>(std::max<size_t>(inputs, 1))), 0};
}

const CellInfo sru_projected = {"sru", "", "u f r x", cell_sru_projected, 4, true, false, as_sru, false, {2, {1, 2}}};

}  // namespace

const std::vector<CellInfo>& cells() {
    static const std::vector<CellInfo> table = {
        // name, description, gate_order, kernels, gates, has_c, has_extra, start,
        // recurrent, state_reads, highway, projected, second_kernel
        {"rnn", "Elman's network with tanh, as torch.nn.RNN", "h", cell_rnn_tanh, 1, false, false, as_torch},
        {"rnn_relu", "Elman's network with ReLU, as torch.nn.RNN", "h", cell_rnn_relu, 1, false, false, as_torch},
        {"lstm", "long short-term memory, as torch.nn.LSTM", "i f g o", cell_lstm, 4, true, false, as_torch},
        {"lstm_peephole",
         "long short-term memory whose gates i f o also read c (Gers et al., 2002)",
         "i f g o",
         cell_lstm_peephole,
         4,
         true,
         false,
         as_torch,
         true,
         {3, {0, 1, 3}, true}},
        {"gru", "gated recurrent unit, as torch.nn.GRU", "r z n", cell_gru, 3, false, true, as_torch},
        {"mgu", "minimal gated unit (Zhou et al., 2016), f applied after the recurrent product", "f n", cell_mgu, 2,
         false, true, as_torch},
        {"gru_reset_before",
         "gated recurrent unit, r applied before the recurrent product (Cho et al., 2014)",
         "r z n",
         cell_gru_reset_before,
         3,
         false,
         true,
         as_torch,
         true,
         {},
         false,
         nullptr,
         cell_gru_reset_before_second},
        {"mingru", "minimal GRU without a recurrent product (Feng et al., 2024)", "n z", cell_mingru, 2, false, false,
         as_linear, false},
        {"minlstm", "minimal LSTM without a recurrent product (Feng et al., 2024)", "n f i", cell_minlstm, 3, false,
         false, as_linear, false},
        {"sru",
         "simple recurrent unit (Lei et al., 2017); a fourth gate x if the input is not H wide",
         "u f r",
         cell_sru,
         3,
         true,
         false,
         as_sru,
         false,
         {2, {1, 2}},
         true,
         &sru_projected},
        {"qrnn", "quasi-recurrent network (Bradbury et al., 2016)", "z f o", cell_qrnn, 3, true, false, as_linear,
         false},
    };
    return table;
}

const CellInfo& cell_named(const std::string& name) {
    std::string names;
    for (const CellInfo& cell : cells()) {
        if (cell.name == name) return cell;
        names += (names.empty() ? "" : ", ") + std::string(cell.name);
    }
    refuse({"unknown cell '", name, "': expected one of ", names});
}

}  // namespace rnnfast::core
