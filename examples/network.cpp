// Steps a network through lines of numbers, as they arrive: a file of rf.Sequential or rf.Network with one input of
// numbers. Prints what it reads and returns on stderr, and the outputs of every step, separated by commas.
//
//     network MODEL [f32|bf16|int8] < measurements.csv
#include <rnnfast/network.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

rnnfast::Network load(const std::string& path, const std::string& precision) {
    if (precision.empty()) return rnnfast::Network::load(path);
    if (precision == "f32") return rnnfast::Network::load(path, rnnfast::Weights::f32);
    if (precision == "bf16") return rnnfast::Network::load(path, rnnfast::Weights::bf16);
    if (precision == "int8") return rnnfast::Network::load(path, rnnfast::Weights::int8);
    throw std::invalid_argument(precision + ": expected f32, bf16 or int8");
}

std::vector<float> numbers_of(const std::string& line, size_t wanted) {
    std::vector<float> x;
    std::stringstream fields(line);
    for (std::string field; std::getline(fields, field, ',');) x.push_back(std::strtof(field.c_str(), nullptr));
    if (x.size() != wanted)
        throw std::invalid_argument("expected " + std::to_string(wanted) + " numbers separated by commas: " + line);
    return x;
}

void run(const rnnfast::Network& network) {
    for (const auto& input : network.inputs())
        std::fprintf(stderr, "reads %s: %zu numbers a step\n", input.name.c_str(), input.size);
    for (const auto& output : network.outputs())
        std::fprintf(stderr, "returns %s: %zu numbers\n", output.name.c_str(), output.width);
    if (network.inputs().size() != 1 || network.inputs()[0].ids)
        throw std::invalid_argument("this program is for networks with one input of numbers");

    rnnfast::NetworkState state = network.initial_state();  // throws for a network that needs the whole sequence
    std::vector<std::vector<float>> values;
    std::vector<float*> outputs;
    for (const auto& output : network.outputs()) values.emplace_back(output.width);
    for (auto& one : values) outputs.push_back(one.data());
    for (std::string line; std::getline(std::cin, line);) {
        const std::vector<float> x = numbers_of(line, network.inputs()[0].size);
        const rnnfast::NetworkData inputs[] = {x.data()};
        network.step(inputs, state, outputs.data());
        const char* separator = "";
        for (const auto& one : values)
            for (const float y : one) {
                std::printf("%s%.9g", separator, static_cast<double>(y));
                separator = ",";
            }
        std::printf("\n");
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s MODEL [f32|bf16|int8] < measurements.csv\n", argv[0]);
        return 2;
    }
    try {
        run(load(argv[1], argc > 2 ? argv[2] : ""));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
