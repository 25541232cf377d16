"""Recurrent layers against the float64 reference, PyTorch, and themselves."""

from __future__ import annotations

import numpy as np
import pytest
from registered import LAYERS, TABLE, torch_class

import rnnfast as rf
from rnnfast import reference
from rnnfast.reference import Stack

# (T, N, D, H, layers, bidirectional, ragged): sizes on both sides of every tile, panel and block
CASES = [
    (1, 1, 1, 1, 1, False, False),
    (5, 1, 3, 300, 1, False, False),
    (3, 2, 17, 34, 2, True, False),
    (7, 3, 5, 16, 3, False, True),
    (4, 7, 64, 33, 1, True, True),
    (9, 13, 8, 65, 2, True, True),
    (6, 70, 10, 48, 1, False, False),
    (6, 33, 31, 129, 2, False, True),
    (12, 64, 1, 15, 1, True, True),
]


def close(actual, expected, what):
    """Within 1e-5 of the largest value: float32 rounding of sums of a few hundred terms, nothing more."""
    assert np.shape(actual) == np.shape(expected), what
    scale = max(np.abs(expected).max(), 1e-3)
    error = np.abs(np.asarray(actual, np.float64) - expected).max() / scale
    assert error < 1e-5, f"{what}: relative error {error:.2e}"


def random_case(cell, case, seed=0):
    T, N, D, H, layers, bidirectional, ragged = case
    rng = np.random.default_rng(seed)
    layer = LAYERS[cell](D, H, layers, bidirectional=bidirectional, seed=seed)
    lanes = layers * (1 + bidirectional)
    x = rng.normal(size=(T, N, D)).astype(np.float32)
    h0, c0, dh, dc = (rng.normal(size=(lanes, N, H)).astype(np.float32) * 0.5 for _ in range(4))
    dy = rng.normal(size=(T, N, H * (1 + bidirectional))).astype(np.float32)
    lengths = rng.integers(1, T + 1, N) if ragged else np.full(N, T)
    return layer, x, h0, c0, dh, dc, dy, lengths


def pair(cell, h, c):
    return (h, c) if TABLE[cell].has_c else h


def unpair(state):
    return state if isinstance(state, tuple) else (state, None)


def test_every_registered_cell_has_a_float64_reference_and_nothing_else_has():
    assert set(reference.CELLS) == set(LAYERS)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("cell", LAYERS)
def test_outputs_and_all_gradients_equal_the_float64_reference(cell, case):
    layer, x, h0, c0, dh, dc, dy, lengths = random_case(cell, case)
    weights = {name: value.astype(np.float64) for name, value in layer.state_dict().items()}
    expected = Stack(cell, x.astype(float), weights, h0.astype(float), c0.astype(float), lengths)
    dx, dh0, dc0, grads = expected.backward(dy.astype(float), dh.astype(float), dc.astype(float))

    y, state, backward = layer.forward(x, pair(cell, h0, c0), lengths=lengths if case[6] else None)
    close(y, expected.y, "y")
    close(unpair(state)[0], expected.h, "h")
    y_inference, state_inference = layer(x, pair(cell, h0, c0), lengths=lengths if case[6] else None)
    assert np.array_equal(y, y_inference)
    assert np.array_equal(unpair(state)[0], unpair(state_inference)[0])
    actual_dx, dstate = backward(dy, pair(cell, dh, dc))
    close(actual_dx, dx, "dx")
    close(unpair(dstate)[0], dh0, "dh0")
    if TABLE[cell].has_c:
        close(state[1], expected.c, "c")
        close(dstate[1], dc0, "dc0")
        assert np.array_equal(state[1], state_inference[1])
    for name, gradient in grads.items():
        close(layer.grads[name], gradient, name)


@pytest.mark.parametrize("cell", LAYERS)
def test_gradients_add_up_over_calls_and_zero_grad_clears_them(cell):
    layer, x, *_, dy, _ = random_case(cell, (3, 2, 4, 5, 1, False, False))
    layer.forward(x)[2](dy)
    once = {name: g.copy() for name, g in layer.grads.items()}
    layer.forward(x)[2](dy)
    for name, gradient in layer.grads.items():
        np.testing.assert_allclose(gradient, 2 * once[name], rtol=1e-5, atol=1e-6)
    layer.zero_grad()
    assert all((g == 0).all() for g in layer.grads.values())


