"""Cells without a recurrent product, compared with the published programs and their equations; the rest of what holds for
every cell is in the tests of all cells."""

from __future__ import annotations

import numpy as np
import pytest
from registered import CELLS, LAYERS, TABLE
from test_recurrent import close

import rnnfast as rf

SCANS = [name for name, cell in TABLE.items() if not cell.recurrent]


def normal(*shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def assert_same_as(layer, theirs, named, *, dtype="float64"):
    """Output and all gradients of a layer and a torch module (T, N, D) -> (T, N, H), within float32's rounding.

    named(module) gives, by our names, their parameters' gradients.
    """
    import torch

    x, dy = normal(11, 3, layer.input_size, seed=1), normal(11, 3, layer.hidden_size, seed=2)
    y, _, backward = layer.forward(x)
    dx, _ = backward(dy)
    given = torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True)
    expected = theirs(given)
    expected.backward(torch.tensor(dy, dtype=getattr(torch, dtype)))
    close(y, expected.detach().numpy(), "y")
    close(dx, given.grad.numpy(), "dx")
    for name, gradient in named().items():
        close(layer.grads[name], gradient.numpy(), name)


@pytest.mark.parametrize("ours", ["MinGRU", "MinLSTM"])
def test_minimal_cells_equal_mingru_pytorch(ours):
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("minGRU_pytorch")
    theirs = (peer.minGRU if ours == "MinGRU" else pytest.importorskip("minGRU_pytorch.minLSTM").minLSTM)(20).double()
    packed = theirs.to_hidden_and_gate if ours == "MinGRU" else theirs.to_hidden_and_f_i_gate
    layer = getattr(rf, ours)(20, 20, bias=False, seed=0)
    layer.load_state_dict({"weight_ih_l0": packed.weight.detach().numpy()})
    assert_same_as(
        layer, lambda x: theirs(x.transpose(0, 1)).transpose(0, 1), lambda: {"weight_ih_l0": packed.weight.grad}
    )
    assert torch.__version__


@pytest.mark.filterwarnings("ignore:Running SRU on CPU")
@pytest.mark.parametrize("inputs", [20, 13])
def test_sru_equals_the_authors_program(inputs):
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("sru", exc_type=ImportError)
    theirs = peer.SRU(inputs, 20, 2, highway_bias=-2.0, rescale=True)
    layer = rf.SRU(inputs, 20, 2, seed=0)
    values, matrices = {}, {}
    for i, one in enumerate(theirs.rnn_lst):
        k = one.num_matrices
        matrices[f"weight_ih_l{i}"] = (one, k)
        values[f"weight_ih_l{i}"] = rows_first(one.weight.detach(), k)
        values[f"weight_c_l{i}"] = one.weight_c.detach().numpy()
        values[f"bias_ih_l{i}"] = np.concatenate([np.zeros(20), one.bias.detach().numpy(), np.zeros((k - 3) * 20)])
    layer.load_state_dict(values)

    def gradients():
        found = {name: torch.tensor(rows_first(one.weight.grad, k)) for name, (one, k) in matrices.items()}
        return {**found, **{f"weight_c_l{i}": one.weight_c.grad for i, one in enumerate(theirs.rnn_lst)}}

    assert_same_as(layer, lambda x: theirs(x)[0], gradients, dtype="float32")


def rows_first(weight, k):
    """(D, H·k) with the matrices innermost, as (k·H, D)."""
    D, H = weight.shape[0], weight.shape[1] // k
    return np.ascontiguousarray(weight.numpy().reshape(D, H, k).transpose(2, 1, 0).reshape(k * H, D))


def published(cell, torch, p, x, H):
    """The papers' equations, one step after another, for autograd."""
    u = x @ p["weight_ih_l0"].T + p["bias_ih_l0"]
    gates = u.reshape(*u.shape[:2], -1, H).unbind(2)
    state, outputs = torch.zeros(x.shape[1], H, dtype=x.dtype), []
    for t in range(len(x)):
        a, b, *c = (gate[t] for gate in gates)
        if cell in ("mingru", "minlstm"):
            new = torch.where(a >= 0, a + 0.5, a.sigmoid())
            keep, take = (1 - b.sigmoid(), b.sigmoid()) if cell == "mingru" else (b.sigmoid(), c[0].sigmoid())
            state = (keep * state + take * new) / (keep + take)
            outputs.append(state)
        elif cell == "sru":
            v_f, v_r = p["weight_c_l0"].split(H)
            f, r = (b + v_f * state).sigmoid(), (c[0] + v_r * state).sigmoid()
            highway = c[1] if len(c) > 1 else x[t] * (1 + 2 * np.exp(-2.0)) ** 0.5
            state = f * state + (1 - f) * a
            outputs.append(r * state + (1 - r) * highway)
        else:
            state = b.sigmoid() * state + (1 - b.sigmoid()) * a.tanh()
            outputs.append(c[0].sigmoid() * state)
    return torch.stack(outputs)


