"""Translators: an encoder, a context, a decoder."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.seq2seq import DECODERS

SOURCE, TARGET, EMBEDDING, HIDDEN = 11, 13, 5, 8


def small(**options):
    return rf.Seq2Seq(SOURCE, TARGET, **{"embedding_size": EMBEDDING, "hidden_size": HIDDEN, "seed": 3, **options})


def sources(lengths, seed=0, steps=None):
    """Random source sentences (S, N) of these lengths; what stands at padding must not matter."""
    random = np.random.default_rng(seed)
    lengths = np.asarray(lengths, np.int64)
    x = random.integers(0, SOURCE, (lengths.max(), len(lengths))).astype(np.int32)
    if steps is not None:
        x = np.concatenate([x, np.full((steps - len(x), len(lengths)), -7, np.int32)])
    return x, lengths


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


def test_a_bridge_makes_the_state_where_the_encoders_own_does_not_fit():
    shapes = {n: v.shape for n, v in small(decoder="d2l", bidirectional=True, num_layers=2).parameters().items()}
    assert shapes["bridge.weight"] == (2 * HIDDEN, 2 * HIDDEN)
    assert "bridge.weight" in small(decoder="previous", context="mean").parameters()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "readout": "all"}])
def test_a_step_depends_on_its_own_row_alone(decoder, cell, options):
    model = small(decoder=decoder, cell=cell, context="mean", **options)
    x, lengths = sources([5, 1, 3, 7], seed=1)
    tokens = np.random.default_rng(2).integers(0, TARGET, (4, 4)).astype(np.int32)
    logits = steps_of(model, x, lengths, tokens)
    padded = steps_of(model, *sources([5, 1, 3, 7], seed=1, steps=12), tokens)
    assert np.array_equal(logits, padded), "more padding of the source changed bits"
    for n, length in enumerate(lengths):
        alone = steps_of(model, x[:length, n : n + 1].copy(), lengths[n : n + 1], tokens[:, n : n + 1].copy())
        assert np.array_equal(alone[:, 0], logits[:, n]), "the rows beside it changed bits"
    assert not np.array_equal(logits[:, 0], logits[:, 3])


def test_wrong_options_and_ids_say_what_was_expected():
    for options, text in (
        ({"decoder": "attention"}, "decoder is 'attention', expected one of context_as_state"),
        ({"reads": ["future"]}, r"reads is \['future'\]"),
        ({"initial_state": "random"}, "initial_state is 'random'"),
        ({"context": "sum"}, "context is 'sum'"),
        ({"readout": "half"}, "readout is 'half'"),
        ({"initial_state": "zero", "reads": ["previous"]}, "would never see the source"),
        ({"teacher_forcing": 1.5}, "teacher_forcing is 1.5"),
        ({"cell": "mgu"}, "unknown cell 'mgu'"),
        ({"init_scale": 0.0}, "init_scale is 0.0"),
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
