"""QRNN with a window of two steps: gates read x_t and x_{t-1}, and the state carries x_{t-1}."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from test_recurrent import close

import rnnfast as rf
from rnnfast.reference.recurrent import NAMES, Scan, flip

T, N, D, H, LAYERS = 7, 4, 5, 18, 3
LENGTHS = [7, 0, 3, 5]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def made(layers=LAYERS, inputs=D, **options):
    return rf.QRNN(inputs, H, layers, window=2, seed=4, **options)


def start_of(layer, rows=N, inputs=D):
    scans = layer.num_layers * (1 + layer.bidirectional)
    h, c = normal(scans, rows, H, seed=1), normal(scans, rows, H, seed=2)
    return (h, c) if layer.bidirectional else (h, c, normal(rows, inputs, seed=3))


class Windowed:
    """The layers in float64, scan by scan. before: x of the step before the first."""

    def __init__(self, layer, x, state, lengths):
        w = {name: value.astype(np.float64) for name, value in layer.state_dict().items()}
        h0, c0, *x0 = (part.astype(np.float64) for part in state)
        self.layer, self.lengths, self.scans, self.h0 = layer, np.asarray(lengths), [], h0
        directions = 1 + layer.bidirectional
        for level in range(layer.num_layers):
            outputs = []
            for direction in range(directions):
                lane, suffix = level * directions + direction, f"_l{level}" + "_reverse" * direction
                read = flip(x, self.lengths) if direction else x
                before = (x0[0] if level == 0 else h0[level - 1]) if directions == 1 else np.zeros_like(x[0])
                past = np.concatenate([before[None], read[:-1]])
                parts = {name: w[name + suffix] for name in NAMES if name + suffix in w}
                scan = Scan("qrnn", np.concatenate([read, past], 2), h0[lane], c0[lane], parts, self.lengths)
                self.scans.append((suffix, scan))
                outputs.append(flip(scan.y, self.lengths) if direction else scan.y)
            x = np.concatenate(outputs, 2)
        self.y, self.h, self.c = x, *(np.array([getattr(scan, n) for _, scan in self.scans]) for n in "hc")

    def backward(self, dy, dh, dc, dx_last=None):
        """dx, the gradients of the state's parts, and those of the weights."""
        grads, dh0, dc0, directions = {}, np.zeros_like(dh), np.zeros_like(dc), 1 + self.layer.bidirectional
        for level in reversed(range(self.layer.num_layers)):
            parts, dy = np.split(dy, directions, axis=2), 0
            for direction in range(directions):
                lane = level * directions + direction
                suffix, scan = self.scans[lane]
                part = flip(parts[direction], self.lengths) if direction else parts[direction]
                dwindow, own, dc0[lane], gradients = scan.backward(part, dh[lane], dc[lane])
                dh0[lane] += own
                now, past = np.split(dwindow, 2, axis=2)
                dx = now + np.concatenate([past[1:], np.zeros_like(past[:1])])
                if directions == 1 and level:
                    dh0[level - 1] += past[0]
                elif directions == 1:
                    dx0 = past[0]
                    for n, length in enumerate(self.lengths):
                        (dx[length - 1] if length else dx0)[n] += dx_last[n]
                dy = dy + (flip(dx, self.lengths) if direction else dx)
                grads.update({name + suffix: gradient for name, gradient in gradients.items()})
        return dy, (dh0, dc0) if directions == 2 else (dh0, dc0, dx0), grads


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("recompute", [None, "sqrt"])
def test_outputs_states_and_all_gradients_equal_the_float64_reference(bidirectional, lengths, recompute):
    layer = made(bidirectional=bidirectional, recompute=recompute)
    x, state = normal(T, N, D, seed=5), start_of(layer)
    y, after, backward = layer.forward(x, state, lengths=lengths)
    dy = normal(*y.shape, seed=6)
    dafter = tuple(normal(*part.shape, seed=7 + i) for i, part in enumerate(after))
    dx, dstart = backward(dy, dafter)
    expected = Windowed(layer, x.astype(float), state, [T] * N if lengths is None else lengths)
    close(y, expected.y, "y")
    close(after[0], expected.h, "h")
    close(after[1], expected.c, "c")
    if not bidirectional:
        last = [state[2][n] if length == 0 else x[length - 1, n] for n, length in enumerate(lengths or [T] * N)]
        assert np.array_equal(after[2], last)
    wanted_dx, wanted_start, wanted = expected.backward(dy.astype(float), *(part.astype(float) for part in dafter))
    close(dx, wanted_dx, "dx")
    for name, ours, theirs in zip(("dh0", "dc0", "dx0"), dstart, wanted_start):
        close(ours, theirs, name)
    assert set(wanted) == set(layer.grads)
    for name, gradient in wanted.items():
        close(layer.grads[name], gradient, name)