@pytest.mark.parametrize("cell", LAYERS)
def test_a_row_gives_the_same_bits_alone_and_in_a_batch(cell):
    layer, x, h0, c0, *_ = random_case(cell, (6, 64, 19, 70, 2, True, False))
    y, _ = layer(x, pair(cell, h0, c0))
    for n in (0, 31, 63):
        one = slice(n, n + 1)
        alone, _ = layer(x[:, one].copy(), pair(cell, h0[:, one].copy(), c0[:, one].copy()))
        assert np.array_equal(alone[:, 0], y[:, n])


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("cell", LAYERS)
def test_forward_and_gradients_have_the_same_bits_on_any_thread_count(cell, rows):
    results = []
    before = rf.get_num_threads()
    try:
        for threads in (1, 2, 3):
            rf.set_num_threads(threads)
            layer, x, h0, c0, dh, dc, dy, lengths = random_case(cell, (21, rows, 40, 90, 2, True, rows == 20))
            y, _, backward = layer.forward(x, pair(cell, h0, c0), lengths=lengths)
            dx, dstate = backward(dy, pair(cell, dh, dc))
            results.append([y, dx, unpair(dstate)[0], *layer.grads.values()])
    finally:
        rf.set_num_threads(before)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("cell", LAYERS)
def test_more_padding_never_changes_a_result(cell):
    layer, x, h0, c0, dh, dc, dy, lengths = random_case(cell, (5, 6, 7, 20, 2, True, True))
    padded, dy_padded = (np.concatenate([a, np.full((3, *a.shape[1:]), 9, np.float32)]) for a in (x, dy))
    y, _, backward = layer.forward(x, pair(cell, h0, c0), lengths=lengths)
    dx, _ = backward(dy, pair(cell, dh, dc))
    grads = {name: g.copy() for name, g in layer.grads.items()}
    layer.zero_grad()
    y2, _, backward2 = layer.forward(padded, pair(cell, h0, c0), lengths=lengths)
    dx2, _ = backward2(dy_padded, pair(cell, dh, dc))
    assert np.array_equal(y2[:5], y)
    assert (y2[5:] == 0).all()
    assert np.array_equal(dx2[:5], dx)
    assert all(np.array_equal(layer.grads[name], g) for name, g in grads.items())


@pytest.mark.parametrize("cell", LAYERS)
def test_a_long_sequence_equals_its_pieces_with_the_state_carried(cell):
    layer, x, *_ = random_case(cell, (9, 3, 4, 21, 2, False, False))
    whole, _ = layer(x)
    state, pieces = None, []
    for t in range(9):
        y, state = layer(x[t : t + 1], state)
        pieces.append(y)
    assert np.array_equal(np.concatenate(pieces), whole)


def test_batch_first_swaps_the_first_two_axes():
    a, b = rf.LSTM(3, 4, seed=1), rf.LSTM(3, 4, seed=1, batch_first=True)
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    ya, _, back_a = a.forward(x)
    yb, _, back_b = b.forward(x.swapaxes(0, 1))
    assert np.array_equal(ya, yb.swapaxes(0, 1))
    assert np.array_equal(back_a(ya)[0], back_b(yb)[0].swapaxes(0, 1))


