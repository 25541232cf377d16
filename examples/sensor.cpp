// Monitors a stream of measurements: for each CSV row, the network prints the error of its last prediction and the
// next prediction. Train the weights yourself; their names are PyTorch's: rnn.weight_ih_l0 ... of an LSTM, head.weight,
// head.bias.
//
//     sensor WEIGHTS < measurements.csv
#include <rnnfast/layers.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>

namespace {

// Reads comma-separated numbers; returns false if there are not exactly `row.size()`.
bool parse_row(const std::string& line, std::vector<float>& row) {
    const char* at = line.c_str();
    for (size_t i = 0; i < row.size(); ++i) {
        char* end;
        row[i] = std::strtof(at, &end);
        const char wanted = i + 1 < row.size() ? ',' : '\0';
        if (end == at || (*end != wanted && !(wanted == '\0' && *end == '\r'))) return false;
        at = end + 1;
    }
    return true;
}

int run(const char* path) {
    const rnnfast::Tensors file = rnnfast::Tensors::open(path);
    const rnnfast::Recurrent lstm(file, "rnn.", "lstm");
    const rnnfast::Linear head(file, "head.weight", "head.bias");
    rnnfast::State state = lstm.initial_state();
    std::vector<float> x(lstm.input_size()), h(lstm.hidden_size()), expected(head.out_features());
    if (expected.size() != x.size()) {
        std::fprintf(stderr, "the head gives %zu numbers, a row has %zu\n", expected.size(), x.size());
        return 1;
    }
    std::string line;
    for (size_t row = 0; std::getline(std::cin, line); ++row) {
        if (!parse_row(line, x)) {
            std::fprintf(stderr, "row %zu: expected %zu numbers separated by commas\n", row + 1, x.size());
            return 1;
        }
        double error = 0;
        for (size_t i = 0; row && i < x.size(); ++i)
            error += std::pow(static_cast<double>(x[i]) - static_cast<double>(expected[i]), 2);
        lstm.step(x.data(), state, h.data());
        head.forward(h.data(), expected.data());
        std::printf("%.6g", std::sqrt(error / static_cast<double>(x.size())));
        for (const float value : expected) std::printf(",%.9g", static_cast<double>(value));
        std::printf("\n");
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s WEIGHTS < measurements.csv\n", argv[0]);
        return 2;
    }
    try {
        return run(argv[1]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
