"""Conv1d, SelfAttention, LayerNorm and RMSNorm in double precision NumPy, forward and backward: the readable specification.

Shapes: x (T, N, D); weights in torch's order and layout. Convolution: weight (O, C, k). Attention: in_proj (3 D, D).
"""

from __future__ import annotations

import numpy as np


class Convolution:
    """y[t] = b + sum over taps j of x[t + j * dilation - before] W[:, :, j]^T, zeros outside."""

    def __init__(self, x, weight, bias, before, after, dilation):
        self.weight, self.dilation, self.before, self.steps = weight, dilation, before, len(x)
        T, N, C = x.shape
        self.padded = np.concatenate([np.zeros((before, N, C)), x, np.zeros((after, N, C))])
        self.length = T + before + after - dilation * (weight.shape[2] - 1)
        self.y = bias + sum(self.tap(j) @ weight[:, :, j].T for j in range(weight.shape[2]))

    def tap(self, j):
        return self.padded[j * self.dilation : j * self.dilation + self.length]

    def backward(self, dy):
        dpadded, dweight = np.zeros_like(self.padded), np.zeros_like(self.weight)
        for j in range(self.weight.shape[2]):
            dweight[:, :, j] = np.einsum("tno,tnc->oc", dy, self.tap(j))
            dpadded[j * self.dilation : j * self.dilation + self.length] += dy @ self.weight[:, :, j]
        return dpadded[self.before : self.before + self.steps], {"weight": dweight, "bias": dy.sum((0, 1))}


class Attention:
    """softmax(Q K^T / sqrt(d)) V for every head; each row of the batch separately, with its own length."""

    def __init__(self, x, weights, heads, causal, lengths):
        self.x, self.w, self.heads, self.lengths = x, weights, heads, lengths
        D = x.shape[2]
        self.scale = (D // heads) ** -0.5
        self.y, self.saved = np.zeros_like(x), []
        for n, length in enumerate(lengths):
            q, k, v = self.split(x[:length, n] @ weights["in_proj_weight"].T + weights.get("in_proj_bias", 0))
            scores = np.einsum("thd,shd->hts", q, k) * self.scale
            if causal:
                scores[:, np.arange(length)[:, None] < np.arange(length)] = -np.inf
            p = np.exp(scores - scores.max(2, keepdims=True))
            p /= p.sum(2, keepdims=True)
            context = np.einsum("hts,shd->thd", p, v).reshape(length, D)
            self.y[:length, n] = context @ weights["out_proj.weight"].T + weights.get("out_proj.bias", 0)
            self.saved.append((q, k, v, p, context))

    def split(self, projected):
        length, D = projected.shape[0], self.x.shape[2]
        return projected.reshape(length, 3, self.heads, D // self.heads).swapaxes(0, 1)

    def backward(self, dy):
        dx, grads = np.zeros_like(self.x), {name: np.zeros_like(w) for name, w in self.w.items()}
        for n, length in enumerate(self.lengths):
            q, k, v, p, context = self.saved[n]
            dy_n = dy[:length, n]
            dcontext = (dy_n @ self.w["out_proj.weight"]).reshape(v.shape)
            dp = np.einsum("thd,shd->hts", dcontext, v)
            ds = p * (dp - (p * dp).sum(2, keepdims=True)) * self.scale
            parts = [
                np.einsum("hts,shd->thd", ds, k),
                np.einsum("hts,thd->shd", ds, q),
                np.einsum("hts,thd->shd", p, dcontext),
            ]
            dprojected = np.stack([d.reshape(length, -1) for d in parts], 1).reshape(length, -1)
            dx[:length, n] = dprojected @ self.w["in_proj_weight"]
            grads["in_proj_weight"] += dprojected.T @ self.x[:length, n]
            grads["out_proj.weight"] += dy_n.T @ context
            if "in_proj_bias" in grads:
                grads["in_proj_bias"] += dprojected.sum(0)
                grads["out_proj.bias"] += dy_n.sum(0)
        return dx, grads


class Normalization:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis; one weight and bias for all rows.

    Not centered, it is RMSNorm: the mean counts as 0.
    """

    def __init__(self, x, weights, eps, centered=True):
        self.w, self.centered = weights, centered
        centred = x - centered * x.mean(-1, keepdims=True)
        self.inverse = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        self.normalized = centred * self.inverse
        self.y = self.normalized * weights.get("weight", 1) + weights.get("bias", 0)

    def backward(self, dy):
        g = dy * self.w.get("weight", 1)
        slope = (g * self.normalized).mean(-1, keepdims=True)
        dx = (g - self.centered * g.mean(-1, keepdims=True) - self.normalized * slope) * self.inverse
        rows = tuple(range(dy.ndim - 1))
        grads = {"weight": (dy * self.normalized).sum(rows), "bias": dy.sum(rows)}
        return dx, {name: grads[name] for name in self.w}
