"""Conv1d, SelfAttention, normalizations, pooling by attention, reflected steps and magnitudes in double precision NumPy, forward and backward:
the readable specification.

Shapes: x (T, N, D); weights in torch's order and layout. Convolution: weight (O, C / groups, k). Attention: in_proj (3 D, D).
"""

from __future__ import annotations

import numpy as np


class Convolution:
    """y[t] = b + sum over taps j of x[t * stride + j * dilation - before] W[:, :, j]^T, zeros outside; each group on its own.

    >>> x, weight = np.arange(4.0).reshape(4, 1, 1), np.ones((1, 1, 2))
    >>> Convolution(x, weight, np.zeros(1), before=1, after=0, dilation=1).y.ravel().tolist()
    [0.0, 1.0, 3.0, 5.0]
    """

    def __init__(self, x, weight, bias, before, after, dilation, stride=1):
        self.weight, self.before, self.steps = weight, before, len(x)
        T, N, C = x.shape
        self.groups = C // weight.shape[1]
        self.padded = np.concatenate([np.zeros((before, N, C)), x, np.zeros((after, N, C))])
        length = (T + before + after - dilation * (weight.shape[2] - 1) - 1) // stride + 1
        self.taps = [
            slice(j * dilation, j * dilation + (length - 1) * stride + 1, stride) for j in range(weight.shape[2])
        ]
        products = (self.by_group(self.padded[tap]) @ self.tap(j).swapaxes(1, 2) for j, tap in enumerate(self.taps))
        self.y = bias + self.joined(sum(products))

    def tap(self, j):
        """The weights of a tap, (groups, O / groups, C / groups)."""
        return self.weight[:, :, j].reshape(self.groups, -1, self.weight.shape[1])

    def by_group(self, x):
        """(T, N, channels) as (T, groups, N, channels / groups)."""
        return x.reshape(*x.shape[:2], self.groups, -1).swapaxes(1, 2)

    def joined(self, x):
        return x.swapaxes(1, 2).reshape(len(x), x.shape[2], -1)

    def backward(self, dy):
        dpadded, dweight, groups = np.zeros_like(self.padded), np.zeros_like(self.weight), self.by_group(dy)
        for j, tap in enumerate(self.taps):
            products = np.einsum("tgno,tgnc->goc", groups, self.by_group(self.padded[tap]))
            dweight[:, :, j] = products.reshape(dweight.shape[:2])
            dpadded[tap] += self.joined(groups @ self.tap(j))
        return dpadded[self.before : self.before + self.steps], {"weight": dweight, "bias": dy.sum((0, 1))}


class Attention:
    """softmax(Q K^T / sqrt(d)) V for every head; each row of the batch separately, with its own length.

    >>> weights = {"in_proj_weight": np.vstack([np.zeros((4, 2)), np.eye(2)]), "out_proj.weight": np.eye(2)}
    >>> x = np.array([[[2.0, 0.0]], [[4.0, 6.0]]])
    >>> Attention(x, weights, heads=1, causal=True, lengths=[2]).y[:, 0].tolist()  # equal scores: means
    [[2.0, 0.0], [3.0, 3.0]]
    """

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

    >>> Normalization(np.array([1.0, 3.0]), {}, eps=0).y.tolist()
    [-1.0, 1.0]
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


class BatchNormalization:
    """(x - mean) / sqrt(variance + eps) * weight + bias of every channel, over the steps that ``kept`` (T, N) marks.

    >>> x, weights = np.array([1.0, 3.0]).reshape(2, 1, 1), {"weight": np.ones(1), "bias": np.zeros(1)}
    >>> BatchNormalization(x, weights, eps=0, kept=np.ones((2, 1), bool)).y.ravel().tolist()
    [-1.0, 1.0]
    """

    def __init__(self, x, weights, eps, kept):
        self.x, self.w, self.kept = x, weights, kept[..., None]
        self.count = kept.sum()
        self.mean = (x * self.kept).sum((0, 1)) / self.count
        self.variance = ((x - self.mean) ** 2 * self.kept).sum((0, 1)) / self.count
        self.root = np.sqrt(self.variance + eps)
        self.normalized = (x - self.mean) / self.root
        self.y = (self.normalized * weights["weight"] + weights["bias"]) * self.kept

    def backward(self, dy):
        dy = dy * self.kept
        grads = {"weight": (dy * self.normalized).sum((0, 1)), "bias": dy.sum((0, 1))}
        mean = (grads["bias"] + self.normalized * grads["weight"]) / self.count
        return (dy - mean) * self.kept * self.w["weight"] / self.root, grads


class AttentionPooling:
    """The mean of each row's steps, weighted by softmax over them of w . x_t; weight (1, D).

    >>> x = np.array([[[2.0, 0.0]], [[4.0, 6.0]]])
    >>> AttentionPooling(x, {"weight": np.zeros((1, 2))}, lengths=np.array([2])).y.tolist()
    [[3.0, 3.0]]
    """

    def __init__(self, x, weights, lengths):
        self.x, self.w = x, weights["weight"][0]
        scores = x @ self.w
        scores[np.arange(len(x))[:, None] >= lengths] = -np.inf
        a = np.exp(scores - scores.max(0))
        self.a = a / a.sum(0)
        self.y = np.einsum("tn,tnw->nw", self.a, x)

    def backward(self, dy):
        dscores = self.a * ((self.x - self.y) * dy).sum(2)
        dx = self.a[..., None] * dy + dscores[..., None] * self.w
        return dx, {"weight": np.einsum("tn,tnd->d", dscores, self.x)[None]}


class Magnitudes:
    """sqrt(a^2 + b^2) of the halves a and b of the last axis; the gradient where both are 0 is 0.

    >>> Magnitudes(np.array([3.0, 0.0, 4.0, 2.0])).y.tolist()
    [5.0, 2.0]
    """

    def __init__(self, x):
        self.x = x
        a, b = np.split(x, 2, axis=-1)
        self.y = np.sqrt(a**2 + b**2)

    def backward(self, dy):
        slope = np.divide(dy, self.y, out=np.zeros_like(dy), where=self.y > 0)
        return self.x * np.concatenate([slope, slope], -1)


class Reflection:
    """Steps before and after the sequence (T, N, D) that mirror those next to its ends.

    >>> Reflection(np.array([1.0, 3.0, 5.0]).reshape(3, 1, 1), 1, 2).y.ravel().tolist()
    [3.0, 1.0, 3.0, 5.0, 3.0, 1.0]
    """

    def __init__(self, x, before, after):
        self.places = np.pad(np.arange(len(x)), (before, after), mode="reflect")
        self.x, self.y = x, x[self.places]

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        np.add.at(dx, self.places, dy)
        return dx


class StepsInside:
    """Each step of x (T, N, D) as a sequence of so many steps: (steps, T N, D / steps). ``joined`` is the way back.

    >>> inner = StepsInside(np.arange(6.0).reshape(1, 1, 6), steps=3)
    >>> inner.y[:, 0].tolist()
    [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    >>> inner.joined(inner.y).tolist()
    [[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]]
    """

    def __init__(self, x, steps):
        self.places, self.steps = x.shape[:2], steps
        self.y = self.split(x, steps)

    def split(self, x, steps):
        return x.reshape(len(x) * x.shape[1], steps, -1).swapaxes(0, 1)

    def joined(self, y):
        return y.swapaxes(0, 1).reshape(*self.places, -1)
