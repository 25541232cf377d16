#include "core/optim.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "core/parallel.h"

namespace rnnfast {

namespace {

constexpr size_t chunk = 16384;  // elements a thread takes at a time; the sum of squares adds chunk by chunk

// Calls body(parameter index, first element, count) over all parameters' chunks, spread over threads.
template <class Body>
void for_each_chunk(const Parameters& parameters, Body body) {
    size_t total = 0;
    for (const Parameter* p : parameters) total += p->size();
    parallel(threads_for(4.0 * static_cast<double>(total)), [&](const Team& team) {
        size_t turn = 0;
        for (size_t i = 0; i < parameters.size(); ++i)
            for (size_t at = 0; at < parameters[i]->size(); at += chunk)
                if (turn++ % team.size == team.index) body(i, at, std::min(chunk, parameters[i]->size() - at));
    });
}

double sum_of_squares(const float* x, size_t size) {
    double lanes[8] = {};
    size_t i = 0;
    for (; i + 8 <= size; i += 8)
        for (size_t j = 0; j < 8; ++j) lanes[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
    for (; i < size; ++i) lanes[i % 8] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

Parameters not_frozen(const Parameters& all) {
    Parameters some;
    for (Parameter* p : all)
        if (!p->frozen) some.push_back(p);
    return some;
}

// 1 - beta as a float. Nearer to 1 than the usual 0.999 the difference of floats loses its digits: 1.3% at 0.999999.
// Up to there it is within 3e-5, and the difference stays, since the bits of trained models depend on it.
float rest_of(double beta) { return beta <= 0.999 ? 1.0f - static_cast<float>(beta) : static_cast<float>(1.0 - beta); }

}  // namespace

Parameter make_parameter(std::string name, std::vector<size_t> shape, bool bare) {
    if (bare) return {std::move(name), std::move(shape), {}, {}};
    size_t size = 1;
    for (const size_t n : shape)
        if (__builtin_mul_overflow(size, n, &size))
            throw std::length_error(name + " would have more than 2^64 numbers");
    return {std::move(name), std::move(shape), Buffer(size), Buffer(size)};
}

void zero_grad(const Parameters& parameters) {
    for_each_chunk(parameters, [&](size_t i, size_t at, size_t n) {
        std::memset(parameters[i]->grad.data() + at, 0, n * sizeof(float));
    });
}

double grad_squares(const Parameters& all, double start) {
    const Parameters parameters = not_frozen(all);
    std::vector<std::vector<double>> sums(parameters.size());
    for (size_t i = 0; i < parameters.size(); ++i) sums[i].resize((parameters[i]->size() + chunk - 1) / chunk);
    for_each_chunk(parameters, [&](size_t i, size_t at, size_t n) {
        sums[i][at / chunk] = sum_of_squares(parameters[i]->grad.data() + at, n);
    });
    double total = start;
    for (const auto& parameter : sums)
        for (const double sum : parameter) total += sum;
    return total;
}

void scale_grads(const Kernels& kernels, const Parameters& all, double factor) {
    const Parameters parameters = not_frozen(all);
    for_each_chunk(parameters, [&](size_t i, size_t at, size_t n) {
        kernels.scale(n, static_cast<float>(factor), parameters[i]->grad.data() + at);
    });
}

double clip_grad_norm(const Kernels& kernels, const Parameters& parameters, double max_norm) {
    const double norm = std::sqrt(grad_squares(parameters));
    const double factor = max_norm / (norm + 1e-6);  // PyTorch's
    if (factor < 1.0) scale_grads(kernels, parameters, factor);
    return norm;
}

void clip_grad_value(const Kernels& kernels, const Parameters& all, float limit) {
    const Parameters parameters = not_frozen(all);
    for_each_chunk(parameters,
                   [&](size_t i, size_t at, size_t n) { kernels.clip(n, limit, parameters[i]->grad.data() + at); });
}

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

}  // namespace rnnfast