def test_gradients_are_those_of_finite_differences():
    layer = made(2)
    x, state = normal(T, N, D, seed=5), start_of(layer)
    _, _, backward = layer.forward(x, state, lengths=LENGTHS)
    dy = normal(T, N, H, seed=6)
    dx, (dh0, dc0, dx0) = backward(dy)

    def value(changed=None, **parts):
        given = [parts.get(name, part) for name, part in zip("hcx", state)]
        y, _ = (changed or layer)(parts.get("input", x), tuple(given), lengths=LENGTHS)
        return float((y.astype(float) * dy).sum())

    def slope(array, where, made_from):
        values = []
        for step in (-1e-2, 1e-2):  # large, since outputs are float32
            moved = array.copy()
            moved[where] += step
            values.append(made_from(moved))
        return (values[1] - values[0]) / 2e-2

    for name, array, gradient in (("input", x, dx), *zip("hcx", state, (dh0, dc0, dx0))):
        where = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        found = slope(array, where, lambda moved, name=name: value(**{name: moved}))
        assert found == pytest.approx(gradient[where], rel=0.01, abs=1e-3), name
    for name, weight in layer.state_dict().items():
        where = np.unravel_index(np.abs(layer.grads[name]).argmax(), weight.shape)

        def with_weight(moved, name=name):
            other = made(2)
            other.load_state_dict({**layer.state_dict(), name: moved})
            return value(other)

        assert slope(weight, where, with_weight) == pytest.approx(layer.grads[name][where], rel=0.01), name


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
def test_parts_and_steps_give_the_bits_of_the_whole(weights):
    layer = made(weights=weights)
    x, state = normal(T, N, D), start_of(layer)
    y, end = layer(x, state)
    first, between = layer(x[:3], state)
    rest, after = layer(x[3:], between)
    assert np.array_equal(np.concatenate([first, rest]), y)
    step = layer.stream(rows=N)
    step.state = state
    assert np.array_equal(np.stack([step(row) for row in x]), y)
    for ours in (after, step.state):
        assert len(ours) == 3
        assert all(np.array_equal(a, b) for a, b in zip(ours, end))
    step.reset()
    assert np.array_equal(step(x[0]), layer(x[:1])[0][0])


def test_results_depend_on_neither_threads_nor_batch():
    layer, x = rf.QRNN(64, 96, 2, window=2, seed=0), normal(33, 6, 64)
    threads, results = rf.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            rf.set_num_threads(count)
            layer.zero_grad()
            y, _, backward = layer.forward(x)
            dx, _ = backward(np.ones_like(y))
            results.append([y, dx, *(grad.copy() for grad in layer.grads.values())])
            assert np.array_equal(np.concatenate([layer(x[:, n : n + 1])[0] for n in range(6)], 1), y)
    finally:
        rf.set_num_threads(threads)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


