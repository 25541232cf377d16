"""The translator against the float64 reference and against PyTorch: every choice of structure, ragged lengths."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from reference_seq2seq import DECODERS, Translator, settings, shapes

ROOT = Path(__file__).parents[2]

# (preset, what differs, S, T, N): every preset with every cell; every context, readout, attention with every preset it goes
# with; layers and directions; N on both sides of the tiles' heights.
ROWS = [1, 2, 5, 7, 13, 33]
CASES = [
    (decoder, {"cell": cell, "num_layers": 1 + (i + j) % 2, "readout": ("state", "all")[(i + j // 2) % 2]}, 7, 6, ROWS[(i + j) % 6])
    for i, decoder in enumerate(DECODERS)
    for j, cell in enumerate(("rnn", "gru", "lstm", "rnn_relu"))
] + [
    ("d2l", {"cell": "gru", "bidirectional": True}, 5, 4, 3),
    ("d2l", {"cell": "lstm", "bidirectional": True, "num_layers": 2, "readout": "all"}, 9, 8, 17),
    ("previous", {"cell": "lstm", "bidirectional": True, "num_layers": 2}, 6, 7, 9),
    ("context_as_state", {"cell": "gru", "bidirectional": True, "num_layers": 2, "context": "max"}, 6, 5, 4),
    ("context_as_input", {"cell": "lstm", "context": "mean", "bidirectional": True}, 6, 5, 4),
    ("context_and_previous", {"cell": "gru", "context": "mean", "num_layers": 2, "readout": "all"}, 8, 5, 33),
    ("d2l", {"cell": "gru", "context": "mean"}, 5, 9, 8),
    ("d2l", {"cell": "rnn", "context": "max", "num_layers": 2}, 5, 9, 8),
    ("d2l", {"cell": "gru", "initial_state": "zero"}, 5, 4, 6),
    ("previous", {"cell": "lstm", "initial_state": "learned", "attention": "dot"}, 5, 4, 6),
    ("context_and_previous", {"cell": "gru", "hidden_size": 40, "embedding_size": 33, "target_size": 70}, 12, 11, 20),
    ("previous", {"cell": "lstm", "hidden_size": 65, "embedding_size": 20, "num_layers": 2}, 10, 9, 12),
    ("context_and_previous", {"cell": "gru", "readout": "all"}, 1, 1, 1),
]  # fmt: skip
ADDITIVE = [
    ("d2l", {"cell": "gru", "bidirectional": True, "readout": "all"}, 9, 8, 7),
    ("d2l", {"cell": "gru"}, 1, 1, 1),
    ("d2l", {"cell": "lstm", "num_layers": 2}, 6, 7, 33),
    ("d2l", {"cell": "rnn", "num_layers": 2, "bidirectional": True, "context": "max"}, 6, 7, 5),
    ("context_and_previous", {"cell": "gru", "readout": "all", "hidden_size": 40, "embedding_size": 33}, 20, 11, 14),
    ("context_and_previous", {"cell": "lstm", "bidirectional": True, "context": "mean"}, 5, 4, 2),
    ("context_as_input", {"cell": "gru", "readout": "all"}, 5, 4, 6),
    ("d2l", {"cell": "rnn_relu", "initial_state": "zero"}, 7, 5, 6),
]
MULTIPLICATIVE = [
    (decoder, {"cell": cell, "attention": kind, "bidirectional": both, "num_layers": layers, "readout": readout}, 7, 6, n)
    for decoder, cell, kind, both, layers, readout, n in [
        ("previous", "gru", "dot", False, 1, "state", 7),
        ("previous", "lstm", "general", True, 2, "all", 13),
        ("context_and_previous", "gru", "general", True, 1, "all", 33),
        ("context_and_previous", "rnn", "dot", False, 2, "all", 1),
        ("d2l", "lstm", "dot", False, 2, "state", 5),
        ("d2l", "gru", "general", False, 1, "state", 2),
        ("context_as_state", "gru", "dot", False, 1, "all", 6),
        ("context_as_input", "lstm", "general", True, 1, "all", 4),
    ]
]  # fmt: skip
ALL = CASES + [(d, {**o, "attention": "additive"}, *rest) for d, o, *rest in ADDITIVE] + MULTIPLICATIVE
by_case = pytest.mark.parametrize("case", ALL, ids=str)


def random_weights(config, seed=0):
    """Larger than first weights are, so that gates, scores and biases matter."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(size=shape) * (0.5 if len(shape) == 1 else shape[-1] ** -0.5)).astype(np.float32)
        for name, shape in shapes(config).items()
    }


