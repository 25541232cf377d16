// Recurrent cells without a recurrent product: a step reads the state unit by unit, and no weight matrix again. The
// steps of a layer follow one product over all of them.
#pragma once

#include "kernels/cells.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

// What reaches h of this step: from its output, and from later steps.
inline Vec gradient_of_h(const CellBackward& s, size_t row, size_t u, size_t left) {
    Vec dh = load(s.dh_direct + row * s.dh_direct_stride + u);
    if (s.dh) dh += load(s.dh + row * s.dh_stride + u);
    if (s.dy) dh += load_units(s.dy + row * s.dy_stride + u, left);
    return dh;
}

// A positive candidate for the next state: v + 1/2 for v >= 0, sigmoid(v) below; and its slope, from its value.
inline Vec candidate(Vec v) { return v >= broadcast(0.0f) ? v + broadcast(0.5f) : sigmoid(v); }
inline Vec candidate_slope(Vec h) {
    const Vec one = broadcast(1.0f);
    return h >= broadcast(0.5f) ? one : h * (one - h);
}

// minGRU: z = sigmoid; h = (1 - z) h' + z n, n the candidate   (Feng et al., arXiv:2410.01201)
void mingru_forward(const CellForward& s) {
    for_each_vector<2>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec n = candidate(load(x)), z = sigmoid(load(x + unit_block));
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        if (s.save) {
            store(x, n);
            store(x + unit_block, z);
        }
        store_units(s.h + row * s.h_stride + u, fma(z, n - h_prev, h_prev), left);
    });
}

// dn = dh z; dz = dh (n - h'); dh' = dh (1 - z)
void mingru_backward(const CellBackward& s) {
    const Vec one = broadcast(1.0f);
    for_each_vector<2>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec n = load(x), z = load(x + unit_block), dh = gradient_of_h(s, row, u, left);
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        store(x, dh * z * candidate_slope(n));
        store(x + unit_block, dh * (n - h_prev) * z * (one - z));
        store(s.dh_direct + row * s.dh_direct_stride + u, dh * (one - z));
    });
}

// minLSTM: f, i = sigmoid; h = (f h' + i n) / (f + i), n the candidate
void minlstm_forward(const CellForward& s) {
    for_each_vector<3>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec n = candidate(load(x)), f = sigmoid(load(x + unit_block)), i = sigmoid(load(x + 2 * unit_block));
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        if (s.save) {
            store(x, n);
            store(x + unit_block, f);
            store(x + 2 * unit_block, i);
        }
        store_units(s.h + row * s.h_stride + u, fma(i / (f + i), n - h_prev, h_prev), left);
    });
}

// With p = i / (f + i): dn = dh p; q = dh (h' - n) p (1 - p); df = q (1 - f); di = -q (1 - i), before the sigmoids;
// dh' = dh (1 - p)
void minlstm_backward(const CellBackward& s) {
    const Vec one = broadcast(1.0f);
    for_each_vector<3>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec n = load(x), f = load(x + unit_block), i = load(x + 2 * unit_block);
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        const Vec dh = gradient_of_h(s, row, u, left), p = i / (f + i), kept = dh * (one - p);
        const Vec q = kept * (h_prev - n) * p;
        store(x, dh * p * candidate_slope(n));
        store(x + unit_block, q * (one - f));
        store(x + 2 * unit_block, q * (i - one));
        store(s.dh_direct + row * s.dh_direct_stride + u, kept);
    });
}

// SRU: f, r = sigmoid(gx + v c'); c = f c' + (1 - f) u; h = r c + (1 - r) x'   (Lei et al., arXiv:1709.02755)
// x' is the layer's input itself, scaled, or with four gates the last of them.
constexpr float sru_input_scale = 1.12724024f;  // sqrt(1 + 2 e^b), b = -2 what the bias of r starts from

template <size_t Gates>
inline Vec sru_highway(const float* gates, const float* x, size_t u, size_t left) {
    if (Gates == 4) return load(gates + 3 * unit_block);
    return broadcast(sru_input_scale) * load_units(x + u, left);
}

