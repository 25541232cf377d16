"""Translators: an encoder, a context, a decoder."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.models.seq2seq import DECODERS

SOURCE, TARGET, EMBEDDING, HIDDEN = 11, 13, 5, 8


def small(**options):
    return rf.Seq2Seq(SOURCE, TARGET, **{"embedding_size": EMBEDDING, "hidden_size": HIDDEN, "seed": 3, **options})


def sources(lengths, seed=0, steps=None):
    """Random source sentences (S, N) of these lengths; the contents of the padding must not matter."""
    random = np.random.default_rng(seed)
    lengths = np.asarray(lengths, np.int64)
    x = random.integers(0, SOURCE, (lengths.max(), len(lengths))).astype(np.int32)
    if steps is not None:
        x = np.concatenate([x, np.full((steps - len(x), len(lengths)), -7, np.int32)])
    return x, lengths


def batch_of(source_lengths, target_lengths, seed=0, source_steps=None, target_steps=None):
    """Pairs as rf.ParallelCorpus gives them: source, lengths, target from <bos>, -1 at padding."""
    x, lengths = sources(source_lengths, seed, source_steps)
    random = np.random.default_rng(seed + 100)
    target_lengths = np.asarray(target_lengths)
    target = random.integers(0, TARGET, (target_lengths.max() + 1, len(lengths))).astype(np.int32)
    target[0] = 2
    target[np.arange(len(target))[:, None] > target_lengths] = -1
    if target_steps is not None:
        target = np.concatenate([target, np.full((target_steps + 1 - len(target), len(lengths)), -1, np.int32)])
    return x, lengths, target


RAGGED = ([5, 1, 3, 7, 7, 2], [4, 6, 1, 3, 6, 5])


def trained_bits(model, batch):
    """Loss and gradients of one training step, as bytes by name."""
    model.zero_grad()
    loss, _ = model.loss(*batch)
    model.backward()
    return {"loss": loss, **{name: value.tobytes() for name, value in model.grads.items()}}


STRUCTURES = [
    {"decoder": decoder, "cell": cell, **options}
    for decoder, cell, options in [
        ("context_as_state", "gru", {"num_layers": 2}),
        ("context_as_state", "rnn", {"bidirectional": True, "context": "max"}),
        ("context_as_input", "lstm", {"context": "mean", "num_layers": 2}),
        ("context_and_previous", "gru", {"readout": "all"}),
        ("context_and_previous", "lstm", {"bidirectional": True}),
        ("previous", "lstm", {"num_layers": 2}),
        ("previous", "rnn_relu", {"bidirectional": True, "num_layers": 2, "readout": "all"}),
        ("d2l", "gru", {"num_layers": 2, "dropout": 0.3}),
        ("d2l", "lstm", {"context": "max", "readout": "all", "dropout": 0.2, "bidirectional": True}),
        ("context_and_previous", "gru", {"initial_state": "zero", "context": "mean"}),
    ]
]
ATTENTIVE = [
    {"attention": attention, "decoder": decoder, "cell": cell, **options}
    for attention, decoder, cell, options in [
        ("additive", "d2l", "gru", {"bidirectional": True, "readout": "all"}),
        ("additive", "d2l", "lstm", {"num_layers": 2, "dropout": 0.3, "readout": "all"}),
        ("additive", "context_and_previous", "rnn", {"num_layers": 3, "context": "mean"}),
        ("additive", "context_as_input", "gru", {"num_layers": 2, "bidirectional": True}),
        ("dot", "previous", "lstm", {"num_layers": 2, "readout": "all"}),
        ("dot", "d2l", "gru", {"context": "max"}),
        ("general", "previous", "gru", {"bidirectional": True, "dropout": 0.2}),
        ("general", "context_and_previous", "rnn", {"bidirectional": True, "readout": "all"}),
    ]
]
STRUCTURES += ATTENTIVE
by_structure = pytest.mark.parametrize("options", STRUCTURES, ids=str)


def steps_of(model, x, lengths, tokens):
    """Logits (T, N, V) of a decoder that is given the tokens (T, N) one after another."""
    encoded = model._core.encode(x, lengths)
    state = model._core.initial_state(encoded)
    return np.stack([model._core.step(encoded, row, state) for row in tokens])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_parameters_have_pytorchs_names_and_the_shapes_of_the_decoder(decoder, cell):
    shapes = {name: value.shape for name, value in small(decoder=decoder, cell=cell).parameters().items()}
    gates = {"gru": 3, "lstm": 4}[cell] * HIDDEN
    state, reads = DECODERS[decoder]
    width = EMBEDDING * ("previous" in reads) + HIDDEN * ("context" in reads)
    assert shapes["encoder.embedding.weight"] == (SOURCE, EMBEDDING)
    assert shapes["encoder.rnn.weight_ih_l0"] == (gates, EMBEDDING)
    assert shapes.get("decoder.embedding.weight") == ((TARGET, EMBEDDING) if "previous" in reads else None)
    assert shapes.get("decoder.rnn.weight_ih_l0") == ((gates, width) if width else None)
    assert shapes.get("decoder.initial_h") == ((1, HIDDEN) if state == "learned" else None)
    assert shapes.get("decoder.initial_c") == ((1, HIDDEN) if state == "learned" and cell == "lstm" else None)
    assert "bridge.weight" not in shapes
    assert shapes["output.weight"] == (TARGET, HIDDEN)


def test_a_bridge_computes_the_state_if_that_of_the_encoder_does_not_fit():
    shapes = {n: v.shape for n, v in small(decoder="d2l", bidirectional=True, num_layers=2).parameters().items()}
    assert shapes["bridge.weight"] == (2 * HIDDEN, 2 * HIDDEN)
    assert "bridge.weight" in small(decoder="previous", context="mean").parameters()


STEPPING = [
    {"decoder": decoder, "cell": cell, "context": "mean", **options}
    for decoder in DECODERS
    for cell in ("rnn", "gru", "lstm")
    for options in ({}, {"bidirectional": True, "num_layers": 2, "readout": "all"})
]


@pytest.mark.parametrize("options", STEPPING + ATTENTIVE, ids=str)
def test_a_step_of_a_row_depends_only_on_that_row(options):
    model = small(**options)
    x, lengths = sources([5, 1, 3, 7], seed=1)
    tokens = np.random.default_rng(2).integers(0, TARGET, (4, 4)).astype(np.int32)
    logits = steps_of(model, x, lengths, tokens)
    padded = steps_of(model, *sources([5, 1, 3, 7], seed=1, steps=12), tokens)
    assert np.array_equal(logits, padded), "more padding of the source changed bits"
    for n, length in enumerate(lengths):
        alone = steps_of(model, x[:length, n : n + 1].copy(), lengths[n : n + 1], tokens[:, n : n + 1].copy())
        assert np.array_equal(alone[:, 0], logits[:, n]), "the rows beside it changed bits"
    assert not np.array_equal(logits[:, 0], logits[:, 3])


@by_structure
def test_padding_changes_no_bit_of_loss_or_gradients(options):
    plain = trained_bits(small(**options), batch_of(*RAGGED))
    padded = trained_bits(small(**options), batch_of(*RAGGED, source_steps=13, target_steps=11))
    assert plain == padded


@by_structure
def test_the_likelihood_of_a_row_does_not_depend_on_the_batch(options):
    model = small(**options)
    x, lengths, target = batch_of(*RAGGED)
    together = model.nll(x, lengths, target)
    assert np.array_equal(together > 0, target[1:] >= 0)
    for n, (S, T) in enumerate(zip(*RAGGED)):
        alone = model.nll(x[:S, n : n + 1], lengths[n : n + 1], target[: T + 1, n : n + 1])
        assert np.array_equal(alone[:, 0], together[:T, n])


@by_structure
def test_the_likelihood_is_that_of_the_steps(options):
    model = small(**options)
    x, lengths, target = batch_of(*RAGGED)
    nll = model.nll(x, lengths, target)
    z = steps_of(model, x, lengths, np.maximum(target[:-1], 0)).astype(np.float64)
    log_p = z - np.log(np.exp(z).sum(2, keepdims=True))
    expected = -np.take_along_axis(log_p, np.maximum(target[1:], 0)[:, :, None], 2)[:, :, 0]
    np.testing.assert_allclose(nll, np.where(target[1:] >= 0, expected, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", ATTENTIVE, ids=str)
def test_attention_has_a_weight_for_each_source_word_and_none_for_padding(options):
    model = small(**options)
    x, lengths = sources([5, 1, 3, 7], seed=1)
    encoded = model._core.encode(x, lengths)
    state, other = model._core.initial_state(encoded), model._core.initial_state(encoded)
    for row in np.random.default_rng(2).integers(0, TARGET, (4, 4)).astype(np.int32):
        logits, weights = model._core.step_and_weights(encoded, row, state)
        assert weights.shape == (4, 7)
        np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
        assert np.array_equal(weights > 0, np.arange(7) < lengths[:, None])
        assert np.array_equal(logits, model._core.step(encoded, row, other))
    assert np.ptp(weights[3]) > 1e-4, "every word has the same share"


def test_a_model_without_attention_has_no_weights_of_words():
    model = small()
    encoded = model._core.encode(*sources([5, 1]))
    with pytest.raises(ValueError, match="the model has no attention"):
        model._core.step_and_weights(encoded, np.array([2, 2], np.int32), model._core.initial_state(encoded))


@by_structure
def test_any_number_of_threads_gives_the_same_bits(options, threads):
    runs = []
    for count in (1, 2, 3):
        threads(count)
        model = rf.Seq2Seq(90, 150, **{**options, "embedding_size": 40, "hidden_size": 70, "seed": 1})
        random = np.random.default_rng(0)
        x, target = random.integers(0, 90, (9, 41)).astype(np.int32), random.integers(0, 150, (9, 41)).astype(np.int32)
        target[0], lengths = 2, random.integers(1, 10, 41)
        target[np.arange(9)[:, None] > random.integers(1, 9, 41)] = -1
        runs.append(trained_bits(model, (x, lengths, target)))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("options", [o for o in STRUCTURES if "dropout" not in o and o["cell"] != "rnn_relu"], ids=str)
def test_gradients_are_the_slopes_of_the_loss(options):
    """Along a random direction of every parameter; float32 products, so 2% of the slope or of a usual one."""
    model = rf.Seq2Seq(SOURCE, TARGET, **{"embedding_size": EMBEDDING, "hidden_size": HIDDEN, "seed": 3, **options})
    random = np.random.default_rng(7)
    weights = {name: random.normal(0, 0.4, value.shape) for name, value in model.parameters().items()}
    batch = batch_of(*RAGGED, seed=5)
    counted = np.count_nonzero(batch[2][1:] >= 0)

    def mean_nll(name, offset):
        model.load_state_dict({**weights, name: weights[name] + offset})
        return model.nll(*batch).sum() / counted

    model.load_state_dict(weights)
    trained_bits(model, batch)
    for name, gradient in model.grads.items():
        gradient = gradient.astype(np.float64)
        assert np.abs(gradient).max() > 0, name
        direction = gradient / np.linalg.norm(gradient) + random.normal(0, 0.1 / np.sqrt(gradient.size), gradient.shape)
        step = 5e-3
        slope = (mean_nll(name, step * direction) - mean_nll(name, -step * direction)) / (2 * step)
        assert slope == pytest.approx((gradient * direction).sum(), rel=0.02, abs=2e-4), name


@pytest.mark.parametrize("teacher_forcing", [0.0, 0.5])
@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.0},
        {"dropout": 0.4, "cell": "lstm", "bidirectional": True},
        {"attention": "additive", "num_layers": 2},
        {"attention": "general", "readout": "all"},
    ],
)
def test_without_teacher_forcing_training_reads_the_models_own_choices(teacher_forcing, options):
    """The most probable token is the target with the smallest loss. A second model with given inputs finds it by trying all."""
    model, twin = small(teacher_forcing=teacher_forcing, **options), small(**options)
    x, lengths, target = batch_of(*RAGGED)
    wanted = target[1:].copy()
    if teacher_forcing == 0.5:
        seen = {model.loss(x, lengths, target)[0] for _ in range(8)}
        assert len(seen) > 1, "every step threw the same coins"
        return

    def losses(read, wanted):
        return twin._core.loss(x, lengths, read, wanted, (1.0, (3 << 32) + 1))  # the masks of seed 3's first step

    read = np.maximum(target[:-1], 0)
    for t in range(1, len(read)):
        each = [losses(read, np.where(wanted >= 0, token, -1).astype(np.int32))[t - 1] for token in range(TARGET)]
        read[t] = np.where(wanted[t - 1] >= 0, np.argmin(each, axis=0), 0)
    loss, _ = model.loss(x, lengths, target)
    assert loss == losses(read, wanted)[wanted >= 0].mean()
    twin._core.backward(), model.backward()
    assert all(np.array_equal(twin.grads[name], g) for name, g in model.grads.items())


def test_own_choices_of_a_vocabulary_too_large_to_keep_all_logits():
    """5 steps x 70 rows x 60,000 logits are more than are kept from a choice to the loss; the rest is computed again."""
    vocabulary, rows = 60_000, 70
    sizes = {"embedding_size": 4, "hidden_size": 4, "decoder": "d2l", "seed": 1}
    model = rf.Seq2Seq(SOURCE, vocabulary, teacher_forcing=0.0, **sizes)
    twin = rf.Seq2Seq(SOURCE, vocabulary, **sizes)
    random = np.random.default_rng(0)
    x, lengths = sources([3] * rows)
    target = random.integers(4, vocabulary, (7, rows)).astype(np.int32)
    target[0] = 2
    loss, _ = model.loss(x, lengths, target)
    encoded = twin._core.encode(x, lengths)
    state, read = twin._core.initial_state(encoded), target[:1]
    for _ in range(5):
        read = np.concatenate([read, twin._core.step(encoded, read[-1], state).argmax(1)[None].astype(np.int32)])
    assert loss == twin._core.loss(x, lengths, read, target[1:].copy(), (1.0, (1 << 32) + 1)).mean()
    twin._core.backward(), model.backward()
    assert all(np.array_equal(twin.grads[name], g) for name, g in model.grads.items())


@by_structure
def test_bf16_training_is_close_to_float32(options):
    """8 bits of mantissa in the factors of every product: gradients within 5% of the largest."""
    whole, rounded = small(**options), small(**options, weights="bf16")
    losses = []
    for model in (whole, rounded):
        losses.append(model.loss(*batch_of(*RAGGED))[0])
        model.backward()
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    for name, gradient in whole.grads.items():
        assert np.abs(rounded.grads[name] - gradient).max() <= 0.05 * np.abs(gradient).max(), name


def test_an_evaluation_between_loss_and_backward_changes_nothing():
    one, other = small(dropout=0.2), small(dropout=0.2)
    batch = batch_of(*RAGGED)
    for model in (one, other):
        model.loss(*batch)
        if model is one:
            model.nll(*batch_of([9, 2], [3, 8], seed=4))
        model.backward()
    assert all(np.array_equal(one.grads[name], g) for name, g in other.grads.items())
    with pytest.raises(ValueError, match="no loss to differentiate"):
        one.backward()


def test_ignored_targets_give_no_gradient():
    model = small()
    x, lengths, target = batch_of(*RAGGED)
    target[1:] = -1
    assert model.loss(x, lengths, target) == (0.0, None)
    model.backward()
    assert not any(g.any() for g in model.grads.values())


@by_structure
def test_a_small_batch_is_memorized(options):
    """If the steps read only the context, their input is the same at every step; only the state differs."""
    model = rf.Seq2Seq(
        SOURCE, TARGET, **{**options, "embedding_size": 16, "hidden_size": 48, "dropout": 0.0, "seed": 2}
    )
    batch = batch_of([5, 3, 3, 7], [4, 6, 2, 3])
    optimizer = rf.Adam(model, lr=1e-2)
    for _ in range(200):
        loss, _ = model.loss(*batch)
        model.backward()
        rf.clip_grad_norm_(model, 5.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.05


def test_wrong_options_and_ids_say_what_was_expected():
    for options, text in (
        ({"decoder": "attention"}, "decoder is 'attention', expected one of context_as_state"),
        ({"reads": ["future"]}, r"reads is \['future'\]"),
        ({"initial_state": "random"}, "initial_state is 'random'"),
        ({"context": "sum"}, "context is 'sum'"),
        ({"readout": "half"}, "readout is 'half'"),
        ({"initial_state": "zero", "reads": ["previous"]}, "would never see the source"),
        ({"teacher_forcing": 1.5}, "teacher_forcing is 1.5"),
        ({"attention": "luong"}, "attention is 'luong': expected one of 'none', 'additive', 'dot', 'general'"),
        ({"attention": "additive", "decoder": "previous"}, "the decoder does not read the context: let it"),
        ({"attention": "dot", "bidirectional": True}, "state of 8 units with the encoder's outputs of 16"),
        ({"cell": "lstn"}, "cell is 'lstn', expected one of"),
        ({"init_scale": 0.0}, "init_scale is 0.0"),
        ({"dropout": 1.0}, "dropout is 1"),
        ({"output_dropout": -0.1}, "output_dropout is -0.1"),
    ):
        with pytest.raises(ValueError, match=text):
            small(**options)
    with pytest.raises(ValueError, match="has no <pad>, <bos>, <eos>"):
        rf.Seq2Seq(rf.Vocab("ab"), TARGET)
    model = small()
    x, lengths = sources([2, 3])
    with pytest.raises(ValueError, match=r"source_lengths\[1\] is 4: expected 1 to 3"):
        model._core.encode(x, lengths + 1)
    with pytest.raises(IndexError, match="source token id 11 at position 1"):
        model._core.encode(np.array([[0, SOURCE]], np.int32), np.array([1, 1]))
    x, lengths, target = batch_of([2, 3], [1, 4])
    for arguments, error, text in (
        ((x[:, :1], lengths, target), ValueError, r"source_lengths has shape \(2,\), expected \(1,\)"),
        ((x, lengths, target[:, :1]), ValueError, r"targets have shape \(4, 1\), expected \(T, 2\)"),
        ((x, lengths, target[:1]), ValueError, r"target has shape \(1, 2\), expected \(T \+ 1, N\)"),
        ((x, lengths, target[2:]), ValueError, "expected <bos> .2. in every column"),
        ((x, lengths * 0, target), ValueError, r"source_lengths\[0\] is 0"),
        ((x, lengths, np.where(target == target[2, 1], TARGET, target)), IndexError, "token id 13 at position"),
        ((x, lengths + 0.5, target), TypeError, "source_lengths has dtype float64"),
        ((x[0], lengths, target), ValueError, r"source has shape \(2,\)"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            model.loss(*arguments)