def pairs(config, S, T, N, seed=1):
    """A batch as rf.ParallelCorpus gives it: source (S, N), lengths (N,), target (T + 1, N) from <bos>, padded with -1."""
    rng = np.random.default_rng(seed)
    source = rng.integers(0, config["source_size"], (S, N)).astype(np.int32)
    target = rng.integers(0, config["target_size"], (T + 1, N)).astype(np.int32)
    lengths, counted = rng.integers(1, S + 1, N), rng.integers(1, T + 1, N)
    lengths[rng.integers(N)], counted[rng.integers(N)] = S, T
    target[0] = 2
    target[np.arange(T + 1)[:, None] > counted] = -1
    return source, lengths, target


def reference(weights, config, batch, forced=None):
    source, lengths, target = batch
    model = Translator({name: w.astype(float) for name, w in weights.items()}, config)
    model.forward(source, lengths, np.maximum(target[:-1], 0), target[1:], forced)
    return model


def close(actual, expected, what, tolerance):
    assert np.shape(actual) == np.shape(expected), what
    scale = max(np.abs(expected).max(), 1e-3)
    error = np.abs(np.asarray(actual, np.float64) - expected).max() / scale
    assert error < tolerance, f"{what}: relative error {error:.2e}"


def twin_of(weights, config, dtype):
    torch = pytest.importorskip("torch")
    if not (ROOT / "benchmarks").exists():
        pytest.skip("benchmarks are not part of this copy")
    sys.path.insert(0, str(ROOT))
    from benchmarks.translation_torch import TorchSeq2Seq

    twin = TorchSeq2Seq(config).to(getattr(torch, dtype)).eval()
    twin.load(weights)
    return twin


def check_twin(twin, model, batch, tolerance, forced=None):
    nll = twin.nll(*batch, forced)
    close(nll.detach().numpy(), model.nll.value, "nll", tolerance)
    (nll.sum() / model.counted).backward()
    gradients, named = model.backward(), twin.named()
    assert set(named) == set(gradients)
    for name, gradient in gradients.items():
        close(named[name].grad.numpy(), gradient, name, tolerance)


@by_case
def test_the_reference_and_torch_agree_in_float64_on_the_loss_and_all_gradients(case):
    """1e-9 of the largest value: doubles, and sums of a few hundred terms."""
    decoder, options, *size = case
    config = settings(decoder, **options)
    weights, batch = random_weights(config), pairs(config, *size)
    check_twin(twin_of(weights, config, "float64"), reference(weights, config, batch), batch, 1e-9)


@pytest.mark.parametrize("case", [CASES[9], CASES[18], ALL[len(CASES)], MULTIPLICATIVE[1], MULTIPLICATIVE[2]], ids=str)
def test_the_reference_and_torch_agree_where_the_model_reads_its_own_choices(case):
    decoder, options, *size = case
    config = settings(decoder, **options)
    weights, batch = random_weights(config), pairs(config, *size)
    for forced in (np.arange(size[1]) < 1, np.arange(size[1]) % 2 < 1):
        model = reference(weights, config, batch, forced)
        check_twin(twin_of(weights, config, "float64"), model, batch, 1e-9, forced)
