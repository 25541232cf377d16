#include "ops/elementwise.h"
#include "runtime/sentence.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

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

Activation Activation::of(Pointwise function, std::optional<double> alpha, std::optional<double> beta) {
    struct Row {
        Pointwise function;
        double alpha, beta;  // NaN: the function has none
        bool alpha_from_0, positive_beta;
    };
    constexpr double none = NAN, any = -3e38;
    const Row rows[] = {{Pointwise::leaky_relu, 0.01, none, true, false},
                        {Pointwise::elu, 1, none, true, false},
                        {Pointwise::hard_sigmoid, 1.0 / 6, 0.5, true, false},
                        {Pointwise::softplus, none, 1, false, true},
                        {Pointwise::clip, -1, 1, false, false}};
    Row row{function, none, none, false, false};
    for (const Row& known : rows)
        if (known.function == function) row = known;
    const auto chosen = [&](const char* name, std::optional<double> given, double usual, double least) {
        if (given && std::isnan(usual)) refuse({name_of(function), " has no ", name, ": leave it out"});
        if (given && !(*given >= least))
            refuse({name, " is ", std::to_string(*given), ", expected at least ", (least > 0 ? "1e-6" : "0")});
        return std::isnan(usual) ? 0.0f : static_cast<float>(given.value_or(usual));
    };
    const Activation made{function,
                          {chosen("alpha", alpha, row.alpha, row.alpha_from_0 ? 0 : any),
                           chosen("beta", beta, row.beta, row.positive_beta ? 1e-6 : any)}};
    if (function == Pointwise::clip && !(made.shape.alpha < made.shape.beta))
        refuse({"alpha is ", std::to_string(made.shape.alpha), " and beta ", std::to_string(made.shape.beta),
                ": expected a smaller alpha"});
    return made;
}

void pointwise(const Kernels& kernels, const Activation& f, size_t size, const float* x, float* y,
               size_t most_threads) {
    const auto& kernel = kernels.pointwise[static_cast<size_t>(f.function)];
    shared(size, 20, most_threads,
           [&](const Range& own) { kernel.forward(f.shape, own.size(), x + own.begin, y + own.begin); });
}

void pointwise_gradient(const Kernels& kernels, const Activation& f, size_t size, const float* x_or_y, const float* dy,
                        float* dx) {
    const auto& kernel = kernels.pointwise[static_cast<size_t>(f.function)];
    shared(size, 20, all_threads, [&](const Range& own) {
        kernel.backward(f.shape, own.size(), x_or_y + own.begin, dy + own.begin, dx + own.begin);
    });
}

namespace {

// Calls kernel(part) for each thread's share of the rows.
template <class Kernel>
void shared_rows(const RowSoftmax& all, size_t most_threads, Kernel kernel) {
    const double flops = 40 * static_cast<double>(all.rows * all.size);
    parallel(std::min(most_threads, threads_for(flops)), [&](const Team& team) {
        const Range own = split(all.rows, team.size, team.index);
        RowSoftmax s = all;
        s.rows = own.size();
        const size_t skipped = own.begin * all.size;
        if (s.x) s.x += skipped;
        s.y += skipped;
        if (s.dy) s.dy += skipped;
        if (s.dx) s.dx += skipped;
        kernel(s);
    });
}

}  // namespace

void row_softmax(const Kernels& kernels, const RowSoftmax& s, size_t most_threads) {
    shared_rows(s, most_threads, kernels.row_softmax);
}

void row_softmax_gradient(const Kernels& kernels, const RowSoftmax& s) {
    shared_rows(s, all_threads, kernels.row_softmax_gradient);
}

void add(const Kernels& kernels, size_t size, const float* x, float* y, size_t most_threads) {
    shared(size, 1, most_threads, [&](const Range& own) { kernels.add(own.size(), x + own.begin, y + own.begin); });
}

void multiply(const Kernels& kernels, size_t size, const float* a, const float* b, float* y, size_t most_threads) {
    shared(size, 1, most_threads,
           [&](const Range& own) { kernels.multiply(own.size(), a + own.begin, b + own.begin, y + own.begin); });
}

void scale(const Kernels& kernels, size_t size, float factor, const float* x, float* y, size_t most_threads) {
    shared(size, 1, most_threads, [&](const Range& own) {
        if (y != x) std::copy_n(x + own.begin, own.size(), y + own.begin);
        kernels.scale(own.size(), factor, y + own.begin);
    });
}

namespace {

// Calls body(row) for each thread's share of the rows.
template <class Body>
void for_rows(size_t rows, double flops, size_t most_threads, const Body& body) {
    parallel(std::min(most_threads, threads_for(flops * static_cast<double>(rows))), [&](const Team& team) {
        const Range own = split(rows, team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r) body(r);
    });
}

}  // namespace

void magnitude(size_t rows, size_t size, const float* x, float* y, size_t most_threads) {
    for_rows(rows, 4 * static_cast<double>(size), most_threads, [&](size_t r) {
        const float *a = x + 2 * r * size, *b = a + size;
        for (size_t i = 0; i < size; ++i) y[r * size + i] = std::sqrt(a[i] * a[i] + b[i] * b[i]);
    });
}

void magnitude_gradient(size_t rows, size_t size, const float* x, const float* y, const float* dy, float* dx) {
    for_rows(rows, 4 * static_cast<double>(size), all_threads, [&](size_t r) {
        for (size_t i = 0, at = r * size; i < size; ++i, ++at) {
            const float slope = y[at] > 0 ? dy[at] / y[at] : 0.0f;
            dx[2 * r * size + i] = slope * x[2 * r * size + i];
            dx[(2 * r + 1) * size + i] = slope * x[(2 * r + 1) * size + i];
        }
    });
}

void dynamic_step(const DynamicStep& s) {
    for (size_t i = 0; i < s.size; ++i) {
        const float back = std::min(s.decay * s.scale[i], 1.0f);
        s.weight[i] += back * (s.first[i] - s.weight[i]) - s.learning_rate * s.grad[i] / (s.scale[i] + s.epsilon);
    }
}

double sum_of_squares(size_t size, const float* x) {
    typedef double Pair __attribute__((vector_size(16)));  // which every CPU of 64 bits has
    Pair sums[4] = {};
    size_t i = 0;
    for (; i + 8 <= size; i += 8)
        for (size_t j = 0; j < 4; ++j) {
            const Pair two = {static_cast<double>(x[i + 2 * j]), static_cast<double>(x[i + 2 * j + 1])};
            sums[j] += two * two;
        }
    for (; i < size; ++i) sums[i % 8 / 2][i % 2] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return ((sums[0][0] + sums[0][1]) + (sums[1][0] + sums[1][1])) +
           ((sums[2][0] + sums[2][1]) + (sums[3][0] + sums[3][1]));
}

bool all_zero(size_t size, const float* x) {
    constexpr size_t line = 64;  // elements between two looks
    size_t i = 0;
    for (; i + line <= size; i += line) {
        uint32_t any = 0;
        for (size_t j = 0; j < line; ++j) {
            uint32_t bits;
            std::memcpy(&bits, x + i + j, sizeof bits);
            any |= bits;
        }
        if (any) return false;
    }
    for (; i < size; ++i)
        if (x[i] != 0.0f || std::signbit(x[i])) return false;
    return true;
}

}  // namespace rnnfast::core
