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
    bool frozen = false;  // no optimizer moves it, and its gradient is not clipped and counts for no norm
    size_t size() const { return value.size(); }
};
// bare: without memory for values and gradients, for a model that only runs and takes its values from a file.
Parameter make_parameter(std::string name, std::vector<size_t> shape, bool bare = false);

using Parameters = std::vector<Parameter*>;

void zero_grad(const Parameters& parameters);
// start + the sum of all squared gradients, added up in double in fixed blocks, one after another: so the sum over
// several layers is that over one with all their parameters. Frozen parameters are left out here and below.
double grad_squares(const Parameters& parameters, double start = 0);
// Scales all gradients by max_norm / norm if their norm is larger; returns the norm before.
double clip_grad_norm(const Kernels& kernels, const Parameters& parameters, double max_norm);
void scale_grads(const Kernels& kernels, const Parameters& parameters, double factor);
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
    // Moves every parameter that is not frozen.
    void step(double learning_rate, double weight_decay);
    void step(double learning_rate) { step(learning_rate, options_.weight_decay); }

    const OptimizerOptions& options() const { return options_; }
    const Parameters& parameters() const { return parameters_; }
    // What has to be saved for an exact resume: the count of steps and the running means, of each parameter.
    std::vector<int64_t> steps;
    std::vector<Buffer> first, second;  // SGD: first = velocity

private:
    SgdStep sgd_step(size_t parameter, double learning_rate, double weight_decay) const;
    AdamStep adam_step(size_t parameter, double learning_rate, double weight_decay) const;

    const Kernels& kernels_;
    Parameters parameters_;
    OptimizerOptions options_;
};

}  // namespace rnnfast
