"""Files of translators: their own kind, hostile files, quantized files, and files of older versions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_seq2seq import RAGGED, STRUCTURES, batch_of, small

import rnnfast as rf
from rnnfast import _core

RESERVED = ("<pad>", "<bos>", "<eos>")
GOLDEN = Path(__file__).parents[1] / "golden" / "seq2seq_v1.safetensors"
GOLDEN_NLL = 66.33616250145717  # of RAGGED's pairs, when the file was written


def worded(**options):
    """A translator with words: 11 in the source, 13 in the target."""
    source = rf.Vocab("a b c d e f g".split(), reserved=RESERVED, tokenizer="word")
    target = rf.Vocab("A B C D E F G H I".split(), reserved=RESERVED, tokenizer="word")
    return rf.Seq2Seq(source, target, **{"embedding_size": 5, "hidden_size": 8, "seed": 3, **options})


@pytest.mark.parametrize("options", STRUCTURES, ids=str)
def test_a_translator_comes_back_as_it_was(tmp_path, options):
    model = worded(**options)
    model.save(tmp_path / "m.safetensors")
    again = rf.load(tmp_path / "m.safetensors", kind="seq2seq")
    assert again.config == model.config
    assert (again.source_vocab, again.target_vocab) == (model.source_vocab, model.target_vocab)
    assert np.array_equal(again.nll(*batch_of(*RAGGED)), model.nll(*batch_of(*RAGGED)))


def test_a_file_written_by_version_1_still_loads():
    model = rf.load(GOLDEN)
    assert model.decoder == "context_and_previous"
    assert model.target_vocab.to_tokens([4, 12]) == ["A", "I"]
    np.testing.assert_allclose(model.nll(*batch_of(*RAGGED)).sum(), GOLDEN_NLL, rtol=1e-5)


@pytest.mark.parametrize("weights", ["bf16", "int8"])
@pytest.mark.parametrize("options", STRUCTURES, ids=str)
def test_a_quantized_file_gives_what_quantizing_at_load_gives(tmp_path, options, weights):
    model = worded(**options)
    random = np.random.default_rng(0)
    model.load_state_dict({n: random.normal(0, 0.5, v.shape) for n, v in model.parameters().items()})
    model.save(tmp_path / "whole")
    rf.quantize(tmp_path / "whole", tmp_path / "small", weights=weights)
    batch = batch_of(*RAGGED)
    small_file, at_load = rf.load(tmp_path / "small"), rf.load(tmp_path / "whole", weights=weights)
    assert small_file.config["weights"] == weights
    assert np.array_equal(small_file.nll(*batch), at_load.nll(*batch))
    exact = model.nll(*batch)
    assert np.abs(at_load.nll(*batch) - exact).mean() < 0.1 * exact.mean()
    assert not np.array_equal(at_load.nll(*batch), exact)
    rf.quantize(tmp_path / "small", tmp_path / "again", weights=weights)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "small").read_bytes()


def test_an_int8_translator_says_that_it_cannot_be_trained():
    with pytest.raises(ValueError, match="int8 weights are for inference"):
        small(weights="int8").loss(*batch_of(*RAGGED))


def test_each_kind_of_file_is_distinguished_from_the_other(tmp_path, corpus):
    rf.LanguageModel(corpus.vocab, hidden_size=4, seed=0).save(tmp_path / "lm")
    worded().save(tmp_path / "mt")
    with pytest.raises(rf.FileFormatError, match="lm holds a language model, for .* expected a translator"):
        rf.load(tmp_path / "lm", kind="seq2seq")
    with pytest.raises(rf.FileFormatError, match="mt holds a translator, for .* expected a language model"):
        rf.load(tmp_path / "mt", kind="language_model")
    with pytest.raises(ValueError, match="kind is 'translator', expected one of language_model, seq2seq"):
        rf.load(tmp_path / "mt", kind="translator")


HOSTILE = [
    ({"hidden_size": 10**6}, "more weights than the file has"),
    ({"num_layers": 10**6}, "more weights than the file has"),
    ({"source_vocab_size": 10**9}, "source_vocabulary has 11 tokens, its size is 1000000000"),
    ({"hidden_size": 9}, "encoder.rnn.weight_ih_l0 has shape .* expected"),
    ({"hidden_size": -8}, "cannot be used"),
    ({"hidden_size": None}, "cannot be used"),
    ({"cell": "lstn"}, "unknown cell 'lstn'"),
    ({"reads": 5}, "cannot be used"),
    ({"reads": ["context", "future"]}, "reads is 'future': expected one of 'context', 'previous'"),
    ({"attention": "hard"}, "attention is 'hard': expected one of 'none', 'additive'"),
    ({"initial_state": "learnt"}, "initial_state is 'learnt'"),
    ({"bidirectional": True}, "weights encoder.rnn.weight_ih_l0_reverse are missing"),
    ({"teacher_forcing": "often"}, "cannot be used"),
    ({"output_dropout": 1.0}, "output_dropout must be a number from 0 to below 1"),
    ({"beams": 5}, "cannot be used"),
]


@pytest.mark.parametrize(("changed", "text"), HOSTILE, ids=str)
def test_a_configuration_that_does_not_fit_the_weights_is_refused(tmp_path, changed, text):
    worded().save(tmp_path / "m")
    tensors, metadata = _core.read_safetensors(str(tmp_path / "m"))
    metadata["config"] = json.dumps({**json.loads(metadata["config"]), **changed})
    _core.write_safetensors(str(tmp_path / "m"), tensors, metadata)
    with pytest.raises(rf.FileFormatError, match=text):
        rf.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("target_vocabulary", "{}", "cannot be used"),
        ("target_vocabulary", "[", "cannot be used"),
        (
            "source_vocabulary",
            '{"tokenizer": "word", "tokens": ["<unk>", "a"]}',
            "has 2 tokens, its size is 11",
        ),
        ("config", "[]", "cannot be used"),
        ("config", "{}", "cannot be used"),
    ],
)
def test_damaged_metadata_is_refused(tmp_path, key, value, text):
    worded().save(tmp_path / "m")
    tensors, metadata = _core.read_safetensors(str(tmp_path / "m"))
    metadata[key] = value
    _core.write_safetensors(str(tmp_path / "m"), tensors, metadata)
    with pytest.raises(rf.FileFormatError, match=text):
        rf.load(tmp_path / "m")
