// Parameters with their gradients, clipping, and the optimisers.
#pragma once

#include <string>
#include <vector>

#include "core/buffer.h"
#include "kernels/table.h"

namespace rnnfast {

struct Parameter {
    std::string name;
    std::vector<size_t> shape;
    Buffer value, grad;
    size_t size() const { return value.size(); }
};
// bare: without memory for values and gradients, for a model that only runs and takes its values from a file.
Parameter make_parameter(std::string name, std::vector<size_t> shape, bool bare = false);

using Parameters = std::vector<Parameter*>;

void zero_grad(const Parameters& parameters);
// Square root of the sum of all squared gradients, added up in double in fixed blocks.
double grad_norm(const Parameters& parameters);
// Scales all gradients by max_norm / norm if norm is larger; returns the norm before.
double clip_grad_norm(const Kernels& kernels, const Parameters& parameters, double max_norm);
void clip_grad_value(const Kernels& kernels, const Parameters& parameters, float limit);

enum class OptimizerKind { sgd, adam, adamw };

struct OptimizerOptions {
    OptimizerKind kind = OptimizerKind::sgd;
    double momentum = 0, dampening = 0;
    bool nesterov = false;
    double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    double weight_decay = 0;
};

// PyTorch's update rules, element by element.
class Optimizer {
public:
    Optimizer(const Kernels& kernels, Parameters parameters, OptimizerOptions options);
    void step(double learning_rate);

    const OptimizerOptions& options() const { return options_; }
    const Parameters& parameters() const { return parameters_; }
    // What has to be saved for an exact resume: the step count and the running means, one buffer a parameter.
    long steps = 0;
    std::vector<Buffer> first, second;  // SGD: first = velocity

private:
    const Kernels& kernels_;
    Parameters parameters_;
    OptimizerOptions options_;
};

}  // namespace rnnfast
