#include "ops/elementwise.h"

#include <algorithm>

namespace rnnfast::core {

namespace {

// Calls body(range) for each thread's share; a number takes about `flops` operations.
template <class Body>
void shared(size_t size, double flops, size_t most_threads, const Body& body) {
    parallel(std::min(most_threads, threads_for(flops * static_cast<double>(size))),
             [&](const Team& team) { body(split(size, team.size, team.index, unit_block)); });
}

}  // namespace

void tanh_(const Kernels& kernels, size_t size, float* x) {
    shared(size, 20, all_threads, [&](const Range& own) { kernels.tanh(own.size(), x + own.begin); });
}

void tanh_gradient_(const Kernels& kernels, size_t size, const float* y, float* dy) {
    shared(size, 4, all_threads,
           [&](const Range& own) { kernels.tanh_gradient(own.size(), y + own.begin, dy + own.begin); });
}

void pointwise(const Kernels& kernels, Pointwise f, size_t size, const float* x, float* y, size_t most_threads) {
    const auto& kernel = kernels.pointwise[static_cast<size_t>(f)];
    shared(size, 20, most_threads, [&](const Range& own) { kernel.forward(own.size(), x + own.begin, y + own.begin); });
}

void pointwise_gradient(const Kernels& kernels, Pointwise f, size_t size, const float* x_or_y, const float* dy,
                        float* dx) {
    const auto& kernel = kernels.pointwise[static_cast<size_t>(f)];
    shared(size, 20, all_threads,
           [&](const Range& own) { kernel.backward(own.size(), x_or_y + own.begin, dy + own.begin, dx + own.begin); });
}

void add(const Kernels& kernels, size_t size, const float* x, float* y, size_t most_threads) {
    shared(size, 1, most_threads, [&](const Range& own) { kernels.add(own.size(), x + own.begin, y + own.begin); });
}

void multiply(const Kernels& kernels, size_t size, const float* a, const float* b, float* y, size_t most_threads) {
    shared(size, 1, most_threads,
           [&](const Range& own) { kernels.multiply(own.size(), a + own.begin, b + own.begin, y + own.begin); });
}

}  // namespace rnnfast::core
