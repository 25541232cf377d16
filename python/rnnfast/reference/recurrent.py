"""The recurrent layers in double precision NumPy, forward and backward: the readable specification.

Everything the compiled core computes is compared with this file. Shapes: x (T, N, D), h and c (N, H), weights in
PyTorch's order and layout: i f g o for the LSTM, r z n for the GRU. A cell is a step and its derivative: gx and gh are the
input's and the recurrent product's parts of the gates; a cell without a recurrent product reads x and weight_c instead of gh.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np


def sigmoid(x):
    """σ(x) = 1 / (1 + exp(-x)).

    >>> sigmoid(np.array([-1.0, 0.0])).round(3).tolist()
    [0.269, 0.5]
    """
    return 1 / (1 + np.exp(-x))


def rnn_step(gx, gh, h, c, phi=np.tanh):
    h = phi(gx + gh)
    return h, c, (h,)


def rnn_step_back(saved, dh, dc, h_prev, c_prev, slope=lambda h: 1 - h * h):
    (h,) = saved
    dg = dh * slope(h)
    return dg, dg, 0, dc


def relu_step(gx, gh, h, c):
    return rnn_step(gx, gh, h, c, phi=lambda x: np.maximum(x, 0))


def relu_step_back(saved, dh, dc, h_prev, c_prev):
    return rnn_step_back(saved, dh, dc, h_prev, c_prev, slope=lambda h: h > 0)


def lstm_step(gx, gh, h, c):
    i, f, g, o = np.split(gx + gh, 4, axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * c + i * g
    return o * np.tanh(c), c, (i, f, g, o, c)


def lstm_step_back(saved, dh, dc, h_prev, c_prev):
    i, f, g, o, c = saved
    tanh_c = np.tanh(c)
    dc = dc + dh * o * (1 - tanh_c**2)
    dg = np.hstack([dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)])
    return dg, dg, 0, dc * f


def lstm_peephole_step(gx, gh, h, c, weight_c):
    p_i, p_f, p_o = np.split(weight_c, 3)
    i, f, g, o = np.split(gx + gh, 4, axis=1)
    i, f, g = sigmoid(i + p_i * c), sigmoid(f + p_f * c), np.tanh(g)
    c = f * c + i * g
    o = sigmoid(o + p_o * c)
    return o * np.tanh(c), c, (i, f, g, o, c)


def lstm_peephole_step_back(saved, dh, dc, h_prev, c_prev, weight_c):
    p_i, p_f, p_o = np.split(weight_c, 3)
    i, f, g, o, c = saved
    do = dh * np.tanh(c) * o * (1 - o)
    dc = dc + dh * o * (1 - np.tanh(c) ** 2) + do * p_o
    di, df = dc * g * i * (1 - i), dc * c_prev * f * (1 - f)
    dg = np.hstack([di, df, dc * i * (1 - g**2), do])
    return dg, dg, 0, dc * f + di * p_i + df * p_f


def gru_step(gx, gh, h, c):
    (rx, zx, nx), (rh, zh, nh) = np.split(gx, 3, axis=1), np.split(gh, 3, axis=1)
    r, z = sigmoid(rx + rh), sigmoid(zx + zh)
    n = np.tanh(nx + r * nh)
    return (1 - z) * n + z * h, c, (r, z, n, nh)


def gru_step_back(saved, dh, dc, h_prev, c_prev):
    r, z, n, nh = saved
    da = dh * (1 - z) * (1 - n * n)
    dr, dz = da * nh * r * (1 - r), dh * (h_prev - n) * z * (1 - z)
    return np.hstack([dr, dz, da]), np.hstack([dr, dz, da * r]), dh * z, dc


def gru_reset_before_step(gx, gh, h, c, w_hh, b_hh):
    (rx, zx, nx), (rh, zh, _) = np.split(gx, 3, axis=1), np.split(gh, 3, axis=1)
    r, z = sigmoid(rx + rh), sigmoid(zx + zh)
    H = h.shape[1]
    n = np.tanh(nx + (r * h) @ w_hh[2 * H :].T + b_hh[2 * H :])
    return (1 - z) * n + z * h, c, (r, z, n)


def gru_reset_before_step_back(saved, dh, dc, h_prev, c_prev, w_hh):
    r, z, n = saved
    da, H = dh * (1 - z) * (1 - n * n), dh.shape[1]
    dreset = da @ w_hh[2 * H :]
    dg = np.hstack([dreset * h_prev * r * (1 - r), dh * (h_prev - n) * z * (1 - z), da])
    return dg, dg, dh * z + dreset * r, dc


def mgu_step(gx, gh, h, c):
    (fx, nx), (fh, nh) = np.split(gx, 2, axis=1), np.split(gh, 2, axis=1)
    f = sigmoid(fx + fh)
    n = np.tanh(nx + f * nh)
    return (1 - f) * h + f * n, c, (f, n, nh)


def mgu_step_back(saved, dh, dc, h_prev, c_prev):
    f, n, nh = saved
    da = dh * f * (1 - n * n)
    df = (dh * (n - h_prev) + da * nh) * f * (1 - f)
    return np.hstack([df, da]), np.hstack([df, da * f]), dh * (1 - f), dc


def candidate(v):
    return np.where(v >= 0, v + 0.5, sigmoid(v))


def candidate_slope(n):
    return np.where(n >= 0.5, 1, n * (1 - n))


def mingru_step(gx, x, h, c, weight_c):
    n, z = np.split(gx, 2, axis=1)
    n, z = candidate(n), sigmoid(z)
    return (1 - z) * h + z * n, c, (n, z)


def mingru_step_back(saved, dh, dc, h_prev, c_prev, weight_c):
    n, z = saved
    return np.hstack([dh * z * candidate_slope(n), dh * (n - h_prev) * z * (1 - z)]), 0, dh * (1 - z), dc


def minlstm_step(gx, x, h, c, weight_c):
    n, f, i = np.split(gx, 3, axis=1)
    n, f, i = candidate(n), sigmoid(f), sigmoid(i)
    return (f * h + i * n) / (f + i), c, (n, f, i)


def minlstm_step_back(saved, dh, dc, h_prev, c_prev, weight_c):
    n, f, i = saved
    q = dh * (h_prev - n) / (f + i) ** 2
    dg = [dh * i / (f + i) * candidate_slope(n), q * i * f * (1 - f), -q * f * i * (1 - i)]
    return np.hstack(dg), 0, dh * f / (f + i), dc


SRU_SCALE = np.sqrt(1 + 2 * np.exp(-2))


def sru_step(gx, x, h, c_prev, weight_c):
    H = h.shape[1]
    u, f, r, *own = np.split(gx, gx.shape[1] // H, axis=1)
    f, r = sigmoid(f + weight_c[:H] * c_prev), sigmoid(r + weight_c[H:] * c_prev)
    highway = own[0] if own else SRU_SCALE * x
    c = f * c_prev + (1 - f) * u
    return r * c + (1 - r) * highway, c, (u, f, r, c, highway, bool(own))


def sru_step_back(saved, dh, dc, h_prev, c_prev, weight_c):
    u, f, r, c, highway, own = saved
    H = h_prev.shape[1]
    dc, dhighway = dc + dh * r, dh * (1 - r)
    df, dr = dc * (c_prev - u) * f * (1 - f), dh * (c - highway) * r * (1 - r)
    dc_prev = dc * f + df * weight_c[:H] + dr * weight_c[H:]
    dg = np.hstack([dc * (1 - f), df, dr] + [dhighway] * own)
    return dg, 0 if own else SRU_SCALE * dhighway, 0, dc_prev


def qrnn_step(gx, x, h, c, weight_c):
    z, f, o = np.split(gx, 3, axis=1)
    z, f, o = np.tanh(z), sigmoid(f), sigmoid(o)
    c = f * c + (1 - f) * z
    return o * c, c, (z, f, o, c)


def qrnn_step_back(saved, dh, dc, h_prev, c_prev, weight_c):
    z, f, o, c = saved
    dc = dc + dh * o
    dg = [dc * (1 - f) * (1 - z * z), dc * (c_prev - z) * f * (1 - f), dh * c * o * (1 - o)]
    return np.hstack(dg), 0, 0, dc * f


CELLS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "rnn": (rnn_step, rnn_step_back),
    "rnn_relu": (relu_step, relu_step_back),
    "lstm": (lstm_step, lstm_step_back),
    "lstm_peephole": (lstm_peephole_step, lstm_peephole_step_back),
    "gru": (gru_step, gru_step_back),
    "mgu": (mgu_step, mgu_step_back),
    "gru_reset_before": (gru_reset_before_step, gru_reset_before_step_back),
    "mingru": (mingru_step, mingru_step_back),
    "minlstm": (minlstm_step, minlstm_step_back),
    "sru": (sru_step, sru_step_back),
    "qrnn": (qrnn_step, qrnn_step_back),
}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_c")  # of a scan's parameters, if it has them


class Scan:
    """One layer in one direction: x (T, N, D) to y (T, N, H), and back.

    >>> weights = {"weight_ih": np.eye(2), "weight_hh": np.zeros((2, 2)), "bias_ih": np.zeros(2), "bias_hh": np.zeros(2)}
    >>> zeros = np.zeros((1, 2))
    >>> scan = Scan("rnn", np.ones((3, 1, 2)), zeros, zeros, weights, lengths=np.array([3]))
    >>> scan.y.shape, bool(np.allclose(scan.y, np.tanh(1)))
    ((3, 1, 2), True)
    >>> dx, dh, dc, grads = scan.backward(np.ones((3, 1, 2)), zeros, zeros)
    >>> grads["weight_ih"].shape
    (2, 2)
    """

    def __init__(self, cell, x, h, c, weights, lengths):
        step, self.step_back = CELLS[cell]
        w_ih, w_hh, b_ih, b_hh, self.w_c = (weights.get(name) for name in NAMES)
        self.x, self.h0, self.c0, self.w_ih, self.w_hh, self.lengths = x, h, c, w_ih, w_hh, lengths
        self.resets = cell == "gru_reset_before"  # its last gate reads r h: a second product within the step
        more = [w_hh, b_hh] if self.resets else [] if self.w_c is None else [self.w_c]
        self.y, self.cs, self.saved = [], [], []
        for t in range(len(x)):
            on = (t < lengths)[:, None]  # finished rows keep their state and give zeros
            gx = x[t] @ w_ih.T + b_ih
            if w_hh is None:
                new_h, new_c, saved = step(gx, x[t], h, c, self.w_c)
            else:
                new_h, new_c, saved = step(gx, h @ w_hh.T + b_hh, h, c, *more)
            self.saved.append((saved, h, c))
            h, c = np.where(on, new_h, h), np.where(on, new_c, c)
            self.y.append(np.where(on, new_h, 0))
        self.h, self.c, self.y = h, c, np.array(self.y)

    def backward(self, dy, dh, dc):
        if self.w_hh is None:
            return self._backward_without_product(dy, dh, dc)
        dw_ih, dw_hh = np.zeros_like(self.w_ih), np.zeros_like(self.w_hh)
        db_ih, db_hh, dx = np.zeros(len(dw_ih)), np.zeros(len(dw_ih)), np.zeros_like(self.x)
        H, dw_c = dh.shape[1], 0
        more = [self.w_hh] if self.resets else [] if self.w_c is None else [self.w_c]
        of_h = 2 * H if self.resets else len(dw_hh)  # rows of weight_hh that read h
        for t in reversed(range(len(self.x))):
            on = (t < self.lengths)[:, None]
            saved, h_prev, c_prev = self.saved[t]
            dgx, dgh, direct, dc_prev = self.step_back(saved, dh + dy[t], dc, h_prev, c_prev, *more)
            dgx, dgh = dgx * on, dgh * on
            dh, dc = np.where(on, dgh[:, :of_h] @ self.w_hh[:of_h] + direct, dh), np.where(on, dc_prev, dc)
            dx[t] = dgx @ self.w_ih
            dw_ih, db_ih = dw_ih + dgx.T @ self.x[t], db_ih + dgx.sum(0)
            dw_hh[:of_h] += dgh[:, :of_h].T @ h_prev
            if self.resets:
                dw_hh[of_h:] += dgh[:, of_h:].T @ (saved[0] * h_prev)
            db_hh = db_hh + dgh.sum(0)
            if self.w_c is not None:  # i and f read c of the step before, o that of its own
                di, df, _, do = np.split(dgh, 4, axis=1)
                dw_c = dw_c + np.hstack([(di * c_prev).sum(0), (df * c_prev).sum(0), (do * saved[-1]).sum(0)])
        grads = dict(zip(NAMES, (dw_ih, dw_hh, db_ih, db_hh, dw_c)))
        return dx, dh, dc, grads if self.w_c is not None else {name: grads[name] for name in NAMES[:4]}

    def _backward_without_product(self, dy, dh, dc):
        H = dh.shape[1]
        grads, dx = {"weight_ih": np.zeros_like(self.w_ih), "bias_ih": np.zeros(len(self.w_ih))}, np.zeros_like(self.x)
        if self.w_c is not None:
            grads["weight_c"] = np.zeros_like(self.w_c)
        for t in reversed(range(len(self.x))):
            on = (t < self.lengths)[:, None]
            saved, h_prev, c_prev = self.saved[t]
            dg, past_gates, dh_prev, dc_prev = self.step_back(saved, dh + dy[t], dc, h_prev, c_prev, self.w_c)
            dg, dh, dc = dg * on, np.where(on, dh_prev, dh), np.where(on, dc_prev, dc)
            dx[t] = dg @ self.w_ih + past_gates * on
            grads["weight_ih"] += dg.T @ self.x[t]
            grads["bias_ih"] += dg.sum(0)
            if self.w_c is not None:
                grads["weight_c"] += np.hstack(
                    [(dg[:, H : 2 * H] * c_prev).sum(0), (dg[:, 2 * H : 3 * H] * c_prev).sum(0)]
                )
        return dx, dh, dc, grads


def flip(x, lengths):
    """Each row's first ``lengths[n]`` steps in reverse order."""
    out = np.zeros_like(x)
    for n, length in enumerate(lengths):
        out[:length, n] = x[:length, n][::-1]
    return out


