#include "layers/parameter.h"

#include <cmath>
#include <stdexcept>
#include <utility>

#include "ops/elementwise.h"
#include "runtime/random.h"

namespace rnnfast::core {

namespace {

Parameters not_frozen(const Parameters& all) {
    Parameters some;
    for (Parameter* p : all)
        if (!p->frozen) some.push_back(p);
    return some;
}

}  // namespace

Parameter make_parameter(std::string name, std::vector<size_t> shape, bool values) {
    if (!values) return {std::move(name), std::move(shape), {}, {}};
    size_t size = 1;
    for (const size_t n : shape)
        if (__builtin_mul_overflow(size, n, &size))
            throw std::length_error(name + " would have more than 2^64 numbers");
    return {std::move(name), std::move(shape), Buffer(size), Buffer(size)};
}

std::optional<uint64_t> part_seed(std::optional<uint64_t> seed, uint64_t part) {
    return seed ? std::optional(random_key(*seed, part)) : std::nullopt;
}

void copy_values(Parameter& p, const FileValues& values) {
    Buffer buffer;
    const float* given = values(p, buffer);
    if (given != buffer.data()) {
        size_t size = 1;
        for (const size_t n : p.shape) size *= n;
        buffer = Buffer(size, Buffer::Uninitialised{});
        std::copy_n(given, size, buffer.data());
    }
    p.value = std::move(buffer);
}

void uniform_(Parameter& p, double bound, uint64_t key) { uniform_(p, {0, p.value.size()}, bound, key); }

void uniform_(Parameter& p, Range elements, double bound, uint64_t key) {
    for (size_t i = elements.begin; i < elements.end; ++i)
        p.value.data()[i] = static_cast<float>((2.0 * random_uniform(key, i) - 1.0) * bound);
}

void normal_(Parameter& p, uint64_t key) {
    for (size_t i = 0; i < p.value.size(); ++i) p.value.data()[i] = static_cast<float>(random_normal(key, i));
}

void zero_grad(const Parameters& parameters) {
    for_each_chunk(parameters, [&](size_t i, size_t at, size_t n) {
        std::memset(parameters[i]->grad.data() + at, 0, n * sizeof(float));
    });
}

std::vector<double> chunk_squares(const Parameters& all, size_t share, size_t of) {
    const Parameters parameters = not_frozen(all);
    std::vector<size_t> first;  // of each parameter's chunks
    size_t count = 0;
    for (const Parameter* p : parameters) {
        first.push_back(count);
        count += (p->size() + chunk - 1) / chunk;
    }
    std::vector<double> sums(count);
    const Range own = split(count, of, share);
    for_each_chunk(parameters, [&](size_t i, size_t at, size_t n) {
        const size_t place = first[i] + at / chunk;
        if (place >= own.begin && place < own.end) sums[place] = sum_of_squares(n, parameters[i]->grad.data() + at);
    });
    return sums;
}

double grad_squares(const Parameters& all, double start) {
    double total = start;
    for (const double sum : chunk_squares(all, 0, 1)) total += sum;
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

}  // namespace rnnfast::core
