"""The translator against the float64 reference and against PyTorch: every choice of structure, ragged lengths."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from registered import IN_TORCH, LAYERS

import rnnfast as rf
from rnnfast.reference.seq2seq import DECODERS, Translator, settings, shapes
from rnnfast.translate import translations

ROOT = Path(__file__).parents[2]

# (preset, what differs, S, T, N): every preset with every cell; every context, readout, attention with every preset it goes
# with; layers and directions; N on both sides of the tiles' heights.
ROWS = [1, 2, 5, 7, 13, 33]
CASES = [
    (decoder, {"cell": cell, "num_layers": 1 + (i + j) % 2, "readout": ("state", "all")[(i + j // 2) % 2]}, 7, 6, ROWS[(i + j) % 6])
    for i, decoder in enumerate(DECODERS)
    for j, cell in enumerate(LAYERS)
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
    ("context_and_previous", {"cell": "gru", "hidden_size": 40, "embedding_size": 33, "target_vocab_size": 70}, 12, 11, 20),
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
] + [("previous", {"cell": "lstm", "initial_state": "learned", "attention": "dot"}, 5, 4, 6)]  # fmt: skip
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
    source = rng.integers(0, config["source_vocab_size"], (S, N)).astype(np.int32)
    target = rng.integers(0, config["target_vocab_size"], (T + 1, N)).astype(np.int32)
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
    if config["cell"] not in IN_TORCH:
        pytest.skip(f"PyTorch has no {config['cell']}")
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


def translator(config, weights=None, **options):
    """rf.Seq2Seq of a ``config``, with these weights."""
    given = {name: value for name, value in config.items() if not name.endswith("_vocab_size")}
    model = rf.Seq2Seq(config["source_vocab_size"], config["target_vocab_size"], **given, **options, seed=1)
    if weights is not None:
        assert {name: w.shape for name, w in model.state_dict().items()} == shapes(config)
        model.load_state_dict(weights)
    return model


def check_translator(model, expected, batch):
    """Within 1e-5 of the largest value, gradients within 2e-5: float32 rounding of sums of a few hundred terms, twice."""
    model.zero_grad()
    loss, _ = model.loss(*batch)
    assert loss == pytest.approx(expected.nll.value.sum() / expected.counted, rel=1e-5)
    model.backward()
    gradients = expected.backward()
    assert set(model.grads) == set(gradients)
    for name, gradient in gradients.items():
        close(model.grads[name], gradient, name, 2e-5)


@by_case
def test_the_loss_and_all_gradients_equal_the_float64_reference(case):
    decoder, options, *size = case
    config = settings(decoder, **options)
    weights, batch = random_weights(config), pairs(config, *size)
    expected, model = reference(weights, config, batch), translator(config, weights)
    close(model.nll(*batch), expected.nll.value, "nll", 1e-5)
    check_translator(model, expected, batch)


@by_case
def test_torch_in_float32_with_the_same_weights_gives_the_same_loss_and_gradients(case):
    """Both round, so their difference may be twice the error of each."""
    decoder, options, *size = case
    config = settings(decoder, **options)
    weights, batch = random_weights(config), pairs(config, *size)
    twin, model = twin_of(weights, config, "float32"), translator(config, weights)
    theirs = twin.nll(*batch)
    close(model.nll(*batch), theirs.detach().numpy(), "nll", 2e-5)
    counted = int((batch[2][1:] >= 0).sum())
    (theirs.sum() / counted).backward()
    model.loss(*batch)
    model.backward()
    named = twin.named()
    assert set(named) == set(model.grads)
    for name, gradient in model.grads.items():
        close(gradient, named[name].grad.numpy(), name, 4e-5)


@pytest.mark.parametrize("attention", ["none", "additive", "general"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_any_number_of_rows_equals_the_reference(cell, attention):
    config = settings("d2l", cell=cell, attention=attention, readout="all", hidden_size=17)
    weights = random_weights(config)
    model = translator(config, weights)
    for rows in range(1, 34):
        batch = pairs(config, 6, 5, rows, seed=rows)
        check_translator(model, reference(weights, config, batch), batch)


@by_case
def test_the_model_reads_its_own_choices_where_teacher_forcing_is_zero(case):
    decoder, options, *size = case
    config = settings(decoder, **options)
    weights, batch = random_weights(config), pairs(config, *size)
    expected = reference(weights, config, batch, np.zeros(size[1], bool))
    check_translator(translator(config, weights, teacher_forcing=0.0), expected, batch)


@by_case
def test_more_padding_never_changes_a_bit(case):
    decoder, options, *size = case
    config = settings(decoder, **options)
    model, (source, lengths, target) = translator(config, random_weights(config)), pairs(config, *size)
    nll = model.nll(source, lengths, target)
    model.loss(source, lengths, target)
    model.backward()
    before = {name: g.copy() for name, g in model.grads.items()}
    model.zero_grad()
    rows = source.shape[1]
    longer = np.concatenate([source, np.full((3, rows), 4, np.int32)])
    wider = np.concatenate([target, np.full((2, rows), -1, np.int32)])
    assert np.array_equal(model.nll(longer, lengths, wider)[: len(nll)], nll)
    model.loss(longer, lengths, wider)
    model.backward()
    for name, gradient in before.items():
        assert np.array_equal(model.grads[name], gradient), name


@pytest.mark.parametrize(
    ("attention", "probabilities"),
    [
        ("none", {"dropout": 0.3}),
        ("additive", {"dropout": 0.3}),
        ("general", {"dropout": 0.3}),
        ("none", {"dropout": 0.3, "output_dropout": 0.0}),
        ("additive", {"dropout": 0.0, "output_dropout": 0.4}),
    ],
)
def test_gradients_with_dropout_are_the_slope_of_the_loss_under_the_same_masks(attention, probabilities):
    """Central differences along a random direction: 1e-2 of the slope, since the loss is float32."""
    config = settings("d2l", num_layers=2, readout="all", attention=attention, hidden_size=24, **probabilities)
    weights, batch = random_weights({**config}), pairs(config, 6, 5, 12)
    rng, eps = np.random.default_rng(3), 3e-3
    direction = {name: rng.normal(size=w.shape).astype(np.float32) for name, w in weights.items()}

    def loss(sign):
        moved = {name: w + np.float32(sign * eps) * direction[name] for name, w in weights.items()}
        model = translator(config, moved)  # a new model restarts its masks
        value, _ = model.loss(*batch)
        model.backward()
        return value, sum(float((model.grads[name] * d).sum()) for name, d in direction.items())

    numeric = (loss(1)[0] - loss(-1)[0]) / (2 * eps)
    assert loss(0)[1] == pytest.approx(numeric, rel=1e-2)
    plain = translator({**config, "dropout": 0.0, "output_dropout": 0.0}, weights).loss(*batch)[0]
    assert loss(0)[0] != pytest.approx(plain, rel=1e-3)


@by_case
def test_greedy_translations_have_the_references_choices_probabilities_and_attention(case):
    decoder, options, steps, length, rows = case
    config = settings(decoder, **options)
    weights, rng = random_weights(config), np.random.default_rng(rows)
    sentences = [rng.integers(4, config["source_vocab_size"], rng.integers(1, steps + 1)) for _ in range(rows)]
    attends = config["attention"] != "none"
    found = translations(translator(config, weights), sentences, max_length=length, attention=attends)
    for sentence, [best] in zip(sentences, found):
        source = np.append(sentence, 3)[:, None]  # <eos>
        target = np.array([2, *best.ids, *[3] * best.ended])[:, None]
        expected = reference(weights, config, (source, np.array([len(source)]), target))
        logits = np.array([step.value[0] for step in expected.logits])
        logits[:, 1:3] = -np.inf  # <pad> and <bos> are never produced
        assert logits.argmax(1).tolist() == target[1:, 0].tolist()
        assert best.log_prob == pytest.approx(-expected.nll.value.sum(), rel=1e-5, abs=1e-5)
        if attends:
            close(best.attention, np.array(expected.attention)[:, :, 0], "attention", 1e-5)
