#include "models/network_file.h"

#include "rnnfast/error.hpp"
#include "runtime/dispatch.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

// Before memory is taken for what a description claims, the file must hold so many numbers.
NetworkLimits limits_of(const SafetensorsFile& file) {
    constexpr size_t least = 1 << 16;  // numbers a step that need no justification
    size_t held = 0;
    for (const auto& [name, tensor] : file.tensors()) held += tensor.size;
    return {file.tensors().size(), least + 16 * held};
}

// The network of a description, without values.
std::unique_ptr<Network> empty_network(const NetworkFile& f, Weights weights, const Kernels& kernels) {
    NetworkDescription description = f.description;
    description.weights = weights;
    try {
        return std::make_unique<Network>(description, std::nullopt, kernels, limits_of(f.file));
    } catch (const std::invalid_argument& error) {
        refuse_file({f.file.name(), ": its configuration cannot be used: ", error.what()});
    }
}

std::unique_ptr<Network> checked_network(const NetworkFile& f, Weights weights, const Kernels& kernels) {
    std::unique_ptr<Network> network = empty_network(f, weights, kernels);
    std::vector<std::string> beginnings;
    for (const LayerDescription& layer : f.description.layers) beginnings.push_back(layer.name + ".");
    check_tensors(f.file, network->expected_tensors(), {beginnings.begin(), beginnings.end()}, weights);
    return network;
}

}  // namespace

NetworkFile::NetworkFile(SafetensorsFile opened) : file(std::move(opened)) {
    check_format(file, "network");
    file.check_finite();
    const std::string& config = metadata_of(file, "config", "has no configuration");
    try {
        description = read_network(parse_json(config));
    } catch (const std::exception& error) {
        refuse_file({file.name(), ": its configuration cannot be used: ", error.what()});
    }
}

NetworkFile::NetworkFile(SafetensorsFile opened, NetworkDescription described)
    : file(std::move(opened)), description(std::move(described)) {}

void NetworkFile::check(Weights weights) const { checked_network(*this, weights, active()); }

std::unique_ptr<Network> network_of(const NetworkFile& f, Weights weights, const Kernels& kernels) {
    std::unique_ptr<Network> network = checked_network(f, weights, kernels);
    try {
        network->load(
            [&](const Parameter& p, Buffer& buffer) { return tensor_values(f.file, p.name, p.shape, buffer); });
    } catch (const std::invalid_argument& error) {
        refuse_file({f.file.name(), ": ", error.what()});
    }
    return network;
}

}  // namespace rnnfast::core
