// exp, log, tanh and sigmoid on Vec: one sequence of operations for every ISA, so every ISA with FMA gives the same
// bits.
#pragma once

#include "simd/vec.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

inline Vec clamp(Vec x, float lo, float hi) { return min(broadcast(hi), max(broadcast(lo), x)); }

// x = n*ln2 + r with |r| <= ln2/2. scale = 2^n, poly = expm1(r).
struct Reduced {
    Vec scale, poly;
};

// |x| must be at most 88.3, so that 2^n is finite and normal.
inline Reduced reduce(Vec x) {
    const Vec magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
    const Vec shifted = fma(x, broadcast(1.44269504f), magic);
    const Vec n = shifted - magic;
    Vec r = fma(n, broadcast(-0.693359375f), x);  // ln2 in two parts, the first short enough to be exact
    r = fma(n, broadcast(2.12194440e-4f), r);
    // (expm1(r) - r) / r^2, minimax on [-ln2/2, ln2/2], relative error of expm1 1.3e-8 against 40 digits
    Vec q = broadcast(0.00138825213f);
    q = fma(q, r, broadcast(0.00836652052f));
    q = fma(q, r, broadcast(0.0416672006f));
    q = fma(q, r, broadcast(0.166665435f));
    q = fma(q, r, broadcast(0.49999997f));
    const IntVec exponent = (as_int(shifted) + 127) << 23;
    return {as_float(exponent), fma(q, r * r, r)};
}

// e^x, relative error 1.1e-7; x is clamped to [-87.3, 88.3], so nothing is 0 or infinite. NaN stays NaN.
inline Vec exp(Vec x) {
    const Reduced e = reduce(clamp(x, -87.3f, 88.3f));
    return fma(e.scale, e.poly, e.scale);
}

// The natural logarithm of positive normal numbers, relative error 1.2e-7
inline Vec log(Vec x) {
    // x = 2^n (1 + r) with sqrt(1/2) <= 1 + r < sqrt(2)
    const IntVec n = (as_int(x) - as_int(broadcast(0.70710678f))) >> 23;
    const Vec r = as_float(as_int(x) - (n << 23)) - broadcast(1.0f), exponent = to_float(n);
    // (log(1 + r) - r + r^2 / 2) / r^3, minimax, relative error of log(1 + r) 5.8e-9 in double
    Vec q = broadcast(-0.076344974f);
    q = fma(q, r, broadcast(0.12761582f));
    q = fma(q, r, broadcast(-0.13160184f));
    q = fma(q, r, broadcast(0.14201757f));
    q = fma(q, r, broadcast(-0.16623357f));
    q = fma(q, r, broadcast(0.20001227f));
    q = fma(q, r, broadcast(-0.2500082f));
    q = fma(q, r, broadcast(0.3333333f));
    q = fma(q, r, broadcast(-0.5f));
    const Vec low = fma(exponent, broadcast(-2.12194440e-4f), q * (r * r));  // ln2 in two parts, as above
    return fma(exponent, broadcast(0.693359375f), r + low);
}

// log(1 + u) for u from 0 to 1, relative error 2.5e-7: the logarithm of 1 + u as rounded, times what rounding took
inline Vec log_of_1_plus(Vec u) {
    const Vec one = broadcast(1.0f), rounded = one + u, kept = rounded - one;
    return kept > broadcast(0.0f) ? log(rounded) * (u / kept) : u;
}

// 1 / (1 + e^-x), relative error 2.4e-7
inline Vec sigmoid(Vec x) {
    const Vec one = broadcast(1.0f);
    return one / (one + exp(-x));
}

// em / (em + 2) with em = expm1(2x), relative error 3.0e-7; beyond |x| = 9.1 tanh is 1 in float
inline Vec tanh(Vec x) {
    const Vec y = clamp(x, -9.1f, 9.1f);
    const Reduced e = reduce(y + y);
    const Vec em = fma(e.scale, e.poly, e.scale - broadcast(1.0f));
    return em / (em + broadcast(2.0f));
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
