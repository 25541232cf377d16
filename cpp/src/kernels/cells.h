// The recurrent cells: two pointwise functions each, on a tile of one time step. The equations are PyTorch's.
// A gate row has blocks of the G gates of 16 units; `units` ends inside a block only at the end of the layer.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"

namespace rnnfast::core::RNNFAST_ISA {
namespace {

inline Vec load_units(const float* p, size_t left) { return left >= lanes ? load(p) : load_partial(p, left); }
inline void store_units(float* p, Vec v, size_t left) { left >= lanes ? store(p, v) : store_partial(p, v, left); }

// Calls body(row, unit, gate, left): `unit` in the tile, `gate` its offset in the gate row, `left` the number of
// remaining units. Blocks are always filled to their end, because products read the padding, which must be finite.
template <size_t Gates, class Body>
inline void for_each_vector(size_t rows, size_t units, Body body) {
    for (size_t r = 0; r < rows; ++r)
        for (size_t u = 0; u < (units + unit_block - 1) / unit_block * unit_block; u += lanes)
            body(r, u, u / unit_block * Gates * unit_block + u % unit_block, u < units ? units - u : 0);
}

// h = phi(gx + gh)
template <class Activation>
inline void rnn_forward(const CellForward& s, Activation phi) {
    for_each_vector<1>(s.rows, s.units, [&](size_t r, size_t u, size_t gate, size_t left) {
        float* g = s.gates + r * s.gate_stride + gate;
        const Vec h = phi(load(g) + load(s.recurrent + r * s.recurrent_stride + gate));
        if (s.save) store(g, h);
        store_units(s.h + r * s.h_stride + u, h, left);
    });
}

// dgx = dh * phi'(h), phi' written in terms of its value
template <class Slope>
inline void rnn_backward(const CellBackward& s, Slope slope) {
    for_each_vector<1>(s.rows, s.units, [&](size_t r, size_t u, size_t gate, size_t left) {
        Vec dh = load(s.dh + r * s.dh_stride + u);
        if (s.dy) dh += load_units(s.dy + r * s.dy_stride + u, left);
        float* g = s.gates + r * s.gate_stride + gate;
        store(g, slope(dh, load(g)));
    });
}

void rnn_tanh_forward(const CellForward& s) {
    rnn_forward(s, [](Vec x) { return tanh(x); });
}
void rnn_tanh_backward(const CellBackward& s) {
    rnn_backward(s, [](Vec dh, Vec h) { return dh * (broadcast(1.0f) - h * h); });
}

void rnn_relu_forward(const CellForward& s) {
    rnn_forward(s, [](Vec x) { return max(broadcast(0.0f), x); });
}
void rnn_relu_backward(const CellBackward& s) {
    rnn_backward(s, [](Vec dh, Vec h) { return h > broadcast(0.0f) ? dh : broadcast(0.0f); });
}

// x + p y, p the weights by which gate `n` of those with peepholes reads c
template <bool Peepholes, class Step>
inline Vec with_peephole(const Step& s, size_t n, size_t u, Vec y, Vec x) {
    if (!Peepholes) return x;
    return fma(load(s.state_weights + n * s.state_weights_stride + u), y, x);
}

// i, f, o = sigmoid; g = tanh; c = f * c' + i * g; h = o * tanh(c). With peepholes (Gers et al., 2002) i and f add p
// c', and o adds p c, before their sigmoids.
template <bool Peepholes>
void lstm_forward(const CellForward& s) {
    for_each_vector<4>(s.rows, s.units, [&](size_t r, size_t u, size_t gate, size_t left) {
        float* x = s.gates + r * s.gate_stride + gate;
        const float* y = s.recurrent + r * s.recurrent_stride + gate;
        const Vec c_prev = load(s.c_prev + r * s.c_prev_stride + u);
        const Vec i = sigmoid(with_peephole<Peepholes>(s, 0, u, c_prev, load(x) + load(y)));
        const Vec f = sigmoid(with_peephole<Peepholes>(s, 1, u, c_prev, load(x + unit_block) + load(y + unit_block)));
        const Vec g = tanh(load(x + 2 * unit_block) + load(y + 2 * unit_block));
        const Vec c = fma(f, c_prev, i * g);
        const Vec o =
            sigmoid(with_peephole<Peepholes>(s, 2, u, c, load(x + 3 * unit_block) + load(y + 3 * unit_block)));
        if (s.save) {
            store(x, i);
            store(x + unit_block, f);
            store(x + 2 * unit_block, g);
            store(x + 3 * unit_block, o);
        }
        store(s.c + r * s.c_stride + u, c);
        store_units(s.h + r * s.h_stride + u, o * tanh(c), left);
    });
}

// do = dh tanh(c); dc += dh o (1 - tanh(c)^2); di = dc g; df = dc c'; dg = dc i; dc' = dc f; then through sigmoid and
// tanh. With peepholes dc also gets p_o do, and dc' gets p_i di + p_f df, all behind the sigmoids.
template <bool Peepholes>
void lstm_backward(const CellBackward& s) {
    const Vec one = broadcast(1.0f);
    for_each_vector<4>(s.rows, s.units, [&](size_t r, size_t u, size_t gate, size_t left) {
        Vec dh = load(s.dh + r * s.dh_stride + u);
        if (s.dy) dh += load_units(s.dy + r * s.dy_stride + u, left);
        float* x = s.gates + r * s.gate_stride + gate;
        const Vec i = load(x), f = load(x + unit_block), g = load(x + 2 * unit_block), o = load(x + 3 * unit_block);
        const Vec tanh_c = tanh(load(s.c + r * s.c_stride + u));
        const Vec d_o = dh * tanh_c * o * (one - o);
        float* dc_row = s.dc + r * s.dc_stride + u;
        const Vec dc = fma(dh * o, one - tanh_c * tanh_c, with_peephole<Peepholes>(s, 2, u, d_o, load(dc_row)));
        const Vec d_i = dc * g * i * (one - i), d_f = dc * load(s.c_prev + r * s.c_prev_stride + u) * f * (one - f);
        store(x, d_i);
        store(x + unit_block, d_f);
        store(x + 2 * unit_block, dc * i * (one - g * g));
        store(x + 3 * unit_block, d_o);
        store(dc_row, with_peephole<Peepholes>(s, 0, u, d_i, with_peephole<Peepholes>(s, 1, u, d_f, dc * f)));
    });
}

// r, z = sigmoid; n = tanh(gx_n + r * gh_n); h = (1 - z) * n + z * h'
void gru_forward(const CellForward& s) {
    for_each_vector<3>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const float* y = s.recurrent + row * s.recurrent_stride + gate;
        const Vec r = sigmoid(load(x) + load(y));
        const Vec z = sigmoid(load(x + unit_block) + load(y + unit_block));
        const Vec hn = load(y + 2 * unit_block);
        const Vec n = tanh(fma(r, hn, load(x + 2 * unit_block)));
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        if (s.save) {
            store(x, r);
            store(x + unit_block, z);
            store(x + 2 * unit_block, n);
            store(s.extra + row * s.extra_stride + u, hn);
        }
        store_units(s.h + row * s.h_stride + u, fma(z, h_prev - n, n), left);
    });
}

