#include "layers/optim.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "ops/elementwise.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

namespace {

// 1 - beta as a float. Nearer to 1 than the usual 0.999 the difference of floats loses its digits: 1.3% at 0.999999.
// Up to there it is within 3e-5, and the difference stays, since the bits of trained models depend on it.
float rest_of(double beta) { return beta <= 0.999 ? 1.0f - static_cast<float>(beta) : static_cast<float>(1.0 - beta); }

// The first run of blocks within `elements` that are not all zeros; empty, at their end, if there is none.
Range next_not_zero(const float* x, Range elements) {
    constexpr size_t block = 512;
    const auto is_zero = [&](size_t at) { return all_zero(std::min(block, elements.end - at), x + at); };
    size_t begin = elements.begin;
    while (begin < elements.end && is_zero(begin)) begin += block;
    size_t end = begin;
    while (end < elements.end && !is_zero(end)) end += block;
    return {std::min(begin, elements.end), std::min(end, elements.end)};
}

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

void Optimizer::step(double learning_rate, double weight_decay, bool zero_grad) {
    std::vector<ParameterStep> steps_of(parameters_.size());
    for (size_t i = 0; i < parameters_.size(); ++i) {
        ParameterStep& step = steps_of[i];
        step.learning_rate = learning_rate;
        step.weight_decay = weight_decay;
        if (parameters_[i]->frozen) continue;
        ++steps[i];
        if (options_.kind == OptimizerKind::sgd)
            step.sgd = sgd_step(i, learning_rate, weight_decay);
        else
            step.adam = adam_step(i, learning_rate, weight_decay);
    }
    // w - learning_rate * 0 = w: of an embedding, most rows are left alone
    const bool skips_zeros = options_.kind == OptimizerKind::sgd && options_.momentum == 0 && weight_decay == 0;
    for_each_chunk(parameters_, [&](size_t i, size_t first, size_t count) {
        Parameter& p = *parameters_[i];
        for (size_t at = first, end = first + count; at < end;) {
            const Range all = skips_zeros ? next_not_zero(p.grad.data(), {at, end}) : Range{at, end};
            const Range part{std::max(all.begin, own[i].begin), std::min(all.end, own[i].end)};
            if (!p.frozen && part.begin < part.end) move(i, part, steps_of[i]);
            if (zero_grad) std::memset(p.grad.data() + all.begin, 0, all.size() * sizeof(float));
            at = all.end;
        }
    });
}

void Optimizer::move(size_t parameter, Range part, const ParameterStep& step) {
    Parameter& p = *parameters_[parameter];
    const size_t held = part.begin - own[parameter].begin;  // of the state
    const auto place = [&](auto& s) {
        s.size = part.size();
        s.weight = p.value.data() + part.begin;
        s.grad = p.grad.data() + part.begin;
    };
    Buffer &mean = first[parameter], &squares = second[parameter];
    if (options_.kind == OptimizerKind::sgd) {
        SgdStep s = step.sgd;
        place(s);
        s.velocity = mean.size() ? mean.data() + held : nullptr;
        kernels_.sgd(s);
    } else if (options_.kind == OptimizerKind::dynamic) {
        DynamicStep s;
        place(s);
        s.first = mean.data() + held;
        s.scale = squares.data() + held;
        s.learning_rate = static_cast<float>(step.learning_rate);
        s.decay = static_cast<float>(step.weight_decay);
        s.epsilon = static_cast<float>(options_.epsilon);
        dynamic_step(s);
    } else {
        AdamStep s = step.adam;
        place(s);
        s.first = mean.data() + held;
        s.second = squares.data() + held;
        kernels_.adam(s);
    }
}

}  // namespace rnnfast::core
