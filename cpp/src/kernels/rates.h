// The best rates of one core, for the bounds that benchmarks print: arithmetic without memory access, and reading
// without arithmetic.
#pragma once

#include "simd/vec.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// Independent sums: enough to fill two units of latency 4 (four units on ARM), as registers allow.
#if defined(__ARM_NEON)
constexpr size_t rate_chains = 20;
#else
constexpr size_t rate_chains = 12;
#endif

template <class Operation>
void run_chains(size_t rounds, const float* in, float* out, Operation operation) {
    Vec sums[rate_chains];
    for (Vec& sum : sums) sum = broadcast(in[0]);
    const Vec a = broadcast(in[1]), b = broadcast(in[2]);
    for (size_t r = 0; r < rounds; ++r)
        for (size_t c = 0; c < rate_chains; ++c) sums[c] = operation(a, b, sums[c]);
    for (size_t c = 1; c < rate_chains; ++c) sums[0] += sums[c];
    store(out, sums[0]);
}

// in: three normal numbers unknown to the compiler; out: [lanes]. Returns the number of floating-point operations, two
// per multiply-add.
double multiply_add_rate(size_t rounds, const float* in, float* out) {
    run_chains(rounds, in, out, [](Vec a, Vec b, Vec sum) { return fma(a, b, sum); });
    return 2.0 * static_cast<double>(rounds * rate_chains * lanes);
}

// The same for dot products of bf16 pairs; 0 if this ISA has no instructions for them.
double bf16_rate([[maybe_unused]] size_t rounds, [[maybe_unused]] const float* in, [[maybe_unused]] float* out) {
    if constexpr (!has_dot_bf16) return 0;
    run_chains(rounds, in, out, [](Vec a, Vec b, Vec sum) { return dot_bf16(a, b, sum); });
    return 4.0 * static_cast<double>(rounds * rate_chains * lanes);
}

// Sums x repeatedly, in the order that reads fastest; size is a multiple of 8 lanes.
float read_rate(size_t size, size_t passes, const float* x) {
    Vec sums[8];
    for (Vec& sum : sums) sum = broadcast(0);
    for (size_t pass = 0; pass < passes; ++pass)
        for (size_t i = 0; i < size; i += 8 * lanes)
            for (size_t v = 0; v < 8; ++v) sums[v] += load(x + i + v * lanes);
    for (size_t v = 1; v < 8; ++v) sums[0] += sums[v];
    float total = 0;
    for (size_t lane = 0; lane < lanes; ++lane) total += sums[0][lane];
    return total;
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
