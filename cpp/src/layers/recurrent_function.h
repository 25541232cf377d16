// The recurrent layer as a function: it owns no parameters. Each call brings the addresses of parameters, gradients,
// inputs and outputs, and of the memory that forward leaves for backward; a framework with tensors of its own calls it.
#pragma once

#include <vector>

#include "layers/packed.h"
#include "layers/recurrent.h"

namespace rnnfast::core {

// What forward and its backward share.
struct RecurrentCall {
    RecurrentInput input;  // x, with batch_sizes or without; no lengths
    RecurrentState start;
    std::vector<ScanParameters> parameters;  // one for each scan
    float* y = nullptr;                      // [T, N, directions * H]: forward writes it, backward reads it
    float* saved = nullptr;  // [saved_floats] forward writes, backward reads; nullptr: there will be no backward
    float dropout = 0;       // between layers
    uint64_t dropout_key = 0;
};

struct RecurrentCallGradients {
    RecurrentGradients arrays;
    std::vector<ScanGradients>
        parameters;       // one for each scan, nullptr where a gradient is not wanted; written, not added
    bool use_up = false;  // `saved` is not read again: it becomes the gradients of the gates, which saves copying them
};

class RecurrentFunction {
public:
    // Of the options: cell, input_size, hidden_size, num_layers, bias, bidirectional, weights.
    RecurrentFunction(RecurrentOptions options, const Kernels& kernels);

    const RecurrentOptions& options() const { return options_; }
    const CellInfo& cell() const { return *cell_; }
    size_t directions() const { return options_.bidirectional ? 2 : 1; }
    size_t scans() const { return options_.num_layers * directions(); }
    // For an input of `total` rows over all steps.
    size_t saved_floats(size_t total) const;

    // Any number of threads may call these together. Without `saved`, the weights stay packed from call to call, and
    // every call compares them with what was packed.
    void forward(const RecurrentCall& call, const RecurrentStateOut& end) const;
    void backward(const RecurrentCall& call, const RecurrentCallGradients& g) const;

    // Weights as they are now, packed for any number of calls that do not look at the parameters again.
    std::shared_ptr<const std::vector<ScanWeights>> packed(const std::vector<ScanParameters>& parameters) const;
    void forward(const RecurrentCall& call, const std::vector<ScanWeights>& weights,
                 const RecurrentStateOut& end) const;

private:
    struct Workspace {
        std::vector<ScanWeights> scans;
        uint64_t fingerprint = 0;
        bool filled = false;  // scans hold the weights of `fingerprint`
        RecurrentTape tape;
    };
    std::vector<ScanWeights> unpacked() const;
    Stack stack(const RecurrentCall& call, const std::vector<ScanWeights>& scans) const;
    bool borrow(const RecurrentCall& call, Workspace& own) const;
    void pack(const RecurrentCall& call, Workspace& own) const;
    void run(const RecurrentCall& call, const std::vector<ScanWeights>& scans, const RecurrentStateOut& end,
             Workspace& own) const;

    RecurrentOptions options_;
    const CellInfo* cell_;
    const Kernels* kernels_;
    std::vector<ScanWeights> shape_;  // without values
    mutable Pool<Workspace> workspaces_;
};

}  // namespace rnnfast::core
