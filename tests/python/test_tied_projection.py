"""Tied weights with embeddings of another width than the hidden state: a projection before the output."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import rnnfast as rf

V, E, H = 29, 13, 22
VOCAB = rf.Vocab([chr(97 + i) for i in range(V - 1)])


def model_of(**options):
    return rf.LanguageModel(
        VOCAB,
        **{
            "cell": "lstm",
            "embedding_size": E,
            "hidden_size": H,
            "num_layers": 2,
            "tie_weights": True,
            "seed": 1,
            **options,
        },
    )


def batch(steps=9, rows=4):
    random = np.random.default_rng(3)
    return (random.integers(0, V, (steps, rows)).astype(np.int32) for _ in range(2))


def twin_of(model, *, double):
    """The same model in PyTorch, with an nn.Linear before an output that shares the embedding's table."""
    torch = pytest.importorskip("torch")

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(V, E)
            self.rnn = torch.nn.LSTM(E, H, 2)
            self.projection = torch.nn.Linear(H, E)
            self.output = torch.nn.Linear(E, V)
            self.output.weight = self.embedding.weight

        def forward(self, x):
            return self.output(self.projection(self.rnn(self.embedding(x))[0]))

    twin, weights = Twin(), model.state_dict()
    weights["output.weight"] = weights["embedding.weight"]
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return torch, twin.double() if double else twin


@pytest.mark.parametrize("double", [False, True])
def test_loss_and_gradients_equal_torchs(double):
    model = model_of()
    torch, twin = twin_of(model, double=double)
    x, y = batch()
    loss, _ = model.loss(x, y)
    model.backward()
    logits = twin(torch.from_numpy(x).long())
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.from_numpy(y).long().reshape(-1))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    gradients = {name: p.grad.numpy() for name, p in twin.named_parameters()}
    assert set(gradients) == set(model.grads)
    for name, gradient in gradients.items():
        assert np.abs(model.grads[name] - gradient).max() < 1e-5 * np.abs(gradient).max(), name


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
def test_steps_give_what_whole_sequences_give(weights):
    model = model_of(weights=weights)
    x, y = batch()
    nll, state = None, None
    whole, end = model.nll(x, y)
    for t in range(len(x)):
        logits, state = model.step(x[t], state)
        top = logits.max(-1, keepdims=True)
        log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
        nll = -np.take_along_axis(log_p, y[t][:, None], -1)[:, 0]
        np.testing.assert_allclose(nll, whole[t], rtol=2e-5)
    for part, other in zip(state, end):
        np.testing.assert_array_equal(part, other)


def test_it_is_saved_generates_and_adapts(tmp_path):
    model = model_of(dropout=0.3, variational=True)
    assert model.state_dict()["projection.weight"].shape == (E, H)
    assert "output.weight" not in model.state_dict()
    model.save(tmp_path / "m.safetensors")
    again = rf.load(tmp_path / "m.safetensors")
    assert again.config == model.config
    assert rf.generate(again, "ab", length=30, seed=2) == rf.generate(model, "ab", length=30, seed=2)
    ids = np.random.default_rng(0).integers(1, V, 200)
    assert rf.evaluate(model, ids, cache=rf.NeuralCache()).perplexity < rf.evaluate(model, ids).perplexity * 1.2


def test_it_learns():
    corpus = rf.Corpus.from_text("abcabdabe" * 60, tokenizer="char")
    for output in ({}, {"output": "sampled", "num_sampled": 3}):
        model = rf.LanguageModel(
            corpus.vocab, cell="gru", embedding_size=5, hidden_size=16, tie_weights=True, seed=1, **output
        )
        rf.fit(model, corpus, epochs=12, batch_size=4, num_steps=9, lr=2e-2, progress=False)
        assert rf.evaluate(model, corpus).perplexity < 2


def test_norms_and_residual_sums_are_as_ever():
    assert "projection.weight" in model_of(norm="layer").state_dict()
    assert "projection.weight" not in model_of(embedding_size=H).state_dict()
    with pytest.raises(ValueError, match="residual: embedding_size is 13"):
        model_of(residual=True)
    with pytest.raises(ValueError, match="tie_weights: embedding_size is 0"):
        model_of(embedding_size=0)


def test_the_command_line_trains_it(tmp_path):
    (tmp_path / "text.txt").write_text("a rose is a rose is a rose. " * 20)
    options = ["--cell", "lstm", "--embedding-size", "6", "--hidden-size", "10", "--tie-weights", "--epochs", "1"]
    command = [sys.executable, "-m", "rnnfast", "train", "text.txt", *options, "--batch-size", "2", "--num-steps", "8"]
    subprocess.run([*command, "--output", "m.safetensors"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert rf.load(tmp_path / "m.safetensors").state_dict()["projection.weight"].shape == (6, 10)
