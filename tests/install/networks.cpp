// Runs networks through the C++ and the C API, for a comparison with Python. Reads lines from stdin:
//
//     MODEL INPUTS OUTPUTS WEIGHTS STEPS ROWS LENGTHS
//
// WEIGHTS: -1 as stored, 0 f32, 1 bf16, 2 int8. LENGTHS: "-", or the steps of each row, separated by commas. INPUTS
// holds the inputs one after another, [steps, rows, size] float32 or [steps, rows] int32. Writes to OUTPUTS, as
// float32: the outputs of the whole sequences from C++, then from C, and, for a network that streams and without
// lengths, those of every step from C++ (all rows together) and from C (row by row).
#include <rnnfast/rnnfast.h>
#include <rnnfast/network.hpp>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Floats = std::vector<float>;

void check(rnnfast_status status) {
    if (status != RNNFAST_OK) throw std::runtime_error(rnnfast_last_error());
}

struct Case {
    std::string model, inputs, outputs, lengths_text;
    int weights = -1;
    size_t steps = 0, rows = 0;
    std::vector<int64_t> lengths;
    std::vector<std::vector<char>> data;  // of each input

    const int64_t* lengths_or_null() const { return lengths.empty() ? nullptr : lengths.data(); }
    const char* at(size_t input, size_t place, size_t width) const { return data[input].data() + 4 * place * width; }
};

Case read_case(const std::string& line) {
    Case c;
    std::istringstream words(line);
    words >> c.model >> c.inputs >> c.outputs >> c.weights >> c.steps >> c.rows >> c.lengths_text;
    if (!words) throw std::runtime_error("not a case: " + line);
    if (c.lengths_text == "-") return c;
    std::istringstream lengths(c.lengths_text);
    for (std::string one; std::getline(lengths, one, ',');) c.lengths.push_back(std::stoll(one));
    return c;
}

rnnfast::Network load(const Case& c) {
    if (c.weights < 0) return rnnfast::Network::load(c.model);
    return rnnfast::Network::load(c.model, static_cast<rnnfast::Weights>(c.weights));
}

void read_inputs(Case& c, const rnnfast::Network& network) {
    std::ifstream file(c.inputs, std::ios::binary);
    for (const auto& input : network.inputs()) {
        c.data.emplace_back(4 * c.steps * c.rows * (input.ids ? 1 : input.size));
        file.read(c.data.back().data(), static_cast<std::streamsize>(c.data.back().size()));
    }
    if (!file) throw std::runtime_error(c.inputs + " is too short");
}

// The values of an input from a place on.
rnnfast_values values(const Case& c, const rnnfast::NetworkInput& input, size_t number, size_t place, size_t places) {
    const size_t width = input.ids ? 1 : input.size;
    const char* bytes = c.at(number, place, width);
    if (input.ids) return {nullptr, reinterpret_cast<const int32_t*>(bytes), places};
    return {reinterpret_cast<const float*>(bytes), nullptr, places * width};
}

std::vector<rnnfast_values> values(const Case& c, const rnnfast::Network& network, size_t place, size_t places) {
    std::vector<rnnfast_values> all;
    for (const auto& input : network.inputs()) all.push_back(values(c, input, all.size(), place, places));
    return all;
}

std::vector<rnnfast::NetworkData> in_cpp(const std::vector<rnnfast_values>& given) {
    std::vector<rnnfast::NetworkData> all;
    for (const rnnfast_values& v : given)
        all.push_back(v.ids ? rnnfast::NetworkData(v.ids) : rnnfast::NetworkData(v.x));
    return all;
}

struct Results {
    std::vector<Floats> values;
    std::vector<float*> in_cpp;
    std::vector<rnnfast_result> in_c;
    Results(const std::vector<size_t>& sizes) : values(sizes.size()) {
        for (size_t i = 0; i < sizes.size(); ++i) {
            values[i].resize(sizes[i]);
            in_cpp.push_back(values[i].data());
            in_c.push_back({values[i].data(), sizes[i]});
        }
    }
    void append_to(Floats& all) const {
        for (const Floats& one : values) all.insert(all.end(), one.begin(), one.end());
    }
};

