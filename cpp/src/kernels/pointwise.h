// Activation functions: y = f(x), and dx = dy f'(x) computed from y where f' is a function of y, else from x. Some have
// an alpha and a beta.
#pragma once

#include "kernels/update.h"
#include "simd/math.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

struct Shape {
    Vec alpha, beta;
};

inline Vec positive(Vec x, Vec then, Vec otherwise) { return x > broadcast(0.0f) ? then : otherwise; }

struct Relu {
    static Vec value(Vec x, const Shape&) { return max(broadcast(0.0f), x); }
    static Vec slope(Vec y, const Shape&) { return positive(y, broadcast(1.0f), broadcast(0.0f)); }
};

struct LeakyRelu {  // alpha x for negative x
    static Vec value(Vec x, const Shape& s) { return positive(x, x, s.alpha * x); }
    static Vec slope(Vec y, const Shape& s) { return positive(y, broadcast(1.0f), s.alpha); }
};

// e^x - 1 for x from -87.3 to 0
inline Vec exp_minus_1(Vec x) {
    const Reduced e = reduce(clamp(x, -87.3f, 0.0f));
    return fma(e.scale, e.poly, e.scale - broadcast(1.0f));
}

struct Elu {  // alpha (e^x - 1) for negative x
    static Vec value(Vec x, const Shape& s) { return positive(x, x, s.alpha * exp_minus_1(x)); }
    static Vec slope(Vec y, const Shape& s) { return positive(y, broadcast(1.0f), y + s.alpha); }
};

struct Tanh {
    static Vec value(Vec x, const Shape&) { return tanh(x); }
    static Vec slope(Vec y, const Shape&) { return fma(-y, y, broadcast(1.0f)); }
};

struct Sigmoid {
    static Vec value(Vec x, const Shape&) { return sigmoid(x); }
    static Vec slope(Vec y, const Shape&) { return y * (broadcast(1.0f) - y); }
};

struct HardSigmoid {  // min(max(alpha x + beta, 0), 1)
    static Vec value(Vec x, const Shape& s) { return clamp(fma(x, s.alpha, s.beta), 0.0f, 1.0f); }
    static Vec slope(Vec y, const Shape& s) {
        const Vec zero = broadcast(0.0f);
        return positive(y, positive(broadcast(1.0f) - y, s.alpha, zero), zero);
    }
};

struct Clip {  // min(max(x, alpha), beta)
    static Vec value(Vec x, const Shape& s) { return min(s.beta, max(s.alpha, x)); }
    static Vec slope(Vec y, const Shape& s) {
        const Vec zero = broadcast(0.0f);
        return positive(y - s.alpha, positive(s.beta - y, broadcast(1.0f), zero), zero);
    }
};

// log(1 + e^(beta x)) / beta
struct Softplus {
    static Vec value(Vec x, const Shape& s) {
        const Vec scaled = s.beta * x, size = max(scaled, -scaled);
        return (max(broadcast(0.0f), scaled) + log_of_1_plus(exp(-size))) / s.beta;
    }
    static Vec slope(Vec y, const Shape& s) { return -exp_minus_1(-(s.beta * y)); }
};

struct Silu {  // x sigmoid(x)
    static Vec value(Vec x, const Shape&) { return x * sigmoid(x); }
    static Vec slope(Vec x, const Shape&) {
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
    static Vec value(Vec x, const Shape&) { return x * normal(x).phi; }
    static Vec slope(Vec x, const Shape&) {
        const Normal n = normal(x);
        return fma(x * broadcast(0.398942280f), n.exponential, n.phi);
    }
};

// x (1 + tanh(u)) / 2 = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3): PyTorch's approximate="tanh"
struct GeluTanh {
    static Vec share(Vec x) { return sigmoid(broadcast(1.59576912f) * fma(broadcast(0.044715f) * x, x * x, x)); }
    static Vec value(Vec x, const Shape&) { return x * share(x); }
    static Vec slope(Vec x, const Shape&) {
        const Vec one = broadcast(1.0f), s = share(x);
        const Vec du = broadcast(1.59576912f) * fma(broadcast(3 * 0.044715f) * x, x, one);
        return fma(x * s * (one - s), du, s);
    }
};

template <class Function>
void pointwise(PointwiseShape s, size_t size, const float* x, float* y) {
    const Shape shape{broadcast(s.alpha), broadcast(s.beta)};
    for_each_vector_of(size,
                       [&](size_t i, size_t n) { store_some(y + i, Function::value(load_some(x + i, n), shape), n); });
}

template <class Function>
void pointwise_gradient(PointwiseShape s, size_t size, const float* x_or_y, const float* dy, float* dx) {
    const Shape shape{broadcast(s.alpha), broadcast(s.beta)};
    for_each_vector_of(size, [&](size_t i, size_t n) {
        store_some(dx + i, Function::slope(load_some(x_or_y + i, n), shape) * load_some(dy + i, n), n);
    });
}

template <class Function>
constexpr PointwiseKernels pointwise_kernels() {
    return {pointwise<Function>, pointwise_gradient<Function>};
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