// dn = dh (1 - z); dz = dh (h' - n); gradient of n's input part a = dn (1 - n^2), of its recurrent part a r; dr = a hn
void gru_backward(const CellBackward& s) {
    const Vec one = broadcast(1.0f);
    for_each_vector<3>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* dh_direct = s.dh_direct + row * s.dh_direct_stride + u;
        Vec dh = load(s.dh + row * s.dh_stride + u);
        if (s.dy) dh += load_units(s.dy + row * s.dy_stride + u, left);
        dh += load(dh_direct);
        float* x = s.gates + row * s.gate_stride + gate;
        float* hn = s.extra + row * s.extra_stride + u;
        const Vec r = load(x), z = load(x + unit_block), n = load(x + 2 * unit_block);
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        const Vec a = dh * (one - z) * (one - n * n);
        store(x, a * load(hn) * r * (one - r));
        store(x + unit_block, dh * (h_prev - n) * z * (one - z));
        store(x + 2 * unit_block, a * r);
        store(hn, a);
        store(dh_direct, dh * z);
    });
}

// The GRU whose reset gate acts before the recurrent product of n (Cho et al., arXiv:1406.1078; linear_before_reset=0
// of ONNX): r, z = sigmoid; then, of all units, r h' is what a second product reads.
void gru_reset_before_forward(const CellForward& s) {
    for_each_vector<3>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const float* y = s.recurrent + row * s.recurrent_stride + gate;
        const Vec r = sigmoid(load(x) + load(y));
        store(x, r);
        store(x + unit_block, sigmoid(load(x + unit_block) + load(y + unit_block)));
        store(s.extra + row * s.extra_stride + u, r * load_units(s.h_prev + row * s.h_prev_stride + u, left));
    });
}

