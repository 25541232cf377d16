#include "layers/optim.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "runtime/parallel.h"

namespace rnnfast::core {

namespace {

// 1 - beta as a float. Nearer to 1 than the usual 0.999 the difference of floats loses its digits: 1.3% at 0.999999.
// Up to there it is within 3e-5, and the difference stays, since the bits of trained models depend on it.
float rest_of(double beta) { return beta <= 0.999 ? 1.0f - static_cast<float>(beta) : static_cast<float>(1.0 - beta); }

}  // namespace

Optimizer::Optimizer(const Kernels& kernels, Parameters parameters, OptimizerOptions options)
    : steps(parameters.size(), 0), kernels_(kernels), parameters_(std::move(parameters)), options_(options) {
    const bool sgd = options_.kind == OptimizerKind::sgd;
    for (const Parameter* p : parameters_) {
        first.emplace_back(sgd && options_.momentum == 0 ? 0 : p->size());
        second.emplace_back(sgd ? 0 : p->size());
    }
}

SgdStep Optimizer::sgd_step(size_t parameter, double learning_rate, double weight_decay) const {
    SgdStep s;
    s.learning_rate = static_cast<float>(learning_rate);
    s.momentum = static_cast<float>(options_.momentum);
    s.weight_decay = static_cast<float>(weight_decay);
    s.dampening_scale = steps[parameter] == 1 ? 1.0f : static_cast<float>(1.0 - options_.dampening);
    s.nesterov = options_.nesterov;
    return s;
}

AdamStep Optimizer::adam_step(size_t parameter, double learning_rate, double weight_decay) const {
    const OptimizerOptions& o = options_;
    const bool decoupled = o.kind == OptimizerKind::adamw;
    const auto count = static_cast<double>(steps[parameter]);
    AdamStep s;
    s.learning_rate = static_cast<float>(learning_rate);
    s.beta1 = static_cast<float>(o.beta1);
    s.beta2 = static_cast<float>(o.beta2);
    s.rest1 = rest_of(o.beta1);
    s.rest2 = rest_of(o.beta2);
    s.epsilon = static_cast<float>(o.epsilon);
    s.weight_decay = decoupled ? 0.0f : static_cast<float>(weight_decay);
    s.decoupled_decay = decoupled ? static_cast<float>(learning_rate * weight_decay) : 0.0f;
    s.correction1 = static_cast<float>(1.0 - std::pow(o.beta1, count));
    s.correction2_sqrt = static_cast<float>(std::sqrt(1.0 - std::pow(o.beta2, count)));
    return s;
}

void Optimizer::step(double learning_rate, double weight_decay) {
    std::vector<SgdStep> sgd(parameters_.size());
    std::vector<AdamStep> adam(parameters_.size());
    for (size_t i = 0; i < parameters_.size(); ++i) {
        if (parameters_[i]->frozen) continue;
        ++steps[i];
        if (options_.kind == OptimizerKind::sgd)
            sgd[i] = sgd_step(i, learning_rate, weight_decay);
        else
            adam[i] = adam_step(i, learning_rate, weight_decay);
    }
    for_each_chunk(parameters_, [&](size_t i, size_t at, size_t n) {
        Parameter& p = *parameters_[i];
        if (p.frozen) return;
        if (options_.kind == OptimizerKind::sgd) {
            SgdStep s = sgd[i];
            s.size = n;
            s.weight = p.value.data() + at;
            s.grad = p.grad.data() + at;
            s.velocity = first[i].size() ? first[i].data() + at : nullptr;
            kernels_.sgd(s);
        } else {
            AdamStep s = adam[i];
            s.size = n;
            s.weight = p.value.data() + at;
            s.grad = p.grad.data() + at;
            s.first = first[i].data() + at;
            s.second = second[i].data() + at;
            kernels_.adam(s);
        }
    });
}

}  // namespace rnnfast::core
