"""The recurrent layers in double precision NumPy, forward and backward: the readable specification.

Everything the compiled core computes is compared with this file. Shapes: x (T, N, D), h and c (N, H), weights in
PyTorch's order and layout: i f g o for the LSTM, r z n for the GRU.
"""

from __future__ import annotations

import numpy as np


def sigmoid(x):
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


CELLS = {
    "rnn": (rnn_step, rnn_step_back),
    "rnn_relu": (relu_step, relu_step_back),
    "lstm": (lstm_step, lstm_step_back),
    "gru": (gru_step, gru_step_back),
    "mgu": (mgu_step, mgu_step_back),
}


class Scan:
    """One layer in one direction: x (T, N, D) to y (T, N, H), and back."""

    def __init__(self, cell, x, h, c, w_ih, w_hh, b_ih, b_hh, lengths):
        step, self.step_back = CELLS[cell]
        self.x, self.h0, self.c0, self.w_ih, self.w_hh, self.lengths = x, h, c, w_ih, w_hh, lengths
        self.y, self.cs, self.saved = [], [], []
        for t in range(len(x)):
            on = (t < lengths)[:, None]  # finished rows keep their state and give zeros
            new_h, new_c, saved = step(x[t] @ w_ih.T + b_ih, h @ w_hh.T + b_hh, h, c)
            self.saved.append((saved, h, c))
            h, c = np.where(on, new_h, h), np.where(on, new_c, c)
            self.y.append(np.where(on, new_h, 0))
        self.h, self.c, self.y = h, c, np.array(self.y)

    def backward(self, dy, dh, dc):
        dw_ih, dw_hh = np.zeros_like(self.w_ih), np.zeros_like(self.w_hh)
        db_ih, db_hh, dx = np.zeros(len(dw_ih)), np.zeros(len(dw_ih)), np.zeros_like(self.x)
        for t in reversed(range(len(self.x))):
            on = (t < self.lengths)[:, None]
            saved, h_prev, c_prev = self.saved[t]
            dgx, dgh, direct, dc_prev = self.step_back(saved, dh + dy[t], dc, h_prev, c_prev)
            dgx, dgh = dgx * on, dgh * on
            dh, dc = np.where(on, dgh @ self.w_hh + direct, dh), np.where(on, dc_prev, dc)
            dx[t] = dgx @ self.w_ih
            dw_ih, db_ih = dw_ih + dgx.T @ self.x[t], db_ih + dgx.sum(0)
            dw_hh, db_hh = dw_hh + dgh.T @ h_prev, db_hh + dgh.sum(0)
        return dx, dh, dc, (dw_ih, dw_hh, db_ih, db_hh)


def flip(x, lengths):
    """Each row's first ``lengths[n]`` steps in reverse order."""
    out = np.zeros_like(x)
    for n, length in enumerate(lengths):
        out[:length, n] = x[:length, n][::-1]
    return out


class Stack:
    """Layers and directions; ``weights`` is a PyTorch state_dict of float64 arrays."""

    def __init__(self, cell, x, weights, layers, directions, h0, c0, lengths):
        self.layers, self.directions, self.lengths, self.scans = layers, directions, lengths, []
        for layer in range(layers):
            outputs = []
            for direction in range(directions):
                suffix = f"_l{layer}" + "_reverse" * direction
                parts = [weights[f"{name}{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
                lane = layer * directions + direction
                scan = Scan(cell, flip(x, lengths) if direction else x, h0[lane], c0[lane], *parts, lengths)
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
                dx, dh0[lane], dc0[lane], gradients = scan.backward(part, dh[lane], dc[lane])
                dy = dy + (flip(dx, self.lengths) if direction else dx)
                for name, gradient in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), gradients):
                    grads[name + suffix] = gradient
        return dy, dh0, dc0, grads