template <size_t Gates>
void sru_forward(const CellForward& s) {
    for_each_vector<Gates>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec c_prev = load(s.c_prev + row * s.c_prev_stride + u);
        const Vec f = sigmoid(fma(load(s.state_weights + u), c_prev, load(x + unit_block)));
        const Vec r =
            sigmoid(fma(load(s.state_weights + s.state_weights_stride + u), c_prev, load(x + 2 * unit_block)));
        const Vec input = sru_highway<Gates>(x, s.x + row * s.x_stride, u, left);
        const Vec c = fma(f, c_prev - load(x), load(x));
        if (s.save) {
            store(x + unit_block, f);
            store(x + 2 * unit_block, r);
        }
        store(s.c + row * s.c_stride + u, c);
        store_units(s.h + row * s.h_stride + u, fma(r, c - input, input), left);
    });
}

// dr = dh (c - x'); dx' = dh (1 - r); dc += dh r; du = dc (1 - f); df = dc (c' - u); dc' = dc f + v_f df + v_r dr, df
// and dr before the sigmoids
template <size_t Gates>
void sru_backward(const CellBackward& s) {
    const Vec one = broadcast(1.0f);
    for_each_vector<Gates>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec input_part = load(x), f = load(x + unit_block), r = load(x + 2 * unit_block);
        const Vec c_prev = load(s.c_prev + row * s.c_prev_stride + u), dh = gradient_of_h(s, row, u, left);
        const Vec input = sru_highway<Gates>(x, s.x + row * s.x_stride, u, left);
        float* dc_row = s.dc + row * s.dc_stride + u;
        const Vec dc = fma(dh, r, load(dc_row)), dinput = dh * (one - r);
        const Vec dr = dh * (load(s.c + row * s.c_stride + u) - input) * r * (one - r);
        const Vec df = dc * (c_prev - input_part) * f * (one - f);
        store(x, dc * (one - f));
        store(x + unit_block, df);
        store(x + 2 * unit_block, dr);
        if (Gates == 4)
            store(x + 3 * unit_block, dinput);
        else if (s.dx)
            store_units(s.dx + row * s.dx_stride + u, dinput * broadcast(sru_input_scale), left);
        const Vec past_f = fma(df, load(s.state_weights + u), dc * f);
        store(dc_row, fma(dr, load(s.state_weights + s.state_weights_stride + u), past_f));
        store(s.dh_direct + row * s.dh_direct_stride + u, Vec{});
    });
}

// QRNN's pooling: z = tanh; f, o = sigmoid; c = f c' + (1 - f) z; h = o c   (Bradbury et al., arXiv:1611.01576)
void qrnn_forward(const CellForward& s) {
    for_each_vector<3>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec z = tanh(load(x)), f = sigmoid(load(x + unit_block)), o = sigmoid(load(x + 2 * unit_block));
        const Vec c = fma(f, load(s.c_prev + row * s.c_prev_stride + u) - z, z);
        if (s.save) {
            store(x, z);
            store(x + unit_block, f);
            store(x + 2 * unit_block, o);
        }
        store(s.c + row * s.c_stride + u, c);
        store_units(s.h + row * s.h_stride + u, o * c, left);
    });
}

// do = dh c; dc += dh o; dz = dc (1 - f); df = dc (c' - z); dc' = dc f
void qrnn_backward(const CellBackward& s) {
    const Vec one = broadcast(1.0f);
    for_each_vector<3>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec z = load(x), f = load(x + unit_block), o = load(x + 2 * unit_block);
        const Vec dh = gradient_of_h(s, row, u, left);
        float* dc_row = s.dc + row * s.dc_stride + u;
        const Vec dc = fma(dh, o, load(dc_row));
        store(x, dc * (one - f) * (one - z * z));
        store(x + unit_block, dc * (load(s.c_prev + row * s.c_prev_stride + u) - z) * f * (one - f));
        store(x + 2 * unit_block, dh * load(s.c + row * s.c_stride + u) * o * (one - o));
        store(dc_row, dc * f);
        store(s.dh_direct + row * s.dh_direct_stride + u, Vec{});
    });
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