def test_a_window_is_a_causal_convolution():
    """With the weights of x_{t-1} at 0 it is the layer without a window; with a convolution's taps, that of both."""
    wide, narrow = made(1), rf.QRNN(D, H, seed=0)
    w = narrow.state_dict()
    wide.load_state_dict({**w, "weight_ih_l0": np.concatenate([w["weight_ih_l0"], np.zeros((3 * H, D))], 1)})
    x = normal(T, N, D)
    close(wide(x)[0], narrow(x)[0].astype(float), "y")
    conv = rf.Conv1d(D, 3 * H, 2, padding="causal", seed=1)
    taps = conv.state_dict()
    both = np.concatenate([taps["weight"][:, :, 1], taps["weight"][:, :, 0]], 1)
    wide.load_state_dict({"weight_ih_l0": both, "bias_ih_l0": taps["bias"]})
    z, f, o = np.split(conv(x).astype(float), 3, axis=2)
    f, o, c, expected = 1 / (1 + np.exp(-f)), 1 / (1 + np.exp(-o)), 0, []
    for t in range(T):
        c = f[t] * c + (1 - f[t]) * np.tanh(z[t])
        expected.append(o[t] * c)
    close(wide(x)[0], np.array(expected), "y")


def test_a_single_row_batch_first_dropout_copies_and_repr():
    layer = made(dropout=0.4)
    x = normal(T, D)
    y, (h, c, last) = layer(x)
    assert (y.shape, h.shape, c.shape, last.shape) == ((T, H), (LAYERS, H), (LAYERS, H), (D,))
    assert np.array_equal(
        layer(x, (h, c, last))[0], layer(x[:, None], (*tuple(p[:, None] for p in (h, c)), last[None]))[0][:, 0]
    )
    assert np.array_equal(layer(x, (None, None, None))[0], y)
    first = made(batch_first=True)
    assert np.array_equal(first(normal(N, T, D))[0], made()(normal(N, T, D).swapaxes(0, 1))[0].swapaxes(0, 1))
    dropped, _, backward = layer.forward(x)
    assert not np.array_equal(dropped, y)
    dx, dstart = backward(np.ones_like(dropped), input_gradient=False)
    assert dx is None
    assert dstart[2].any()
    again = copy.deepcopy(layer)
    assert again.window == 2
    assert np.array_equal(again(x)[0], y)
    assert "window=2" in repr(layer)
    assert "window" not in repr(rf.QRNN(2, 3))
    assert rf.QRNN(2, 3).window == 1


def test_what_does_not_fit_is_refused():
    layer = made()
    x, (h, c, last) = normal(T, N, D), start_of(made())
    with pytest.raises(ValueError, match="window is 3, expected 1 or 2"):
        rf.QRNN(2, 3, window=3)
    with pytest.raises(TypeError, match=r"state of a QRNN with a window of 2 is \(h, c, x\), got a tuple"):
        layer(x, (h, c))
    with pytest.raises(ValueError, match=r"x of the state has shape \(4, 4\), expected \(4, 5\)"):
        layer(x, (h, c, last[:, :4]))
    step = layer.stream(rows=N)
    with pytest.raises(TypeError, match=r"state of qrnn is \(h, c, x\)"):
        step.state = (h, c)
    with pytest.raises(ValueError, match="x has shape"):
        step.state = (h, c, last[:, :4])
    net = rf.Sequential(layer)
    with pytest.raises(TypeError, match=r"state of '0' is \(h, c, x\), got a tuple"):
        net.run(x, state={"0": (h, c)})
    with pytest.raises(ValueError, match=r"state x of '0' has shape \(4, 4\), expected \(4, 5\)"):
        net.run(x, state={"0": (h, c, last[:, :4])})
    step = net.stream(rows=N)
    with pytest.raises(ValueError, match=r"state x of '0' has shape \(4, 4\), expected \(4, 5\)"):
        step.state = {"0": (h, c, last[:, :4])}
    with pytest.raises(ValueError, match="state x of '0' has NaN or infinity"):
        step.state = {"0": (h, c, np.full_like(last, np.nan))}
    with pytest.raises(ValueError, match="reads ids, which a window of several steps cannot"):
        rf.Network(inputs={"tokens": {"ids": D}}, layers={"r": layer})
    with pytest.raises(AttributeError, match="window of this|window is fixed"):
        layer.window = 1
