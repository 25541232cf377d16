"""Language models of pre-norm residual layers: H <- H + cell(norm(H)), norm before the output."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from registered import LAYERS
from test_language_model import nll_of, random_batch

import rnnfast as rf
from rnnfast.cli import main
from rnnfast.reference import Normalization, Stack

H, V, LAYERS_DEEP = 20, 17, 3
FORMS = [(True, "rms"), (True, "layer"), (True, None), (False, "rms")]


def made(cell="lstm", residual=True, norm="rms", **options):
    sizes = {"embedding_size": H, "hidden_size": H, "num_layers": LAYERS_DEEP, "seed": 1, **options}
    return rf.LanguageModel(V, cell=cell, residual=residual, norm=norm, **sizes)


def vary(model):
    """Scales of normalization that are not all 1, so that a test sees them."""
    random = np.random.default_rng(5)
    changed = {n: random.normal(1, 0.3, w.shape) for n, w in model.state_dict().items() if "norm" in n}
    model.load_state_dict({**model.state_dict(), **changed})
    return model


class Norm:
    """The normalization with this name among the weights, or nothing."""

    def __init__(self, x, w, name):
        self.own = {part: w[f"{name}.{part}"] for part in ("weight", "bias") if f"{name}.{part}" in w}
        self.name, self.norm = name, Normalization(x, self.own, 1e-5, "bias" in self.own) if self.own else None
        self.y = self.norm.y if self.norm else x

    def backward(self, dy, grads):
        if self.norm is None:
            return dy
        dx, own = self.norm.backward(dy)
        grads.update({f"{self.name}.{part}": gradient for part, gradient in own.items()})
        return dx


def reference(model, x, y, state=None):
    """Loss, all gradients and the last h of each layer, in float64."""
    c, w = model.config, {name: value.astype(np.float64) for name, value in model.state_dict().items()}
    N = x.shape[1]
    h0 = c0 = np.zeros((LAYERS_DEEP, N, H))
    if state is not None:
        h0, c0 = state if isinstance(state, tuple) else (state, c0)
    h, layers, last = w["embedding.weight"][x], [], []
    for i in range(LAYERS_DEEP):
        norm = Norm(h, w, f"layers.{i}.norm")
        own = {n.split(".")[-1]: value for n, value in w.items() if n.startswith(f"layers.{i}.rnn.")}
        stack = Stack(c["cell"], norm.y, own, h0[i : i + 1], c0[i : i + 1], np.full(N, len(x)))
        layers.append((norm, stack))
        last.append(stack.h[0])
        h = h + stack.y if c.get("residual") else stack.y
    norm = Norm(h, w, "norm")
    logits = norm.y @ w["output.weight"].T + w["output.bias"]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    loss = -np.log(np.take_along_axis(p, y[..., None], -1)).mean()
    d = (p - np.eye(V)[y]) / y.size
    grads = {"output.weight": np.einsum("tnv,tnh->vh", d, norm.y), "output.bias": d.sum((0, 1))}
    dh, zeros = norm.backward(d @ w["output.weight"], grads), np.zeros((1, N, H))
    for i, (norm, stack) in reversed(list(enumerate(layers))):
        dx, _, _, own = stack.backward(dh, zeros, zeros)
        grads.update({f"layers.{i}.rnn.{name}": value for name, value in own.items()})
        dh = (dh if c.get("residual") else 0) + norm.backward(dx, grads)
    grads["embedding.weight"] = np.zeros((V, H))
    np.add.at(grads["embedding.weight"], x, dh)
    return loss, grads, np.array(last)


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize(("residual", "norm"), FORMS)
def test_loss_and_all_gradients_equal_the_float64_reference(cell, residual, norm):
    model = vary(made(cell, residual, norm))
    x, y = random_batch(V, steps=7, rows=3)
    loss, _ = model.loss(x, y)
    model.backward()
    expected, grads, _ = reference(model, x, y)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert set(grads) == set(model.grads)
    for name, wanted in grads.items():
        # Sums of float32: 2e-5 of the largest number is some roundings of each of their terms.
        assert np.abs(model.grads[name] - wanted).max() < 2e-5 * max(np.abs(wanted).max(), 1e-3), name


@pytest.mark.parametrize("cell", LAYERS)
def test_state_carries_over_and_a_step_equals_the_whole(cell):
    model = vary(made(cell))
    x, y = random_batch(V, steps=8, rows=3)
    whole, end = model.nll(x, y)
    first, state = model.nll(x[:5], y[:5])
    rest, after = model.nll(x[5:], y[5:], state)
    assert np.array_equal(np.concatenate([first, rest]), whole)
    _, _, last = reference(model, x, y)
    np.testing.assert_allclose(end[0] if isinstance(end, tuple) else end, last, atol=1e-5)
    state = None
    for t in range(8):
        logits, state = model.step(x[t], state)
        np.testing.assert_allclose(nll_of(logits, y[t]), whole[t], atol=1e-5)
    for a, b, c in zip(*(s if isinstance(s, tuple) else (s,) for s in (state, end, after))):
        assert np.array_equal(a, b)
        assert np.array_equal(c, b)


@pytest.mark.parametrize("weights", ["f32", "bf16"])
def test_results_depend_on_neither_threads_nor_batch(weights):
    x, y = random_batch(V, steps=9, rows=6)
    results = []
    threads = rf.get_num_threads()
    try:
        for count in (1, 2, 3):
            rf.set_num_threads(count)
            model = made("sru", weights=weights, hidden_size=96, embedding_size=96, dropout=0.2)
            loss, _ = model.loss(x, y)
            model.backward()
            alone = [model.nll(x[:, n : n + 1], y[:, n : n + 1])[0] for n in range(6)]
            assert np.array_equal(np.concatenate(alone, 1), model.nll(x, y)[0])
            results.append((loss, {name: grad.copy() for name, grad in model.grads.items()}))
    finally:
        rf.set_num_threads(threads)
    for loss, grads in results[1:]:
        assert loss == results[0][0]
        assert all(np.array_equal(grad, results[0][1][name]) for name, grad in grads.items())


@pytest.mark.parametrize("stored", ["f32", "bf16", "int8"])
@pytest.mark.parametrize(("residual", "norm"), FORMS)
def test_files_hold_the_model_and_its_text(tmp_path, residual, norm, stored):
    vocab = rf.Vocab("abcdefg")
    model = vary(rf.LanguageModel(
        vocab, cell="mingru", embedding_size=H, hidden_size=H, num_layers=2, residual=residual, norm=norm, seed=0
    ))  # fmt: skip
    model.save(tmp_path / "m.safetensors", weights=stored)
    again = rf.load(tmp_path / "m.safetensors")
    assert again.config == {**model.config, "weights": stored}
    same = rf.load(tmp_path / "m.safetensors", weights="f32")
    for name, value in model.state_dict().items():
        if stored == "f32" or value.ndim == 1:
            assert np.array_equal(same.state_dict()[name], value)
    ids = [[1], [2], [3]]
    assert (
        np.abs(again.nll(ids, ids)[0] - model.nll(ids, ids)[0]).max() < {"f32": 1e-9, "bf16": 0.05, "int8": 0.1}[stored]
    )
    assert rf.generate(again, "a", length=5, seed=0)


def test_a_file_without_the_options_of_its_layers_is_refused(tmp_path):
    model = rf.LanguageModel(5, embedding_size=4, hidden_size=4, residual=True, norm="rms", seed=0)
    model.save(tmp_path / "m", metadata={"config": "{}"})
    with pytest.raises(rf.FileFormatError, match="configuration"):
        rf.load(tmp_path / "m")
    tensors = {"layers.9.rnn.weight_ih_l0": np.zeros((4, 4), np.float32)}
    model.save(tmp_path / "m", tensors=tensors)
    with pytest.raises(rf.FileFormatError, match=r"layers\.9\.rnn\.weight_ih_l0"):
        rf.load(tmp_path / "m")


def test_old_files_and_plain_models_know_nothing_of_it():
    plain = rf.LanguageModel(5, embedding_size=4, hidden_size=4, num_layers=2, seed=0)
    assert not {"residual", "norm"} & set(plain.config)
    assert list(plain.parameters())[1] == "rnn.weight_ih_l0"


def test_dropout_acts_between_layers_and_nowhere_in_evaluation():
    x, y = random_batch(V)
    losses = {p: made(dropout=p).loss(x, y)[0] for p in (0.0, 0.5)}
    assert losses[0.0] != losses[0.5]
    assert np.array_equal(made(dropout=0.5).nll(x, y)[0], made(dropout=0.0).nll(x, y)[0])
    only_between = made(dropout=0.5, embedding_dropout=0.0, norm=None)
    assert only_between.loss(x, y)[0] not in (losses[0.0], losses[0.5])


@pytest.mark.parametrize("variational", [False, True])
def test_gradients_with_dropout_are_those_of_finite_differences(variational):
    x, y = random_batch(V, steps=4, rows=3)

    def fresh():
        return made("qrnn", dropout=0.3, variational=variational)

    model = fresh()
    model.loss(x, y)
    model.backward()
    for name in ("embedding.weight", "layers.0.norm.weight", "layers.1.rnn.weight_ih_l0", "norm.weight"):
        where = np.unravel_index(np.abs(model.grads[name]).argmax(), model.grads[name].shape)
        losses = []
        for step in (-1e-2, 1e-2):  # large, since losses are sums of float32
            other = fresh()
            weights = other.state_dict()
            weights[name][where] += step
            other.load_state_dict(weights)
            losses.append(other.loss(x, y)[0])
        assert (losses[1] - losses[0]) / 2e-2 == pytest.approx(model.grads[name][where], rel=0.02), name


def test_layers_start_differently_and_the_scales_of_norms_at_1():
    for options in ({}, {"init_scale": 0.1}):
        weights = made(**options).state_dict()
        for name, value in weights.items():
            assert (value == 1).all() == name.endswith("norm.weight"), name
        first = [weights[f"layers.{i}.rnn.weight_ih_l0"] for i in range(LAYERS_DEEP)]
        assert not any(np.array_equal(a, b) for a, b in itertools.combinations(first, 2))


def test_a_deep_stack_learns_what_a_plain_one_of_its_depth_does_not():
    """12 layers of minGRU: with residuals, gradients reach the first of them."""
    text = rf.Corpus.from_text("the quick brown fox jumps over the lazy dog. " * 40, tokenizer="char")

    def perplexity(**options):
        model = rf.LanguageModel(
            text.vocab, cell="mingru", embedding_size=24, hidden_size=24, num_layers=12, seed=0, **options
        )
        rf.fit(model, text, epochs=3, batch_size=8, num_steps=16, lr=5e-3, progress=False)
        return rf.evaluate(model, text).perplexity

    assert perplexity(residual=True, norm="rms") < 0.7 * perplexity()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"residual": True}, "residual: embedding_size is 0 and hidden_size 256, expected the same"),
        ({"residual": True, "embedding_size": 8}, "residual: embedding_size is 8 and hidden_size 256"),
        ({"norm": "rms"}, "norm: embedding_size is 0"),
        ({"norm": "batch", "embedding_size": 8}, "norm is 'batch', expected one of rms, layer"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        rf.LanguageModel(9, **options)


def test_the_command_line_trains_and_continues_such_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a rose is a rose is a rose. " * 60, encoding="utf-8")
    sizes = (
        "--embedding-size",
        "16",
        "--hidden-size",
        "16",
        "--num-layers",
        "2",
        "--num-steps",
        "8",
        "--batch-size",
        "4",
    )
    train = ("train", "text.txt", "--epochs", "1", "--output")
    assert main([*train, "m.safetensors", "--cell", "mingru", "--residual", "--norm", "rms", *sizes]) == 0
    model = rf.load("m.safetensors")
    assert (model.config["residual"], model.config["norm"]) == (True, "rms")
    assert main([*train, "n.safetensors", "--from", "m.safetensors", "--norm", "layer"]) == 2
    assert "--norm is layer, in the model rms" in capsys.readouterr().err
    assert main([*train, "n.safetensors", "--from", "m.safetensors", "--norm", "rms"]) == 0
    assert rf.load("n.safetensors").config == model.config


@pytest.mark.parametrize(("residual", "norm"), FORMS)
@pytest.mark.parametrize("cell", ["lstm", "mingru"])
def test_unrolled_gates_are_those_that_lead_to_the_state(cell, residual, norm):
    model, ids = vary(made(cell, residual, norm)), [3, 1, 4, 1]
    steps, h = rf.unroll(model, ids).steps, np.zeros(H)
    for step in steps:
        g = step.gates
        h = h + g["z"] * (g["n"] - h) if cell == "mingru" else g["o"] * np.tanh(step.c[-1])
        np.testing.assert_allclose(step.h[-1], h, atol=1e-5)


def test_gradient_flow_is_for_plain_layers():
    x, y = random_batch(V)
    with pytest.raises(ValueError, match="has residuals or norms between its layers"):
        rf.gradient_flow(made(), (x, y))


@pytest.mark.parametrize("weights", ["bf16", "int8"])
@pytest.mark.parametrize("options", [{"norm": "rms"}, {"residual": True}, {"residual": True, "norm": "layer"}])
def test_a_quantized_file_gives_what_quantizing_at_load_gives(tmp_path, options, weights):
    corpus = rf.Corpus.from_text("what is rounded in a file is what is rounded in a run")
    rf.LanguageModel(corpus.vocab, cell="gru", embedding_size=16, hidden_size=16, seed=0, **options).save(
        tmp_path / "lm"
    )
    rf.quantize(tmp_path / "lm", tmp_path / "small", weights=weights)
    ids = np.arange(len(corpus.vocab), dtype=np.int32)
    small, full = rf.load(tmp_path / "small"), rf.load(tmp_path / "lm", weights=weights)
    assert np.array_equal(small.step(ids)[0], full.step(ids)[0])
