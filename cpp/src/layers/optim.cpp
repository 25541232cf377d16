#include "layers/optim.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "ops/elementwise.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

namespace {

// 1 - beta as a float. Nearer to 1 than the usual 0.999 the difference of floats loses its digits: 1.3% at 0.999999.
// Up to there it is within 3e-5, and the difference stays, since the bits of trained models depend on it.
float rest_of(double beta) { return beta <= 0.999 ? 1.0f - static_cast<float>(beta) : static_cast<float>(1.0 - beta); }

}  // namespace

Optimizer::Optimizer(const Kernels& kernels, Parameters parameters, OptimizerOptions options)
    : steps(parameters.size(), 0), kernels_(kernels), parameters_(std::move(parameters)), options_(options) {
    for (const Parameter* p : parameters_) {
        first.emplace_back(has_first() ? p->size() : 0);
        second.emplace_back(has_second() ? p->size() : 0);
        own.push_back({0, p->size()});
        if (options_.kind != OptimizerKind::dynamic) continue;
        std::copy_n(p->value.data(), p->size(), first.back().data());
        std::fill_n(second.back().data(), p->size(), 1.0f);
    }
}

void Optimizer::keep(Range elements) {
    size_t at = 0;
    for (size_t i = 0; i < parameters_.size(); ++i) {
        const size_t size = parameters_[i]->size();
        const auto within = [&](size_t element) { return std::clamp(element, at, at + size) - at; };
        const Range before = own[i], kept{within(elements.begin), within(elements.end)};
        const Range both{std::max(before.begin, kept.begin), std::min(before.end, kept.end)};
        for (Buffer* state : {&first[i], &second[i]}) {
            if (!(state == &first[i] ? has_first() : has_second())) continue;
            Buffer now(kept.size());
            if (both.begin < both.end)
                std::copy_n(state->data() + (both.begin - before.begin), both.size(),
                            now.data() + (both.begin - kept.begin));
            *state = std::move(now);
        }
        own[i] = kept;
        at += size;
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
        const Range part{std::max(at, own[i].begin), std::min(at + n, own[i].end)};
        if (p.frozen || part.begin >= part.end) return;
        const size_t held = part.begin - own[i].begin;  // of the state
        at = part.begin;
        n = part.size();
        if (options_.kind == OptimizerKind::sgd) {
            SgdStep s = sgd[i];
            s.size = n;
            s.weight = p.value.data() + at;
            s.grad = p.grad.data() + at;
            s.velocity = first[i].size() ? first[i].data() + held : nullptr;
            kernels_.sgd(s);
        } else if (options_.kind == OptimizerKind::dynamic) {
            DynamicStep s;
            s.size = n;
            s.weight = p.value.data() + at;
            s.grad = p.grad.data() + at;
            s.first = first[i].data() + held;
            s.scale = second[i].data() + held;
            s.learning_rate = static_cast<float>(learning_rate);
            s.decay = static_cast<float>(weight_decay);
            s.epsilon = static_cast<float>(options_.epsilon);
            dynamic_step(s);
        } else {
            AdamStep s = adam[i];
            s.size = n;
            s.weight = p.value.data() + at;
            s.grad = p.grad.data() + at;
            s.first = first[i].data() + held;
            s.second = second[i].data() + held;
            kernels_.adam(s);
        }
    });
}

}  // namespace rnnfast::core
