"""Networks put together in Python: rf.Sequential and rf.Network, against their layers, PyTorch, and a float64 gradient."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from registered import CLASSES

import rnnfast as rf

random = np.random.default_rng(0)
CHAINS = {
    "words": lambda: rf.Sequential(
        rf.Embedding(11, 6, seed=0), rf.LSTM(6, 9, 2, seed=1), rf.Dropout(0.1), rf.Linear(9, 4, seed=2), seed=3
    ),
    "series": lambda: rf.Sequential(
        rf.Conv1d(3, 5, 3, padding="causal", seed=0), rf.ELU(), rf.GRU(5, 7, seed=1), rf.LayerNorm(7), rf.Linear(7, 2, seed=2),
        seed=3,
    ),
    "pooled": lambda: rf.Sequential(rf.GRU(3, 6, seed=0), rf.Pool("mean"), rf.Tanh(), rf.Linear(6, 4, seed=1), seed=3),
    "both directions": lambda: rf.Sequential(
        rf.LSTM(3, 5, bidirectional=True, seed=0), rf.Linear(10, 3, seed=1), rf.SiLU(), seed=3
    ),
    "no recurrent product": lambda: rf.Sequential(rf.RMSNorm(3), rf.MinGRU(3, 5, seed=0), rf.SRU(5, 5, seed=1), seed=3),
    "attention": lambda: rf.Sequential(rf.Linear(3, 8, seed=0), rf.SelfAttention(8, 2, causal=True, seed=1), rf.GELU(), seed=3),
}  # fmt: skip
GRAPHS = {
    "residual": lambda: rf.Network(
        inputs={"x": 4},
        layers={
            "rnn": rf.GRU(4, 4, seed=0), "half": rf.Scale(0.5), "sum": (rf.Add(), "x", "half"), "gate": (rf.Linear(4, 4, seed=1), "rnn"),
            "open": rf.Sigmoid(), "product": (rf.Multiply(), "sum", "open"), "both": (rf.Concatenate(), "product", "x"),
            "out": rf.Linear(8, 2, seed=2),
        },
        outputs=["out", "open"], seed=3,
    ),
    "two inputs": lambda: rf.Network(
        inputs={"tokens": {"ids": 7}, "x": 3},
        layers={
            "embedding": (rf.Embedding(7, 3, seed=0), "tokens"), "sum": (rf.Add(), "embedding", "x"), "rnn": rf.LSTM(3, 5, seed=1),
            "last": rf.Pool("last"), "out": rf.Linear(5, 2, seed=2),
        },
        seed=3,
    ),
}  # fmt: skip
ALL = {**CHAINS, **GRAPHS}


def inputs_of(net, steps=6, rows=3):
    return [
        random.normal(size=(steps, rows, size)).astype(np.float32) if size else random.integers(0, ids, (steps, rows))
        for _, size, ids in net._inputs
    ]


def several(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def test_a_chain_computes_what_its_layers_do_to_the_last_bit():
    embedding, lstm, linear = rf.Embedding(11, 6, seed=0), rf.LSTM(6, 9, seed=1), rf.Linear(9, 4, seed=2)
    net = rf.Sequential(embedding, lstm, linear)
    ids = random.integers(0, 11, (7, 3))
    assert np.array_equal(net(ids), linear(lstm(embedding(ids))[0]))
    lengths = [7, 2, 0]
    assert np.array_equal(net(ids, lengths=lengths)[:2, :2], linear(lstm(embedding(ids), lengths=lengths)[0])[:2, :2])
    y, backward = net.forward(ids)
    middle, embedding_back = embedding.forward(ids)
    hidden, _, lstm_back = lstm.forward(middle)
    top, linear_back = linear.forward(hidden)
    dy = random.normal(size=y.shape).astype(np.float32)
    assert np.array_equal(y, top)
    assert backward(dy) is None  # ids have no gradient
    embedding_back(lstm_back(linear_back(dy))[0])
    for i, layer in enumerate((embedding, lstm, linear)):
        for name, grad in layer.grads.items():
            assert np.array_equal(net.grads[f"{i}.{name}"], grad), (i, name)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_cell_s_layer_can_be_in_a_chain(kind):
    layer = kind(3, 4, seed=0)
    x = random.normal(size=(5, 2, 3)).astype(np.float32)
    assert np.array_equal(rf.Sequential(layer)(x), layer(x)[0])


@pytest.mark.parametrize("name", ["words", "series", "both directions"])
def test_names_outputs_and_gradients_are_those_of_torch_nn_sequential(name):
    torch = pytest.importorskip("torch")

    class Outputs(torch.nn.Module):  # of a recurrent layer, which returns the state too
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x)[0]

    class Causal(torch.nn.Conv1d):
        def forward(self, x):
            padded = torch.nn.functional.pad(x.permute(1, 2, 0), (2, 0))
            return super().forward(padded).permute(2, 0, 1)

    nn = torch.nn
    theirs = {
        "words": lambda: nn.Sequential(
            nn.Embedding(11, 6), Outputs(nn.LSTM(6, 9, 2)), nn.Dropout(0.0), nn.Linear(9, 4)
        ),
        "series": lambda: nn.Sequential(
            Causal(3, 5, 3), nn.ELU(), Outputs(nn.GRU(5, 7)), nn.LayerNorm(7), nn.Linear(7, 2)
        ),
        "both directions": lambda: nn.Sequential(
            Outputs(nn.LSTM(3, 5, bidirectional=True)), nn.Linear(10, 3), nn.SiLU()
        ),
    }[name]()
    net = CHAINS[name]()
    if name == "words":  # without chance
        net = rf.Sequential(
            rf.Embedding(11, 6, seed=0), rf.LSTM(6, 9, 2, seed=1), rf.Dropout(0.0), rf.Linear(9, 4, seed=2)
        )
    assert {n.replace("layer.", "") for n in theirs.state_dict()} == set(net.state_dict())
    net.load_state_dict({n.replace("layer.", ""): v for n, v in theirs.state_dict().items()})
    (x,) = inputs_of(net)
    given = torch.from_numpy(x) if x.dtype != np.float32 else torch.from_numpy(x).requires_grad_()
    expected = theirs(given)
    y, backward = net.forward(x)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    dy = random.normal(size=y.shape).astype(np.float32)
    expected.backward(torch.from_numpy(dy))
    dx = backward(dy)
    if dx is not None:
        np.testing.assert_allclose(dx, given.grad.numpy(), rtol=1e-4, atol=1e-5)
    for n, p in theirs.named_parameters():
        np.testing.assert_allclose(net.grads[n.replace("layer.", "")], p.grad.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_the_slopes_of_the_loss(name):
    """Central differences along a random direction of all weights and inputs; float32 keeps three digits of them."""
    net = ALL[name]()
    if name == "words":
        net = rf.Sequential(rf.Embedding(11, 6, seed=0), rf.LSTM(6, 9, 2, seed=1), rf.Linear(9, 4, seed=2))
    inputs, start = inputs_of(net), net.state_dict()
    run = net.run(*inputs, train=True)
    weights = {n: random.normal(size=y.shape).astype(np.float32) for n, y in run.outputs.items()}
    dx, _ = run.backward(weights)
    along = {n: random.normal(size=w.shape) for n, w in start.items()}
    moved = {n: random.normal(size=np.shape(x)) for (n, size, _), x in zip(net._inputs, inputs) if size}
    slope = sum((along[n] * net.grads[n]).sum(dtype=np.float64) for n in start)
    slope += sum((moved[n] * dx[n]).sum(dtype=np.float64) for n in moved)

    def loss(step):
        net.load_state_dict({n: w + step * along[n] for n, w in start.items()})
        at = [x + step * moved[n] if n in moved else x for (n, _, _), x in zip(net._inputs, inputs)]
        return sum((weights[n] * y).sum(dtype=np.float64) for n, y in net.run(*at).outputs.items())

    measured = (loss(2e-3) - loss(-2e-3)) / 4e-3
    assert measured == pytest.approx(slope, rel=3e-2, abs=3e-2)


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("both directions", "attention")])
@pytest.mark.parametrize("rows", [1, 3])
def test_steps_are_the_whole_to_the_last_bit(name, rows):
    net = ALL[name]()
    inputs = inputs_of(net, steps=5, rows=rows)
    step = net.stream(rows)
    outputs = [several(step(*(x[t] for x in inputs))) for t in range(5)]
    for i, (output, whole) in enumerate(zip(net._outputs, several(net(*inputs)))):
        if output in net._pooled:
            assert np.array_equal(outputs[-1][i], whole)
        else:
            assert np.array_equal(np.stack([y[i] for y in outputs]), whole)
    state = step.state
    again = net.stream(rows)
    again.state = state
    for a, b in zip(several(again(*(x[0] for x in inputs))), several(step(*(x[0] for x in inputs)))):
        assert np.array_equal(a, b)
    step.reset()
    for a, b in zip(several(step(*(x[0] for x in inputs))), outputs[0]):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["both directions", "attention"])
def test_a_network_that_cannot_stream_names_the_layer(name):
    with pytest.raises(ValueError, match=r'layer "." \(.*\) cannot run one step at a time'):
        CHAINS[name]().stream()


def test_a_run_continues_from_the_state_of_another():
    net = CHAINS["series"]()
    one = rf.Sequential(rf.LSTM(3, 4, seed=0), rf.Linear(4, 2, seed=1))
    (x,) = inputs_of(one, steps=6)
    whole, first = one.run(x), one.run(x[:2])
    rest = one.run(x[2:], state=first.state)
    assert np.array_equal(np.concatenate([first.outputs["1"], rest.outputs["1"]]), whole.outputs["1"])
    assert all(np.array_equal(a, b) for a, b in zip(rest.state["0"], whole.state["0"]))
    assert set(net.run(*inputs_of(net)).state) == {"2"}


def test_gradients_flow_through_the_state():
    net = rf.Sequential(rf.GRU(3, 4, seed=0), rf.Linear(4, 2, seed=1))
    (x,) = inputs_of(net, steps=6)
    dy = random.normal(size=(6, 3, 2)).astype(np.float32)
    dx_whole, _ = net.run(x, train=True).backward({"1": dy})
    whole = {n: g.copy() for n, g in net.grads.items()}
    net.zero_grad()
    first = net.run(x[:2], train=True)
    rest = net.run(x[2:], state=first.state, train=True)
    dx_rest, dstate = rest.backward({"1": dy[2:]})
    dx_first, _ = first.backward({"1": dy[:2]}, dstate)
    np.testing.assert_allclose(
        np.concatenate([dx_first["input"], dx_rest["input"]]), dx_whole["input"], rtol=1e-5, atol=1e-6
    )
    for name, grad in net.grads.items():
        np.testing.assert_allclose(grad, whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_first", [False, True])
def test_backward_gives_the_gradients_of_the_layers_it_is_asked_for(batch_first):
    """The gradient of a layer's output is that of zeros added to it."""
    layers = {
        "rnn": (rf.GRU(3, 4, seed=0, batch_first=batch_first), "x"), "sum": (rf.Add(), "rnn", "zeros"), "open": rf.Tanh(),
        "pooled": rf.Pool("mean"), "out": rf.Linear(4, 2, seed=1),
    }  # fmt: skip
    net = rf.Network(inputs={"x": 3, "zeros": 4}, layers=layers, batch_first=batch_first)
    x = random.normal(size=(6, 2, 3)).astype(np.float32)
    run = net.run(x, np.zeros((6, 2, 4)), train=True)
    dx, _ = run.backward({"out": np.ones((6 if batch_first else 2, 2))}, of=["pooled", "rnn"])
    assert list(dx) == ["x", "zeros", "pooled", "rnn"]
    assert np.array_equal(dx["rnn"], dx["zeros"])
    assert dx["pooled"].shape == (6 if batch_first else 2, 4)
    again = net.run(x, np.zeros((6, 2, 4)), train=True)
    for of, message in ((["tanh"], 'no layer "tanh"'), (["rnn", "rnn"], "wanted twice"), (["x"], 'no layer "x"')):
        with pytest.raises(ValueError, match=message):
            again.backward({}, of=of)
    with pytest.raises(TypeError, match="of is a str, expected a list"):
        again.backward({}, of="rnn")