def test_dropout_acts_between_layers_in_training_and_its_mask_is_the_same_backward():
    x = np.random.default_rng(0).normal(size=(4, 8, 5)).astype(np.float32)
    layer = rf.RNN(5, 64, 2, dropout=0.5, seed=3)
    plain, _ = layer(x)
    dropped, _, backward = layer.forward(x)
    again, _, _ = layer.forward(x)
    assert not np.array_equal(plain, dropped)
    assert not np.array_equal(dropped, again)
    dx, _ = backward(np.ones_like(dropped))
    # Directional derivative by central differences with the same mask: a new layer restarts its masks.
    direction = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    eps = 1e-2
    sums = []
    for sign in (1, -1):
        fresh = rf.RNN(5, 64, 2, dropout=0.5, seed=3)
        sums.append(float(fresh.forward(x + sign * eps * direction)[0].sum(dtype=np.float64)))
    numeric = (sums[0] - sums[1]) / (2 * eps)
    assert float((dx * direction).sum()) == pytest.approx(numeric, rel=2e-3)


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_torch_with_the_same_state_dict_gives_the_same_output_and_gradients(cell, bidirectional):
    torch = pytest.importorskip("torch")
    kind, kwargs = torch_class(cell)
    twin = kind(13, 37, 2, bidirectional=bidirectional, **kwargs)
    layer = LAYERS[cell](13, 37, 2, bidirectional=bidirectional, seed=5)
    layer.load_state_dict(twin.state_dict())
    x = torch.randn(11, 6, 13, requires_grad=True)
    expected, _ = twin(x)
    y, _, backward = layer.forward(x)
    close(y, expected.detach().numpy(), "y")
    dy = torch.randn_like(expected)
    expected.backward(dy)
    close(backward(dy)[0], x.grad.numpy(), "dx")
    for name, parameter in twin.named_parameters():
        close(layer.grads[name], parameter.grad.numpy(), name)
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in layer.state_dict().items()})


def test_any_array_like_is_taken_and_the_given_array_is_left_alone():
    layer = rf.GRU(3, 4, seed=0)
    x = np.arange(24, dtype=np.float64).reshape(4, 2, 3)
    expected, _ = layer(x.astype(np.float32))
    readonly = x.astype(np.float32)
    readonly.flags.writeable = False
    strided = np.zeros((4, 2, 6), np.float32)[:, :, ::2]
    strided[...] = x
    for given in (x, x.tolist(), readonly, strided, np.asfortranarray(x)):
        assert np.array_equal(layer(given)[0], expected)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.LSTM(0, 4), ValueError, "input_size is 0"),
        (lambda: rf.LSTM(3, -1), ValueError, "hidden_size is -1"),
        (lambda: rf.LSTM(3, 4.5), TypeError, "an integer"),
        (lambda: rf.LSTM(10**12, 10**12), ValueError, "at most 2147483647"),
        (lambda: rf.RNN(2**31 - 1, 2**31 - 1), MemoryError, "choose smaller sizes"),
        (lambda: rf.LSTM(3, 4, dropout=1.0), ValueError, "dropout is 1"),
        (lambda: rf.RNN(3, 4, nonlinearity="sin"), ValueError, "'tanh' or 'relu'"),
        (lambda: rf.LSTM(3, 4)(np.zeros((2, 2, 5))), ValueError, "input has 5 features, expected 3"),
        (lambda: rf.LSTM(3, 4)(np.zeros(3)), ValueError, "three dimensions"),
        (lambda: rf.LSTM(3, 4)(np.zeros((0, 2, 3))), ValueError, "at least one step"),
        (lambda: rf.LSTM(3, 4)(np.zeros((2, 2, 3), complex)), TypeError, "complex"),
        (lambda: rf.LSTM(3, 4)(np.array([[["a"] * 3]])), TypeError, "expected numbers"),
        (lambda: rf.LSTM(3, 4)(np.zeros((2, 2, 3)), np.zeros((1, 2, 4))), TypeError, "pair"),
        (lambda: rf.RNN(3, 4)(np.zeros((2, 2, 3)), np.zeros((1, 3, 4))), ValueError, r"expected \(1, 2, 4\)"),
        (lambda: rf.RNN(3, 4)(np.zeros((2, 2, 3)), lengths=[1, 3]), ValueError, r"lengths\[1\] is 3"),
        (lambda: rf.RNN(3, 4)(np.zeros((2, 2, 3)), lengths=[-1, 1]), ValueError, r"lengths\[0\] is -1"),
        (lambda: rf.RNN(3, 4)(np.zeros((2, 2, 3)), lengths=[1]), ValueError, "one per row"),
        (lambda: rf.RNN(3, 4).load_state_dict({}), ValueError, "missing"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_a_wrong_state_dict_changes_nothing():
    layer = rf.RNN(3, 4, seed=0)
    before = layer.state_dict()
    wrong = {**before, "bias_hh_l0": np.zeros(5)}
    wrong["weight_ih_l0"] = before["weight_ih_l0"] + 1
    with pytest.raises(ValueError, match="bias_hh_l0 has shape"):
        layer.load_state_dict(wrong)
    assert all(np.array_equal(layer.state_dict()[name], value) for name, value in before.items())


def test_backward_runs_once():
    y, _, backward = rf.RNN(3, 4, seed=0).forward(np.zeros((2, 1, 3)))
    backward(y)
    with pytest.raises(ValueError, match="run forward again"):
        backward(y)
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 1


@pytest.mark.fault("M2")
@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True}, {"recompute": "sqrt"}, {"batch_first": True}, {"weights": "bf16"}], ids=str
)
def test_a_batch_of_no_rows_gives_outputs_of_no_rows_and_no_gradient(cell, options):
    layer = LAYERS[cell](3, 5, 2, seed=0, **options)
    x = np.zeros((0, 4, 3) if layer.batch_first else (4, 0, 3))
    y, state, backward = layer.forward(x)
    h, c = unpair(state)
    lanes = 2 * (1 + layer.bidirectional)
    assert y.shape == layer(x)[0].shape == (*x.shape[:2], 5 * (1 + layer.bidirectional))
    assert h.shape == (lanes, 0, 5)
    assert c is None or c.shape == (lanes, 0, 5)
    dx, dstate = backward(np.zeros(y.shape), state)
    assert dx.shape == x.shape
    assert unpair(dstate)[0].shape == (lanes, 0, 5)
    assert not any(gradient.any() for gradient in layer.grads.values())
    with pytest.raises(ValueError, match="at least one step"):
        layer(np.zeros((3, 0, 3) if layer.batch_first else (0, 3, 3)))