@pytest.mark.parametrize("inputs", [24, 7])
@pytest.mark.parametrize("cell", SCANS)
def test_outputs_and_gradients_equal_autograd_of_the_published_equations(cell, inputs):
    torch = pytest.importorskip("torch")
    layer = LAYERS[cell](inputs, 24, seed=3)
    p = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in layer.state_dict().items()}
    assert_same_as(layer, lambda x: published(cell, torch, p, x, 24), lambda: {name: v.grad for name, v in p.items()})


@pytest.mark.parametrize("cell", SCANS)
def test_no_parameter_is_read_by_steps_but_one_number_a_unit(cell):
    shapes = {name: value.shape for name, value in LAYERS[cell](9, 16, seed=0).state_dict().items()}
    gates = TABLE[cell].gates_of(9, 16)
    expected = {"weight_ih_l0": (gates * 16, 9), "bias_ih_l0": (gates * 16,)}
    assert shapes == {**expected, **({"weight_c_l0": (32,)} if cell == "sru" else {})}
    assert list(CELLS[cell](9, 16, bias=False).state_dict()) == ["weight_ih", *["weight_c"] * (cell == "sru")]


def test_sru_needs_no_fourth_matrix_where_the_input_is_as_wide_as_the_state():
    layer = rf.SRU(16, 16, 2, seed=0)
    assert layer.state_dict()["weight_ih_l0"].shape == layer.state_dict()["weight_ih_l1"].shape == (48, 16)
    assert rf.SRU(8, 8, 2, bidirectional=True).state_dict()["weight_ih_l1_reverse"].shape == (32, 16)


def test_sru_starts_as_published():
    layer = rf.SRU(400, 500, seed=0)
    u, f, r, x = layer.state_dict()["weight_ih_l0"].reshape(4, -1)
    for gate, variance in ((u, 1), (f, 0.5), (r, 0.5), (x, 1 + 2 * np.exp(-2))):
        assert gate.var() * 400 == pytest.approx(variance, rel=0.02)
    assert layer.state_dict()["weight_c_l0"].var() == pytest.approx(0.5, rel=0.1)
    np.testing.assert_array_equal(
        layer.state_dict()["bias_ih_l0"].reshape(4, -1), [[0] * 500, [0] * 500, [-2] * 500, [0] * 500]
    )


@pytest.mark.parametrize("weights", ["bf16", "int8"])
@pytest.mark.parametrize("cell", SCANS)
def test_low_precision_is_near_and_a_step_equals_the_whole(cell, weights):
    exact = LAYERS[cell](48, 48, 2, seed=0)
    rounded = LAYERS[cell](48, 48, 2, seed=0, weights=weights)
    x = normal(9, 2, 48)
    y, _ = rounded(x)
    assert np.abs(y - exact(x)[0]).max() < (0.02 if weights == "bf16" else 0.05) * np.abs(y).max()
    step = rounded.stream(rows=2)
    assert np.array_equal(np.stack([step(row) for row in x]), y)


def test_a_highway_refuses_one_hot_input_as_wide_as_the_state():
    vocab = rf.Corpus.from_text("abcd" * 9, tokenizer="char").vocab
    model = rf.LanguageModel(vocab, cell="sru", embedding_size=0, hidden_size=len(vocab), seed=0)
    with pytest.raises(ValueError, match="one-hot input as wide as the hidden state"):
        model.loss(np.zeros((3, 2), np.int32), np.zeros((3, 2), np.int32))


def test_saturated_gates_of_minlstm_stay_finite():
    layer = rf.MinLSTM(1, 16, seed=0)
    layer.load_state_dict({name: np.full_like(value, 100) for name, value in layer.state_dict().items()})
    for scale in (-100, 100):
        y, _, backward = layer.forward(np.full((5, 1, 1), scale, np.float32))
        dx, _ = backward(np.ones_like(y))
        assert np.isfinite(y).all()
        assert np.isfinite(dx).all()
        assert all(np.isfinite(gradient).all() for gradient in layer.grads.values())


def test_a_causal_convolution_before_a_qrnn_is_its_window():
    conv, layer = rf.Conv1d(6, 12, 2, padding="causal", seed=0), rf.QRNN(12, 10, seed=0)
    x = normal(8, 3, 6)
    taps, w = conv.state_dict()["weight"].astype(float), layer.state_dict()["weight_ih_l0"].astype(float)
    bias = layer.state_dict()["bias_ih_l0"] + w @ conv.state_dict()["bias"]
    before, c, expected = np.zeros((3, 6)), np.zeros((3, 10)), []
    for now in x:
        z, f, o = np.split(before @ (w @ taps[:, :, 0]).T + now @ (w @ taps[:, :, 1]).T + bias, 3, axis=1)
        f, o, before = 1 / (1 + np.exp(-f)), 1 / (1 + np.exp(-o)), now
        c = f * c + (1 - f) * np.tanh(z)
        expected.append(o * c)
    close(layer(conv(x))[0], np.array(expected), "y")