@pytest.mark.parametrize("name", ALL)
def test_layouts_give_the_same_numbers(name):
    net = ALL[name]()
    inputs = inputs_of(net)
    expected = several(net(*inputs))
    flat = several(net(*(x[:, 0] for x in inputs)))
    net.batch_first = True
    swapped = several(net(*(np.swapaxes(x, 0, 1) for x in inputs)))
    for output, y, single, other in zip(net._outputs, expected, flat, swapped):
        pooled = output in net._pooled
        assert np.array_equal(single, y[0] if pooled else y[:, 0])
        assert np.array_equal(other, y if pooled else y.swapaxes(0, 1))


@pytest.mark.parametrize("name", ALL)
def test_files_and_copies_keep_everything(name, tmp_path):
    net = ALL[name]()
    net.steps = 5
    net.requires_grad_(False, next(iter(net.parameters())))
    inputs = inputs_of(net)
    expected = several(net(*inputs))
    net.save(tmp_path / "net.safetensors")
    loaded = rf.load(tmp_path / "net.safetensors")
    assert type(loaded) is type(net)
    assert loaded.config == net.config
    copies = [
        loaded,
        rf.load(tmp_path / "net.safetensors", kind=rf.Network),
        pickle.loads(pickle.dumps(net)),
        copy.deepcopy(net),
    ]
    for each in copies:
        assert all(np.array_equal(a, b) for a, b in zip(several(each(*inputs)), expected))
    assert copies[-1].frozen == net.frozen
    trained = [several(each.forward(*inputs)[0]) for each in (net, *copies[2:])]  # the same masks of dropout
    assert all(np.array_equal(a, b) for other in trained[1:] for a, b in zip(other, trained[0]))