class Stack:
    """Layers and directions: x (T, N, D) to y (T, N, directions * H), and back.

    ``weights`` is a PyTorch state_dict of float64 arrays; h0 and c0 are (layers * directions, N, H), lengths (N,). Where weight_ih has columns
    for two steps of x, a scan reads x_t and x_{t-1}: before the first step zeros, but in one direction ``x0`` (N, D), if given, and above it h0
    of the layer below. ``backward`` gives no gradient of ``x0``.

    >>> import rnnfast as rf
    >>> layer, x = rf.GRU(3, 5, num_layers=2, seed=0), np.ones((7, 2, 3))
    >>> weights = {name: value.astype(float) for name, value in layer.state_dict().items()}
    >>> zeros = np.zeros((2, 2, 5))
    >>> stack = Stack("gru", x, weights, zeros, zeros, lengths=np.array([7, 7]))
    >>> bool(np.abs(stack.y - layer(x)[0]).max() < 1e-6)
    True
    """

    def __init__(self, cell, x, weights, h0, c0, lengths, x0=None):
        self.directions = 1 + any(name.endswith("_reverse") for name in weights)
        self.layers, self.lengths, self.scans = len(h0) // self.directions, lengths, []
        self.widths = []
        for layer in range(self.layers):
            outputs = []
            self.widths.append(x.shape[2])
            for direction in range(self.directions):
                suffix = f"_l{layer}" + "_reverse" * direction
                parts = {name: weights[name + suffix] for name in NAMES if name + suffix in weights}
                lane = layer * self.directions + direction
                read = flip(x, lengths) if direction else x
                if "weight_ih" in parts and parts["weight_ih"].shape[1] == 2 * x.shape[2] > 0:
                    below = None if self.directions == 2 else h0[layer - 1] if layer else x0
                    first = np.zeros_like(read[0]) if below is None else below
                    read = np.concatenate([read, np.concatenate([first[None], read[:-1]])], axis=2)
                scan = Scan(cell, read, h0[lane], c0[lane], parts, lengths)
                self.scans.append((suffix, scan))
                outputs.append(flip(scan.y, lengths) if direction else scan.y)
            x = np.concatenate(outputs, axis=2)
        self.y = x
        self.h = np.array([scan.h for _, scan in self.scans])
        self.c = np.array([scan.c for _, scan in self.scans])

    def backward(self, dy, dh, dc):
        """dx, dh0, dc0, and the weights' gradients by name."""
        grads, dh0, dc0 = {}, np.zeros_like(self.h), np.zeros_like(self.c)
        for layer in reversed(range(self.layers)):
            parts = np.split(dy, self.directions, axis=2)
            dy = 0
            for direction in range(self.directions):
                lane = layer * self.directions + direction
                suffix, scan = self.scans[lane]
                part = flip(parts[direction], self.lengths) if direction else parts[direction]
                dx, own, dc0[lane], gradients = scan.backward(part, dh[lane], dc[lane])
                dh0[lane] += own
                if dx.shape[2] == 2 * self.widths[layer] > 0:
                    now, past = np.split(dx, 2, axis=2)
                    dx = now + np.concatenate([past[1:], np.zeros_like(past[:1])])
                    if layer and self.directions == 1:
                        dh0[layer - 1] += past[0]
                dy = dy + (flip(dx, self.lengths) if direction else dx)
                for name, gradient in gradients.items():
                    grads[name + suffix] = gradient
        return dy, dh0, dc0, grads
