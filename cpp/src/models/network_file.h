// Contents of a network's file, checked in full before any part of it is used.
#pragma once

#include "models/network.h"

namespace rnnfast::core {

struct NetworkFile {
    explicit NetworkFile(SafetensorsFile opened);
    // A network that part of a file's tensors belong to.
    NetworkFile(SafetensorsFile opened, NetworkDescription description);

    SafetensorsFile file;
    NetworkDescription description;  // with the weights the file asks for

    // Every check of the tensors, for products in this precision.
    void check(Weights weights) const;
};

// For running only: the network is immutable, so threads can share it.
std::unique_ptr<Network> network_of(const NetworkFile& f, Weights weights, const Kernels& kernels);

}  // namespace rnnfast::core
