"""The compiled networks: PyTorch's numbers, files, streams and errors. tests/cpp/test_network.cpp checks the rest."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rnnfast as rf
from rnnfast import _core

T, N = 6, 3
TAGGER = {
    "inputs": [{"name": "tokens", "ids": 11}, {"name": "x", "size": 2}],
    "layers": [
        {"name": "embedding", "type": "embedding", "embedding_dim": 4},
        {"name": "read", "type": "concatenate", "inputs": ["embedding", "x"]},
        {"name": "rnn", "type": "recurrent", "cell": "lstm", "hidden_size": 5},
        {"name": "norm", "type": "layer_norm"},
        {"name": "act", "type": "activation", "function": "gelu"},
        {"name": "tags", "type": "linear", "out_features": 3},
    ],
    "seed": 4,
}


def made(config=TAGGER, **options):
    return _core.Network(json.dumps({**config, **options}))


def inputs():
    random = np.random.default_rng(0)
    return [random.integers(0, 11, (T, N)).astype(np.int32), random.normal(size=(T, N, 2)).astype(np.float32)]


def test_outputs_and_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    net = made()
    outputs, lengths, _, tape = net.forward(inputs(), None, None, True, 0)
    dy = np.random.default_rng(1).normal(size=outputs[0].shape).astype(np.float32)
    (dtokens, dx), _, _ = net.backward(tape, [dy], None, True)
    assert lengths == [None]
    assert dtokens is None

    embedding, lstm = torch.nn.Embedding(11, 4), torch.nn.LSTM(6, 5)
    norm, linear = torch.nn.LayerNorm(5), torch.nn.Linear(5, 3)
    layers = {"embedding": embedding, "rnn": lstm, "norm": norm, "tags": linear}
    for name, layer in layers.items():
        state = {k.partition(".")[2]: torch.tensor(v) for k, v in net.parameters().items() if k.startswith(f"{name}.")}
        layer.load_state_dict(state)
    tokens, x = map(torch.tensor, inputs())
    x.requires_grad_()
    y = lstm(torch.cat([embedding(tokens.long()), x], -1))[0]
    y = linear(torch.nn.functional.gelu(norm(y)))
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(outputs[0], y.detach(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(dx, x.grad, rtol=0, atol=1e-5)
    gradients = net.gradients()
    for name, layer in layers.items():
        for key, value in layer.named_parameters():
            np.testing.assert_allclose(gradients[f"{name}.{key}"], value.grad, rtol=0, atol=1e-5)


ACTIVATIONS = [
    ("ReLU", {}), ("LeakyReLU", {}), ("LeakyReLU", {"negative_slope": 0.2}), ("ELU", {}), ("ELU", {"alpha": 0.5}), ("Tanh", {}),
    ("Sigmoid", {}), ("Hardsigmoid", {}), ("SiLU", {}), ("GELU", {}), ("GELU", {"approximate": "tanh"}), ("Softplus", {}),
    ("Softplus", {"beta": 3.0}), ("Hardtanh", {}), ("Hardtanh", {"min_val": -2.5, "max_val": 4.0}), ("ReLU6", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), ACTIVATIONS)
def test_activations_are_those_of_torch(name, options):
    torch = pytest.importorskip("torch")
    x = np.linspace(-9, 9, 2 * 1001, dtype=np.float32).reshape(1001, 1, 2)
    compare(torch, getattr(rf, name)(**options), getattr(torch.nn, name)(**options), x)  # GELU's Φ: 7.5e-8 times |x|


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("width", [1, 5, 32, 70])
def test_softmax_over_the_features_is_that_of_torch(name, width):
    torch = pytest.importorskip("torch")
    x = 4 * np.random.default_rng(width).normal(size=(20, 3, width)).astype(np.float32)
    compare(torch, getattr(rf, name)(), getattr(torch.nn, name)(-1), x)


def compare(torch, part, module, x, tolerance=2e-6):
    """Outputs and gradients of one part with those of PyTorch's module in double precision."""
    net = rf.Network(inputs={"x": x.shape[-1]}, layers={"part": part})
    y, backward = net.forward(x)
    dy = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    theirs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    wanted = module(theirs)
    wanted.backward(torch.tensor(dy, dtype=torch.float64))
    np.testing.assert_allclose(y, wanted.detach(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(backward(dy), theirs.grad, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal([net.stream(x.shape[1])(step) for step in x], y)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: rf.LeakyReLU(-1), "negative_slope is -1, expected a finite number of at least 0"),
        (lambda: rf.ELU(float("inf")), "alpha is inf, expected a finite number"),
        (lambda: rf.GELU("erf"), "approximate"),
        (lambda: rf.Hardtanh(2, 1), "min_val is 2 and max_val 1: expected a smaller min_val"),
        (lambda: rf.Softplus(0), "beta is 0, expected a finite number of at least 1e-06"),
    ],
)
def test_activations_refuse_what_they_cannot_be(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_stream_gives_the_bits_of_the_whole_sequence_and_its_state_continues():
    net = made()
    tokens, x = inputs()
    (y,), _, ((h, c),), _ = net.forward([tokens, x], None, None, False, 0)
    stream = _core.NetworkStream(net, N)
    for t in range(T):
        if t == 3:
            kept = stream.state
            stream = _core.NetworkStream(net, N)
            stream.state = kept
        (step,) = stream([tokens[t], x[t]])
        np.testing.assert_array_equal(step, y[t])
    np.testing.assert_array_equal(stream.state["rnn"][0], h)
    np.testing.assert_array_equal(stream.state["rnn"][1], c)
    first = net.forward([tokens[:3], x[:3]], None, None, False, 0)
    second = net.forward([tokens[3:], x[3:]], None, first[2], False, 0)
    np.testing.assert_array_equal(np.concatenate([first[0][0], second[0][0]]), y)
    stream.reset()
    np.testing.assert_array_equal(stream([tokens[0], x[0]])[0], y[0])


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
def test_a_file_runs_with_the_bits_of_the_network_that_was_saved(tmp_path, weights):
    net = made(weights=weights)
    path = str(tmp_path / "net.safetensors")
    metadata = {"format": "rnnfast", "format_version": "1", "kind": "network", "config": net.config}
    _core.write_safetensors(path, dict(net.parameters()), metadata)
    loaded = _core.Network.from_file(path)
    assert loaded.weights == weights
    assert loaded.parameters() == {}
    np.testing.assert_array_equal(
        loaded.forward(inputs(), None, None, False, 0)[0][0], net.forward(inputs(), None, None, False, 0)[0][0]
    )
    assert set(_core.read_model(path)[0]) == set(net.parameters())
    with pytest.raises(RuntimeError, match="inference only"):
        loaded.forward(inputs(), None, None, True, 0)


def test_errors_are_sentences():
    net = made()
    tokens, x = inputs()
    for given, sentence in [
        ([tokens], "got 1 inputs, expected 2"),
        ([tokens, x[0]], r"input 'x' has shape \(3, 2\), expected \(T, N, 2\)"),
        ([tokens, x[:2]], 'input "x" has 2 steps of 3 rows'),
    ]:
        with pytest.raises(ValueError, match=sentence):
            net.forward(given, None, None, False, 0)
    with pytest.raises(IndexError, match="id 11 at position 0: expected 0 to 10"):
        net.forward([np.full_like(tokens, 11), x], None, None, False, 0)
    with pytest.raises(ValueError, match="lengths"):
        net.forward([tokens, x], [7, 1, 1], None, False, 0)
    tape = net.forward([tokens, x], None, None, True, 0)[3]
    net.backward(tape, [None], None, True)
    with pytest.raises(ValueError, match="used already"):
        net.backward(tape, [None], None, True)
    tape = net.forward([tokens, x], None, None, True, 0)[3]
    net.weights_changed()
    with pytest.raises(ValueError, match="the weights changed"):
        net.backward(tape, [None], None, True)
    bidirectional = made(
        {**TAGGER, "layers": [{**TAGGER["layers"][0]}, {**TAGGER["layers"][2], "bidirectional": True}]}
    )
    with pytest.raises(ValueError, match="cannot run one step at a time"):
        _core.NetworkStream(bidirectional, 1)
    with pytest.raises(ValueError, match=r"has NaN or infinity"):
        _core.NetworkStream(net, N)([tokens[0], np.full((N, 2), np.nan, np.float32)])
