"""The gradient of each row by itself."""

from __future__ import annotations

import numpy as np
import pytest
import ranks_program as program

import rnnfast as rf

random = np.random.default_rng(0)
X, Y = random.integers(0, 20, (7, 5)).astype(np.int32), random.integers(0, 20, (7, 5)).astype(np.int32)  # T = 7, N = 5


def one_row_batches(model, rows, run):
    """What a batch with one row gives to ``grads``, for each row, at the steps that per_sample_gradients takes masks from."""
    every, first = [], model.steps
    for n in range(rows):
        model.zero_grad()
        model.steps = first * rows + n
        run(n)
        every.append({name: value.copy() for name, value in model.grads.items()})
    model.zero_grad()
    model.steps = first
    return {name: np.stack([each[name] for each in every]) for name in every[0]}


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "embedding_size": 6, "num_layers": 2, "dropout": 0.3},
        {"cell": "gru"},
        {"cell": "mingru", "embedding_size": 9, "num_layers": 2, "residual": True, "norm": "rms"},
        {"cell": "qrnn", "embedding_size": 6, "num_layers": 2, "window": 2, "dropout": 0.3},
        {"cell": "lstm", "embedding_size": 9, "tie_weights": True, "dropout": 0.3},
        {"cell": "gru", "embedding_size": 6, "output": "adaptive", "cutoffs": [10]},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_of_a_language_model_they_are_those_of_one_row_batches(options):
    model = rf.LanguageModel(20, hidden_size=9, seed=1, **options)
    model.steps = 3

    def run(n):
        model.loss(X[:, n : n + 1], Y[:, n : n + 1])
        model.backward()

    wanted = one_row_batches(model, 5, run)
    assert_same(rf.per_sample_gradients(model, (X, Y)), wanted)
    assert model.steps == 4
    assert not any(value.any() for value in model.grads.values())


@pytest.mark.parametrize("attention", ["none", "additive", "general"])
def test_of_a_translator_they_are_those_of_one_row_batches(attention):
    pairs = program.pairs()
    model = rf.Seq2Seq(
        pairs.source_vocab, pairs.target_vocab, embedding_size=6, hidden_size=10, attention=attention, dropout=0.2, teacher_forcing=0.5,
        seed=0,
    )  # fmt: skip
    batch = next(iter(pairs.batches(batch_size=6, seed=0)))

    def run(n):
        model.loss(*(array[..., n : n + 1] for array in batch))
        model.backward()

    wanted = one_row_batches(model, 6, run)
    assert_same(rf.per_sample_gradients(model, batch), wanted)


@pytest.mark.parametrize("recompute", [None, "sqrt"])
def test_of_a_network_they_are_those_of_one_row_batches(recompute):
    net = rf.Sequential(
        rf.LSTM(3, 12, bidirectional=True, recompute=recompute, seed=0), rf.LayerNorm(24), rf.Dropout(0.3),
        rf.SelfAttention(24, seed=1), rf.Pool("last"), rf.Linear(24, 2, seed=1), seed=2,
    )  # fmt: skip
    data = program.network_data(6, 3)

    def run(n):
        y, backward = net.forward(data.x[n][:, None])
        backward(rf.losses.CrossEntropyLoss().forward(y, data.y[n : n + 1])[1])

    wanted = one_row_batches(net, 6, run)
    assert_same(rf.per_sample_gradients(net, (data.x, data.y), loss="cross_entropy"), wanted)


def test_they_are_those_of_torch_func():
    """Up to the rounding of float32: sums of 7 x 9 terms of size 0.1."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = rf.LanguageModel(20, cell="rnn", embedding_size=6, hidden_size=9, seed=1)
    parameters = {name: torch.tensor(value) for name, value in model.state_dict().items()}

    def loss(p, x, y):  # x, y: one-hot
        h, total = torch.zeros(9), 0.0
        for t in range(7):
            e = x[t] @ p["embedding.weight"]
            h = torch.tanh(
                p["rnn.weight_ih_l0"] @ e + p["rnn.bias_ih_l0"] + p["rnn.weight_hh_l0"] @ h + p["rnn.bias_hh_l0"]
            )
            log_p = torch.log_softmax(p["output.weight"] @ h + p["output.bias"], 0)
            total = total - (y[t] * log_p).sum()
        return total / 7

    rows = [torch.nn.functional.one_hot(torch.tensor(ids.T.astype(np.int64)), 20).float() for ids in (X, Y)]
    wanted = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, *rows)
    for name, value in rf.per_sample_gradients(model, (X, Y)).items():
        np.testing.assert_allclose(value, wanted[name].numpy(), atol=1e-6, err_msg=name)


def test_frozen_parameters_are_left_out_and_threads_do_not_matter():
    model = rf.LanguageModel(20, cell="gru", embedding_size=6, hidden_size=9, seed=1).requires_grad_(False, "embedding")
    before = rf.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            rf.set_num_threads(threads)
            model.steps = 0
            found.append(rf.per_sample_gradients(model, (X, Y)))
    finally:
        rf.set_num_threads(before)
    assert "embedding.weight" not in found[0]
    assert_same(found[1], found[0])


@pytest.mark.parametrize(
    ("batch", "error", "sentence"),
    [
        ((X,), ValueError, r"batch has arrays of shape \(7, 5\), expected \(x, y\)"),
        ((X, Y[:, :3]), ValueError, r"\(7, 5\) and \(7, 3\)"),
        (None, TypeError, "batch is None"),
        ((X + 100, Y), IndexError, "token id"),
    ],
)
def test_bad_batches_are_refused_in_one_sentence(batch, error, sentence):
    with pytest.raises(error, match=sentence):
        rf.per_sample_gradients(rf.LanguageModel(20, hidden_size=9, seed=1), batch)
    with pytest.raises(TypeError, match="model is a str, expected"):
        rf.per_sample_gradients("model", (X, Y))