@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_a_quantized_file_is_the_network_with_these_weights(tmp_path, weights):
    net = CHAINS["words"]()
    net.save(tmp_path / "net.safetensors")
    rf.quantize(tmp_path / "net.safetensors", tmp_path / "small.safetensors", weights=weights)
    (x,) = inputs_of(net)
    small, full = rf.load(tmp_path / "small.safetensors"), rf.load(tmp_path / "net.safetensors", weights=weights)
    assert small.config["weights"] == weights
    assert np.array_equal(small(x), full(x))
    np.testing.assert_allclose(small(x), net(x), atol=0.05)


@pytest.mark.parametrize("weights", ["bf16", "int8"])
@pytest.mark.parametrize(
    "layers",
    [
        lambda: (rf.Embedding(9, 8), rf.LayerNorm(8), rf.LSTM(8, 8)),
        lambda: (rf.Embedding(9, 8), rf.Conv1d(8, 8, 3, padding="causal"), rf.SelfAttention(8, 2)),
        lambda: (rf.Embedding(9, 8), rf.Linear(8, 8), rf.AttentionPool(8)),
    ],
)
def test_a_quantized_file_rounds_only_what_running_rounds(tmp_path, layers, weights):
    rf.Sequential(*layers()).save(tmp_path / "net.safetensors")
    rf.quantize(tmp_path / "net.safetensors", tmp_path / "small.safetensors", weights=weights)
    small, full = rf.load(tmp_path / "small.safetensors"), rf.load(tmp_path / "net.safetensors", weights=weights)
    x = np.arange(9, dtype=np.int32).reshape(9, 1)
    assert np.array_equal(small(x), full(x))


