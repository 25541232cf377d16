"""Single steps, compared with PyTorch's cells and with the layers."""

from __future__ import annotations

import numpy as np
import pytest
from registered import CELLS, LAYERS, torch_class
from test_recurrent import close, pair, unpair

import rnnfast as rf


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(6,), (1, 6), (35, 6)])
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_a_layer_of_one_step(cell, shape):
    one, layer = CELLS[cell](6, 21, seed=2), LAYERS[cell](6, 21, seed=2)
    assert list(one.state_dict()) == [name[:-3] for name in layer.state_dict()]
    for name, value in layer.state_dict().items():
        assert np.array_equal(value, one.state_dict()[name[:-3]])
    x, (h, c, dh, dc) = normal(*shape), (normal(*shape[:-1], 21, seed=i) for i in range(1, 5))
    sequence, state = x.reshape(1, -1, 6), pair(cell, *(s.reshape(1, -1, 21) for s in (h, c)))
    _, expected, layer_back = layer.forward(sequence, state)
    got, backward = one.forward(x, pair(cell, h, c))
    inference = one(x, pair(cell, h, c))
    for a, b, i in zip(unpair(got), unpair(expected), unpair(inference)):
        assert a is None or (a.shape == h.shape and np.array_equal(a.ravel(), b.ravel()) and np.array_equal(a, i))
    dx, dstate = backward(pair(cell, dh, dc))
    expected_dx, expected_dstate = layer_back(None, pair(cell, *(s.reshape(1, -1, 21) for s in (dh, dc))))
    assert dx.shape == x.shape
    assert np.array_equal(dx.ravel(), expected_dx.ravel())
    for a, b in zip(unpair(dstate), unpair(expected_dstate)):
        assert a is None or (a.shape == h.shape and np.array_equal(a.ravel(), b.ravel()))
    for name, gradient in layer.grads.items():
        assert np.array_equal(gradient, one.grads[name[:-3]])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_torch_with_the_same_state_dict_gives_the_same_output_and_gradients(cell, bias):
    torch = pytest.importorskip("torch")
    kind, kwargs = torch_class(cell, "Cell")
    twin = kind(13, 37, bias=bias, **kwargs)
    one = CELLS[cell](13, 37, bias=bias, seed=5)
    one.load_state_dict(twin.state_dict())
    x, h, c = (torch.randn(9, n, requires_grad=True) for n in (13, 37, 37))
    expected = unpair(twin(x, pair(cell, h, c)))
    state, backward = one.forward(x, pair(cell, h, c))
    grads = [torch.randn(9, 37) for _ in range(2)]
    sum((e * g).sum() for e, g in zip(expected, grads) if e is not None).backward()
    for a, b in zip(unpair(state), expected):
        assert a is None or close(a, b.detach().numpy(), "state") is None
    dx, dstate = backward(pair(cell, *grads))
    close(dx, x.grad.numpy(), "dx")
    for a, b in zip(unpair(dstate), (h, c)):
        assert a is None or close(a, b.grad.numpy(), "gradient of the state") is None
    for name, parameter in twin.named_parameters():
        close(one.grads[name], parameter.grad.numpy(), name)
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in one.state_dict().items()})
    bound = 1 / np.sqrt(37)
    weights = CELLS[cell](13, 37, seed=6).state_dict()
    assert all(0.8 * bound < np.abs(value).max() <= bound for value in weights.values())  # torch's initialisation


def test_a_cell_learns():
    """y = the sign of the sum of three inputs, through three steps of one cell by hand."""
    cell, optimizer = (one := rf.GRUCell(1, 8, seed=0)), rf.Adam(one, lr=2e-2)
    x = normal(3, 64, 1)
    target = np.sign(x.sum(axis=(0, 2)))
    losses = []
    for _ in range(60):
        state, backs = None, []
        for t in range(3):
            state, backward = cell.forward(x[t], state)
            backs.append(backward)
        error = state[:, 0] - target
        losses.append(float((error**2).mean()))
        dstate = np.zeros_like(state)
        dstate[:, 0] = 2 * error / len(error)
        cell.zero_grad()
        for backward in reversed(backs):
            _, dstate = backward(dstate)
        optimizer.step()
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.LSTMCell(3, 4)(np.zeros(5)), ValueError, r"input has shape \(5,\), expected \(N, 3\) or \(3,\)"),
        (lambda: rf.LSTMCell(3, 4)(np.zeros((2, 2, 3))), ValueError, "input has shape"),
        (lambda: rf.LSTMCell(3, 4)(np.zeros(3), np.zeros(4)), TypeError, "pair"),
        (
            lambda: rf.GRUCell(3, 4)(np.zeros((2, 3)), np.zeros(4)),
            ValueError,
            r"state has shape \(4,\), expected \(2, 4\)",
        ),
        (lambda: rf.GRUCell(3, 4)(np.zeros((2, 3)), np.zeros((3, 4))), ValueError, "expected"),
        (lambda: rf.RNNCell(3, 4, nonlinearity="sin"), ValueError, "'tanh' or 'relu'"),
        (lambda: rf.RNNCell(0, 4), ValueError, "input_size is 0"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


@pytest.mark.fault("M2")
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_cell_of_no_rows_gives_a_state_of_no_rows(cell):
    layer = cell(3, 5, seed=0)
    state, backward = layer.forward(np.zeros((0, 3)))
    dx, _ = backward(state)
    assert dx.shape == (0, 3)
    assert not any(gradient.any() for gradient in layer.grads.values())


@pytest.mark.parametrize(("batch", "steps", "inputs", "hidden"), [(1, 1, 1, 1), (3, 7, 5, 4), (2, 5, 20, 33)])
def test_the_reset_before_the_product_is_the_default_of_onnx(batch, steps, inputs, hidden):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    layer = rf.GRU(inputs, hidden, reset_after=False, seed=4)
    w = layer.state_dict()
    order = np.r_[hidden : 2 * hidden, :hidden, 2 * hidden : 3 * hidden]  # ONNX has z first
    given = {
        "X": np.random.default_rng(0).normal(size=(steps, batch, inputs)).astype(np.float32),
        "W": w["weight_ih_l0"][order][None],
        "R": w["weight_hh_l0"][order][None],
        "B": np.concatenate([w["bias_ih_l0"][order], w["bias_hh_l0"][order]])[None],
    }
    node = onnx.helper.make_node("GRU", list(given), ["Y", "Y_h"], hidden_size=hidden)
    of = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "gru", [of(n, 1, v.shape) for n, v in given.items()], [of(n, 1, None) for n in node.output]
    )
    wanted, last = ReferenceEvaluator(onnx.helper.make_model(graph)).run(None, given)
    y, h = layer(given["X"])
    np.testing.assert_allclose(y, wanted[:, 0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(h, last, rtol=0, atol=1e-5)
