"""rf.Residual: layers in one, which a network takes apart."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import rnnfast as rf

X = np.random.default_rng(0).normal(size=(9, 4, 8)).astype(np.float32)
DY = np.random.default_rng(1).normal(size=(9, 4, 3)).astype(np.float32)


def chain(seed=0):
    block = rf.Residual(rf.LayerNorm(8), rf.GRU(8, 5, seed=1), rf.Residual(rf.SiLU()), rf.Linear(5, 8, seed=2))
    return rf.Sequential(rf.Linear(8, 8, seed=0), block, rf.LSTM(8, 8, seed=3), rf.Linear(8, 3, seed=4), seed=seed)


def graph():
    """The same network with its sums written out."""
    layers = {
        "0": rf.Linear(8, 8, seed=0), "norm": rf.LayerNorm(8), "rnn": rf.GRU(8, 5, seed=1), "silu": rf.SiLU(),
        "inner": (rf.Add(), "rnn", "silu"), "down": rf.Linear(5, 8, seed=2), "outer": (rf.Add(), "0", "down"),
        "lstm": rf.LSTM(8, 8, seed=3), "out": rf.Linear(8, 3, seed=4),
    }  # fmt: skip
    return rf.Network(inputs={"x": 8}, layers=layers, seed=0)


def test_a_block_is_its_layers_and_a_sum_with_the_same_bits_and_gradients():
    ours, theirs = chain(), graph()
    (y, backward), (expected, backward_of_graph) = ours.forward(X), theirs.forward(X)
    assert np.array_equal(y, expected)
    assert np.array_equal(backward(DY), backward_of_graph(DY))
    names = ["0.weight", "0.bias", "1.0.weight", "1.0.bias", "1.1.weight_ih_l0"]
    assert list(ours.state_dict())[:5] == names
    for mine, other in zip(ours.grads.values(), theirs.grads.values()):
        assert np.array_equal(mine, other)


def test_outputs_and_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.rnn = torch.nn.LayerNorm(8), torch.nn.LSTM(8, 8)

        def forward(self, x):
            return x + self.rnn(self.norm(x))[0]

    torch.manual_seed(0)
    block = Block()
    net = rf.Sequential(rf.Residual(rf.LayerNorm(8), rf.LSTM(8, 8, seed=0)))
    prefix = {"norm": "0.0", "rnn": "0.1"}
    state = {prefix[k.split(".")[0]] + "." + k.split(".")[1]: v.numpy() for k, v in block.state_dict().items()}
    net.load_state_dict(state)
    x = torch.tensor(X, requires_grad=True)
    y = block(x)
    y.backward(torch.tensor(X))
    found, backward = net.forward(X)
    np.testing.assert_allclose(found, y.detach().numpy(), atol=1e-5)  # float32 sums in another order
    np.testing.assert_allclose(backward(X), x.grad.numpy(), atol=1e-5)


def test_streams_files_and_copies_have_the_same_bits(tmp_path):
    net = chain()
    expected = net(X)
    step = net.stream(4)
    assert np.array_equal([step(row) for row in X], expected)
    net.save(tmp_path / "net.safetensors")
    for other in (rf.load(tmp_path / "net.safetensors"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(other(X), expected)
    pytest.importorskip("onnx", reason="onnx is not installed")
    net.to_onnx(tmp_path / "net.onnx")
    assert np.array_equal(rf.from_onnx(tmp_path / "net.onnx")(X), expected)


def test_a_block_of_a_graph_reads_the_layer_before_it_or_the_one_it_names():
    def made(**layers):
        return rf.Network(inputs={"a": 8, "b": 8}, layers=layers)(X, 2 * X)

    y = rf.Linear(8, 8, seed=0)(2 * X)
    assert np.array_equal(made(block=(rf.Residual(rf.Linear(8, 8, seed=0)), "b")), 2 * X + y)
    assert np.array_equal(made(relu=(rf.ReLU(), "b"), block=rf.Residual(rf.Tanh())), made(
        relu=(rf.ReLU(), "b"), tanh=rf.Tanh(), sum=(rf.Add(), "relu", "tanh")))  # fmt: skip
    ids = rf.Sequential(rf.Embedding(5, 4, seed=0), rf.Residual(rf.Dropout(0.1)))
    assert np.array_equal(ids([[1], [2]]), 2 * rf.Embedding(5, 4, seed=0)([[1], [2]]))


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: rf.Residual(), ValueError, "a Residual has no layers"),
        (lambda: rf.Residual(3), TypeError, "cannot be part of a network: give layers of rf.nn"),
        (lambda: rf.Sequential(rf.Residual(rf.Linear(3, 4))), ValueError, r'"0" \(add\): reads 3 and 4 numbers a step'),
        (lambda: rf.Network(inputs={"x": 3, "y": 3}, layers={"a": (rf.Residual(rf.ReLU()), "x", "y")}), ValueError, "expected one name"),
        (lambda: rf.Network(inputs={"x": 3}, layers={"a.0": rf.ReLU(), "a": rf.Residual(rf.ReLU())}), ValueError, "two layers are called 'a.0'"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()


def test_a_block_trains(tmp_path):
    net = chain()
    history = rf.fit(net, (X, DY), loss="mse", epochs=5, lr=1e-2)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