def test_a_network_trains_with_the_optimizers_and_clipping_of_the_other_layers():
    net = rf.Sequential(
        rf.Conv1d(1, 8, 3, padding="causal", seed=0), rf.ReLU(), rf.LSTM(8, 16, seed=1), rf.Linear(16, 1, seed=2)
    )
    x = np.sin(np.arange(200, dtype=np.float32) / 5)[:, None, None]
    optimizer, losses = rf.Adam(net, lr=0.01), []
    for _ in range(60):
        y, backward = net.forward(x[:-1])
        error = y - x[1:]
        backward(2 * error / error.size)
        rf.clip_grad_norm_(net, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(np.square(error).mean()))
    assert losses[-1] < 0.05 * losses[0]


def test_the_summary_names_layers_shapes_parameters_and_operations():
    lines = CHAINS["words"]().summary().splitlines()
    assert lines[0].split()[:4] == ["layer", "type", "reads", "output"]
    assert "(T, N, 9)" in lines[2]
    assert lines[2].split()[-2:] == ["1,296", "2,304"] or "lstm x 2" in lines[2]
    assert lines[-1].split()[0] == f"{CHAINS['words']().num_parameters:,}"
    assert "(N, 4)" in CHAINS["pooled"]().summary()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rf.Sequential(), ValueError, "no layer has a width"),
        (lambda: rf.Sequential(rf.Linear(3, 4), rf.Linear(5, 2)), ValueError, "reads 5 numbers a step, but '0' has 4"),
        (lambda: rf.Sequential(rf.Linear(3, 4), lambda x: x), TypeError, "cannot be part of a network"),
        (lambda: rf.Sequential(rf.GRU(3, 4, batch_first=True)), ValueError, "give batch_first to the network"),
        (lambda: rf.Sequential(rf.GRU(3, 4, weights="bf16")), ValueError, "give weights='bf16' to the network"),
        (lambda: rf.Network(inputs={"x": 3}, layers={"a": (rf.Add(), "x", "y")}), ValueError, "nothing before this is called"),
        (lambda: rf.Network(inputs={"x": {"words": 3}}, layers={"a": rf.Linear(3, 1)}), ValueError, "expected its width"),
        (lambda: rf.Sequential(rf.Linear(3, 4))(np.zeros((2, 2, 4))), ValueError, "expected .*, 3"),
        (lambda: rf.Sequential(rf.Linear(3, 4))(), TypeError, "0 inputs are given, expected 1: input"),
        (lambda: rf.Sequential(rf.Linear(3, 4)).run(np.zeros((2, 2, 3)), state={"0": None}), ValueError, "there are none"),
        (lambda: rf.Sequential(rf.Embedding(5, 4))([[5]]), IndexError, "5"),
        (lambda: rf.Sequential(rf.Linear(3, 4)).run(np.zeros((2, 2, 3))).backward({}), ValueError, "run with train=True"),
        (lambda: rf.Scale(np.inf), ValueError, "factor is inf, expected a finite number"),
        (lambda: rf.Scale("2"), TypeError, "factor is '2', expected a number"),
        (lambda: rf.Pool("middle"), ValueError, "function is 'middle'"),
        (lambda: rf.Dropout(1.0), ValueError, "p is 1.0"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_backward_is_called_once_and_with_the_weights_of_forward():
    net = CHAINS["series"]()
    y, backward = net.forward(*inputs_of(net))
    backward(np.ones_like(y))
    with pytest.raises(ValueError, match="forward again"):
        backward(np.ones_like(y))
    y, backward = net.forward(*inputs_of(net))
    net.load_state_dict(net.state_dict())
    with pytest.raises(ValueError, match="the weights changed"):
        backward(np.ones_like(y))