std::vector<size_t> sizes_of(const rnnfast::Network& network, size_t steps, size_t rows) {
    std::vector<size_t> sizes;
    for (size_t i = 0; i < network.outputs().size(); ++i)
        sizes.push_back((steps ? network.output_steps(i, steps) : 1) * rows * network.outputs()[i].width);
    return sizes;
}

void run_cpp(const Case& c, const rnnfast::Network& network, Floats& all) {
    const auto whole = values(c, network, 0, c.steps * c.rows);
    Results y(sizes_of(network, c.steps, c.rows));
    network.run(in_cpp(whole).data(), {c.steps, c.rows, c.lengths_or_null()}, y.in_cpp.data());
    y.append_to(all);
}

void step_cpp(const Case& c, const rnnfast::Network& network, Floats& all) {
    std::vector<rnnfast::NetworkState> states(c.rows, network.initial_state());
    std::vector<rnnfast::NetworkState*> pointers;
    for (auto& state : states) pointers.push_back(&state);
    Results y(sizes_of(network, 0, c.rows));
    for (size_t t = 0; t < c.steps; ++t) {
        const auto now = in_cpp(values(c, network, t * c.rows, c.rows));
        network.step(now.data(), pointers.data(), c.rows, y.in_cpp.data());
        y.append_to(all);
    }
}

void run_c(const Case& c, const rnnfast::Network& network, const rnnfast_network* handle, Floats& all) {
    const auto whole = values(c, network, 0, c.steps * c.rows);
    const rnnfast_batch batch = {c.steps, c.rows, c.lengths_or_null()};
    Results y(sizes_of(network, c.steps, c.rows));
    check(rnnfast_network_run(handle, whole.data(), whole.size(), &batch, y.in_c.data(), y.in_c.size()));
    y.append_to(all);
}

void step_c(const Case& c, const rnnfast::Network& network, const rnnfast_network* handle, Floats& all) {
    std::vector<Results> of_steps(c.steps, sizes_of(network, 0, c.rows));
    std::vector<size_t> widths = sizes_of(network, 0, 1);
    for (size_t row = 0; row < c.rows; ++row) {
        rnnfast_network_state* state;
        check(rnnfast_network_state_new(handle, &state));
        for (size_t t = 0; t < c.steps; ++t) {
            const auto now = values(c, network, t * c.rows + row, 1);
            std::vector<rnnfast_result> y;
            for (size_t i = 0; i < widths.size(); ++i)
                y.push_back({of_steps[t].values[i].data() + row * widths[i], widths[i]});
            check(rnnfast_network_step(handle, now.data(), now.size(), state, y.data(), y.size()));
        }
        rnnfast_network_state_free(state);
    }
    for (const Results& one : of_steps) {
        for (const Floats& values : one.values) all.insert(all.end(), values.begin(), values.end());
    }
}

void run(Case c) {
    const rnnfast::Network network = load(c);
    read_inputs(c, network);
    rnnfast_network* handle;
    check(rnnfast_network_load(c.model.c_str(), c.weights, &handle));
    Floats all;
    run_cpp(c, network, all);
    run_c(c, network, handle, all);
    if (network.no_stream().empty() && c.lengths.empty()) {
        step_cpp(c, network, all);
        step_c(c, network, handle, all);
    }
    rnnfast_network_free(handle);
    std::ofstream(c.outputs, std::ios::binary)
        .write(reinterpret_cast<const char*>(all.data()), static_cast<std::streamsize>(4 * all.size()));
}

}  // namespace

int main() {
    for (std::string line; std::getline(std::cin, line);) {
        try {
            run(read_case(line));
        } catch (const std::exception& error) {
            std::fprintf(stderr, "%s: %s\n", line.c_str(), error.what());
            return 1;
        }
    }
    return 0;
}
