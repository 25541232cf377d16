// Activation functions: y = f(x), and dx = dy f'(x) computed from y where f' is a function of y, else from x.
#pragma once

#include "kernels/update.h"
#include "simd/math.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

inline Vec positive(Vec x, Vec then, Vec otherwise) { return x > broadcast(0.0f) ? then : otherwise; }

struct Relu {
    static Vec value(Vec x) { return max(broadcast(0.0f), x); }
    static Vec slope(Vec y) { return positive(y, broadcast(1.0f), broadcast(0.0f)); }
};

struct LeakyRelu {  // PyTorch's slope of the negative half
    static Vec value(Vec x) { return positive(x, x, broadcast(0.01f) * x); }
    static Vec slope(Vec y) { return positive(y, broadcast(1.0f), broadcast(0.01f)); }
};

struct Elu {
    static Vec value(Vec x) {
        const Reduced e = reduce(clamp(x, -87.3f, 0.0f));
        return positive(x, x, fma(e.scale, e.poly, e.scale - broadcast(1.0f)));
    }
    static Vec slope(Vec y) { return positive(y, broadcast(1.0f), y + broadcast(1.0f)); }
};

struct Tanh {
    static Vec value(Vec x) { return tanh(x); }
    static Vec slope(Vec y) { return fma(-y, y, broadcast(1.0f)); }
};

struct Sigmoid {
    static Vec value(Vec x) { return sigmoid(x); }
    static Vec slope(Vec y) { return y * (broadcast(1.0f) - y); }
};

struct HardSigmoid {  // min(max(x / 6 + 1 / 2, 0), 1)
    static Vec value(Vec x) { return clamp(fma(x, broadcast(1.0f / 6.0f), broadcast(0.5f)), 0.0f, 1.0f); }
    static Vec slope(Vec y) {
        const Vec zero = broadcast(0.0f), one = broadcast(1.0f);
        return positive(y, positive(one - y, broadcast(1.0f / 6.0f), zero), zero);
    }
};

struct Silu {  // x sigmoid(x)
    static Vec value(Vec x) { return x * sigmoid(x); }
    static Vec slope(Vec x) {
        const Vec s = sigmoid(x);
        return fma(s * x, broadcast(1.0f) - s, s);
    }
};

// x Phi(x), Phi the normal distribution's: PyTorch's exact form. 1 - Phi(|x|) = q(t) e^(-x^2 / 2) with
// t = 1 / (1 + 0.3275911 |x| / sqrt 2), absolute error 7.5e-8: Abramowitz & Stegun, 7.1.26
struct Gelu {
    struct Normal {
        Vec phi, exponential;  // Phi(x), e^(-x^2 / 2)
    };
    static Normal normal(Vec x) {
        const Vec size = max(x, -x), one = broadcast(1.0f);
        const Vec t = one / fma(size, broadcast(0.23164189f), one);
        Vec q = broadcast(0.5307027145f);  // half of the page's coefficients
        q = fma(q, t, broadcast(-0.7265760135f));
        q = fma(q, t, broadcast(0.7107068705f));
        q = fma(q, t, broadcast(-0.142248368f));
        q = fma(q, t, broadcast(0.127414796f));
        const Vec e = exp(broadcast(-0.5f) * x * x);
        const Vec tail = q * t * e;
        return {positive(x, one - tail, tail), e};
    }
    static Vec value(Vec x) { return x * normal(x).phi; }
    static Vec slope(Vec x) {
        const Normal n = normal(x);
        return fma(x * broadcast(0.398942280f), n.exponential, n.phi);
    }
};

template <class Function>
void pointwise(size_t size, const float* x, float* y) {
    for_each_vector_of(size, [&](size_t i, size_t n) { store_some(y + i, Function::value(load_some(x + i, n)), n); });
}

template <class Function>
void pointwise_gradient(size_t size, const float* x_or_y, const float* dy, float* dx) {
    for_each_vector_of(size, [&](size_t i, size_t n) {
        store_some(dx + i, Function::slope(load_some(x_or_y + i, n)) * load_some(dy + i, n), n);
    });
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