// n = tanh(gx_n + U (r h')); h = (1 - z) * n + z * h'. recurrent: [rows, units], n's alone
void gru_reset_before_second_forward(const CellForward& s) {
    for_each_vector<3>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec n = tanh(load(x + 2 * unit_block) + load(s.recurrent + row * s.recurrent_stride + u));
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        if (s.save) store(x + 2 * unit_block, n);
        store_units(s.h + row * s.h_stride + u, fma(load(x + unit_block), h_prev - n, n), left);
    });
}

// The second part comes first: dn = dh (1 - z) (1 - n^2), also in `extra`; dz = dh (h' - n); the direct part dh z
void gru_reset_before_backward(const CellBackward& s) {
    const Vec one = broadcast(1.0f);
    for_each_vector<3>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* dh_direct = s.dh_direct + row * s.dh_direct_stride + u;
        Vec dh = load(s.dh + row * s.dh_stride + u);
        if (s.dy) dh += load_units(s.dy + row * s.dy_stride + u, left);
        dh += load(dh_direct);
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec z = load(x + unit_block), n = load(x + 2 * unit_block);
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        const Vec a = dh * (one - z) * (one - n * n);
        store(x + unit_block, dh * (h_prev - n) * z * (one - z));
        store(x + 2 * unit_block, a);
        store(s.extra + row * s.extra_stride + u, a);
        store(dh_direct, dh * z);
    });
}

// dh: U^T dn, the gradient of r h'. dr = dh h'; the direct part gets dh r
void gru_reset_before_second_backward(const CellBackward& s) {
    for_each_vector<3>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* dh_direct = s.dh_direct + row * s.dh_direct_stride + u;
        float* x = s.gates + row * s.gate_stride + gate;
        const Vec r = load(x), d = load(s.dh + row * s.dh_stride + u);
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        store(x, d * h_prev * r * (broadcast(1.0f) - r));
        store(dh_direct, fma(d, r, load(dh_direct)));
    });
}

// The minimal gated unit in the form with one recurrent product, as the GRU's: f = sigmoid; n = tanh(gx_n + f * gh_n);
// h = (1 - f) * h' + f * n
void mgu_forward(const CellForward& s) {
    for_each_vector<2>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* x = s.gates + row * s.gate_stride + gate;
        const float* y = s.recurrent + row * s.recurrent_stride + gate;
        const Vec f = sigmoid(load(x) + load(y));
        const Vec hn = load(y + unit_block);
        const Vec n = tanh(fma(f, hn, load(x + unit_block)));
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        if (s.save) {
            store(x, f);
            store(x + unit_block, n);
            store(s.extra + row * s.extra_stride + u, hn);
        }
        store_units(s.h + row * s.h_stride + u, fma(f, n - h_prev, h_prev), left);
    });
}

// dn = dh f; gradient of n's input part a = dn (1 - n^2), of its recurrent part a f; df = dh (n - h') + a hn
void mgu_backward(const CellBackward& s) {
    const Vec one = broadcast(1.0f);
    for_each_vector<2>(s.rows, s.units, [&](size_t row, size_t u, size_t gate, size_t left) {
        float* dh_direct = s.dh_direct + row * s.dh_direct_stride + u;
        Vec dh = load(s.dh + row * s.dh_stride + u);
        if (s.dy) dh += load_units(s.dy + row * s.dy_stride + u, left);
        dh += load(dh_direct);
        float* x = s.gates + row * s.gate_stride + gate;
        float* hn = s.extra + row * s.extra_stride + u;
        const Vec f = load(x), n = load(x + unit_block);
        const Vec h_prev = load_units(s.h_prev + row * s.h_prev_stride + u, left);
        const Vec a = dh * f * (one - n * n);
        store(x, fma(dh, n - h_prev, a * load(hn)) * f * (one - f));
        store(x + unit_block, a * f);
        store(hn, a);
        store(dh_direct, dh * (one - f));
    });
}

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
