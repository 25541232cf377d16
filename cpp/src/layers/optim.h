// The optimizers: PyTorch's update rules.
#pragma once

#include <string>
#include <vector>

#include "layers/parameter.h"

namespace rnnfast::core {

// dynamic: of dynamic evaluation (Krause et al., arXiv:1709.07432). first: the weights at the start, second: s,
//     w += min(weight_decay s, 1) (first - w) - learning_rate g / (s + epsilon)
enum class OptimizerKind { sgd, adam, adamw, dynamic };

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
    // Moves every parameter that is not frozen. zero_grad: sets all gradients to zero in the same pass.
    void step(double learning_rate, double weight_decay, bool zero_grad = false);
    void step(double learning_rate) { step(learning_rate, options_.weight_decay); }
    // From here on, holds the state of these elements alone (counted over all parameters) and moves no others, which
    // are those of other processes. Elements that it did not hold before have a state of zeros.
    void keep(Range elements);

    const OptimizerOptions& options() const { return options_; }
    const Parameters& parameters() const { return parameters_; }
    // What has to be saved for an exact resume: the count of steps and the running means, of each parameter.
    std::vector<int64_t> steps;
    std::vector<Buffer> first, second;  // SGD: first = velocity. Of the elements that are its own
    std::vector<Range> own;             // of each parameter

private:
    bool has_first() const { return options_.kind != OptimizerKind::sgd || options_.momentum != 0; }
    bool has_second() const { return options_.kind != OptimizerKind::sgd; }
    SgdStep sgd_step(size_t parameter, double learning_rate, double weight_decay) const;
    AdamStep adam_step(size_t parameter, double learning_rate, double weight_decay) const;
    struct ParameterStep {  // what all elements of a parameter have in common
        SgdStep sgd;
        AdamStep adam;
        double learning_rate, weight_decay;
    };
    void move(size_t parameter, Range part, const ParameterStep& step);  // those elements of its own

    const Kernels& kernels_;
    Parameters parameters_;
    OptimizerOptions options_;
};

}  // namespace rnnfast::core
