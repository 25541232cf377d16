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

double grad_norm(const Parameters& parameters) {
    std::vector<std::vector<double>> sums(parameters.size());
    for (size_t i = 0; i < parameters.size(); ++i) sums[i].resize((parameters[i]->size() + chunk - 1) / chunk);
    for_each_chunk(parameters, [&](size_t i, size_t at, size_t n) {
        sums[i][at / chunk] = sum_of_squares(parameters[i]->grad.data() + at, n);
    });
    double total = 0;
    for (const auto& parameter : sums)
        for (const double sum : parameter) total += sum;
    return std::sqrt(total);
}

double clip_grad_norm(const Kernels& kernels, const Parameters& parameters, double max_norm) {
    const double norm = grad_norm(parameters);
    const double factor = max_norm / (norm + 1e-6);  // PyTorch's
    if (factor < 1.0)
        for_each_chunk(parameters, [&](size_t i, size_t at, size_t n) {
            kernels.scale(n, static_cast<float>(factor), parameters[i]->grad.data() + at);
        });
    return norm;
}

void clip_grad_value(const Kernels& kernels, const Parameters& parameters, float limit) {
    for_each_chunk(parameters,
                   [&](size_t i, size_t at, size_t n) { kernels.clip(n, limit, parameters[i]->grad.data() + at); });
}

Optimizer::Optimizer(const Kernels& kernels, Parameters parameters, OptimizerOptions options)
    : kernels_(kernels), parameters_(std::move(parameters)), options_(options) {
    const bool sgd = options_.kind == OptimizerKind::sgd;
    for (const Parameter* p : parameters_) {
        first.emplace_back(sgd && options_.momentum == 0 ? 0 : p->size());
        second.emplace_back(sgd ? 0 : p->size());
    }
}

void Optimizer::step(double learning_rate) {
    ++steps;
    const auto& o = options_;
    SgdStep sgd;
    sgd.learning_rate = static_cast<float>(learning_rate);
    sgd.momentum = static_cast<float>(o.momentum);
    sgd.weight_decay = static_cast<float>(o.weight_decay);
    sgd.dampening_scale = steps == 1 ? 1.0f : static_cast<float>(1.0 - o.dampening);
    sgd.nesterov = o.nesterov;
    AdamStep adam;
    adam.learning_rate = sgd.learning_rate;
    adam.beta1 = static_cast<float>(o.beta1);
    adam.beta2 = static_cast<float>(o.beta2);
    adam.epsilon = static_cast<float>(o.epsilon);
    const bool decoupled = o.kind == OptimizerKind::adamw;
    adam.weight_decay = decoupled ? 0.0f : sgd.weight_decay;
    adam.decoupled_decay = decoupled ? static_cast<float>(learning_rate * o.weight_decay) : 0.0f;
    adam.correction1 = static_cast<float>(1.0 - std::pow(o.beta1, static_cast<double>(steps)));
    adam.correction2_sqrt = static_cast<float>(std::sqrt(1.0 - std::pow(o.beta2, static_cast<double>(steps))));

    for_each_chunk(parameters_, [&](size_t i, size_t at, size_t n) {
        Parameter& p = *parameters_[i];
        if (o.kind == OptimizerKind::sgd) {
            SgdStep s = sgd;
            s.size = n;
            s.weight = p.value.data() + at;
            s.grad = p.grad.data() + at;
            s.velocity = first[i].size() ? first[i].data() + at : nullptr;
            kernels_.sgd(s);
        } else {
            AdamStep s = adam;
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
