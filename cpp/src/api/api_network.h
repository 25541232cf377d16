// The implementation of the public NetworkState.
#pragma once

#include "models/network_file.h"
// Inner headers first, because the public headers declare other classes with the same names.
#include "api/api.h"
#include "rnnfast/network.hpp"

namespace rnnfast {
inline namespace v1 {

// What all states of a network's streams have in common.
struct StreamLayout {
    explicit StreamLayout(const core::Network& network);
    std::string refusal;  // why there are no streams; then the rest is empty
    std::vector<StreamState> zero;
    NetworkWorkspace::Sizes one_step;
    size_t inputs = 0;        // of the network
    size_t bytes = 0;         // of a saved state
    std::string description;  // of the layers' states
    uint64_t hash = 0;        // of the description
};

struct NetworkState::Impl {
    explicit Impl(std::shared_ptr<const StreamLayout> layout);
    void assign(const std::vector<StreamState>& from);
    void reserve();

    std::shared_ptr<const StreamLayout> layout;
    std::vector<StreamState> layers;
    std::vector<StreamState*> at;  // the same
    NetworkWorkspace workspace;    // neither copied nor saved
    std::vector<Signal> signals;   // the inputs of a step
    std::vector<StreamState*> together;
    bool warm = false;   // the workspace has its size
    bool taken = false;  // set by the call that looks for repeated states
};

// The public network of a file that has been read.
Network network_in(const NetworkFile& file, Weights weights);

}  // namespace v1
}  // namespace rnnfast
