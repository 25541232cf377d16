// A stack of recurrent layers for running only: weights packed once, immutable, one small state for every stream.
#pragma once

#include <vector>

#include "layers/stream.h"

namespace rnnfast::core {

class StreamStack {
public:
    StreamStack() = default;
    StreamStack(const Kernels& kernels, const CellInfo& cell, size_t hidden_size, Weights weights)
        : kernels_(&kernels), cell_(&cell), weights_(weights), hidden_(hidden_size) {}
    // The next layer from PyTorch's parameters; token_input: its input is one-hot.
    void add_layer(const ScanParameters& p, size_t input_size, bool token_input) {
        scans_.emplace_back(*kernels_, *cell_, weights_, input_size, hidden_);
        scans_.back().pack(p, token_input);
    }

    const Kernels& kernels() const { return *kernels_; }
    const CellInfo& cell() const { return *cell_; }
    Weights weights() const { return weights_; }
    size_t hidden_size() const { return hidden_; }
    size_t input_size() const { return scans_[0].input_size; }
    size_t layers() const { return scans_.size(); }
    Stack stack() const { return {scans_.data(), layers()}; }
    StreamWorkspace::Sizes one_step() const { return stream_sizes(stack(), 1); }  // of one stream
    StreamState initial_state() const { return {*cell_, layers(), hidden_}; }

    void run(const StreamInput& input, StreamState* const* states, float* y, StreamWorkspace& workspace) const {
        stream_run(stack(), input, states, y, workspace);
    }

private:
    const Kernels* kernels_ = nullptr;
    const CellInfo* cell_ = nullptr;
    Weights weights_ = Weights::f32;
    size_t hidden_ = 0;
    std::vector<ScanWeights> scans_;
};

}  // namespace rnnfast::core