@pytest.mark.fault("M2")
@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("lengths", [[0, 3, 0, 4], [0, 0, 0, 0], [2, 0, 4, 1]], ids=str)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"recompute": "sqrt"}], ids=str)
def test_a_row_of_length_0_keeps_its_state_and_learns_nothing(cell, lengths, options):
    layer, x, h0, c0, dh, dc, dy, _ = random_case(cell, (4, 4, 3, 5, 2, bool(options.get("bidirectional")), False))
    if "recompute" in options:
        layer = LAYERS[cell](3, 5, 2, seed=0, **options)
    run = [n for n, length in enumerate(lengths) if length]
    rest = [n for n, length in enumerate(lengths) if not length]
    y, state, backward = layer.forward(x, pair(cell, h0, c0), lengths=lengths)
    dx, dstate = backward(dy, pair(cell, dh, dc))
    assert not y[:, rest].any()
    assert not dx[:, rest].any()
    for given, got in (
        (h0, unpair(state)[0]),
        (c0, unpair(state)[1]),
        (dh, unpair(dstate)[0]),
        (dc, unpair(dstate)[1]),
    ):
        assert got is None or np.array_equal(given[:, rest], got[:, rest])
    grads = {name: gradient.copy() for name, gradient in layer.grads.items()}
    layer.zero_grad()
    if run:  # the others give the bits they give without it
        kept = pair(cell, h0[:, run], c0[:, run])
        expected, last, backward = layer.forward(x[:, run], kept, lengths=[lengths[n] for n in run])
        dx_run, dfirst = backward(dy[:, run], pair(cell, dh[:, run], dc[:, run]))
        assert np.array_equal(y[:, run], expected)
        assert np.array_equal(dx[:, run], dx_run)
        for got, alone in zip((*unpair(state), *unpair(dstate)), (*unpair(last), *unpair(dfirst))):
            assert got is None or np.array_equal(got[:, run], alone)
    assert all(np.array_equal(grads[name], gradient) for name, gradient in layer.grads.items())
