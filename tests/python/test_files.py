from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnfast as rf
from rnnfast import _core

oracle = pytest.importorskip("safetensors.numpy")


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_a_model_comes_back_as_it_was(tmp_path, cell, corpus):
    model = rf.LanguageModel(
        corpus.vocab, cell=cell, embedding_size=5, hidden_size=9, num_layers=2, dropout=0.1, seed=1
    )
    model.save(tmp_path / "m.safetensors")
    again = rf.load(tmp_path / "m.safetensors")
    assert again.config == model.config
    assert again.vocab == model.vocab
    assert all(np.array_equal(again.state_dict()[n], v) for n, v in model.state_dict().items())


def test_the_safetensors_package_reads_our_files(tmp_path, corpus):
    model = rf.LanguageModel(corpus.vocab, hidden_size=9, seed=1)
    model.save(tmp_path / "m.safetensors")
    theirs = oracle.load_file(tmp_path / "m.safetensors")
    assert theirs.keys() == model.state_dict().keys()
    assert all(np.array_equal(theirs[n], v) for n, v in model.state_dict().items())


def test_we_read_the_safetensors_package_s_files(tmp_path):
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros((0, 4), np.float32)}
    oracle.save_file(tensors, tmp_path / "t.safetensors", metadata={"k": "ü"})
    ours, metadata = _core.read_safetensors(str(tmp_path / "t.safetensors"))
    assert metadata == {"k": "ü"}
    assert all(np.array_equal(ours[n], v) and ours[n].shape == v.shape for n, v in tensors.items())


@settings(max_examples=300)
@given(st.integers(0, 400), st.integers(0, 255))
def test_nothing_the_safetensors_package_rejects_is_accepted(place, value):
    tensors = {"w": np.ones((2, 3), np.float32), "v": np.ones(2, np.float32)}
    data = bytearray(oracle.save(tensors, metadata={"a": "b"}))
    data[place % len(data)] = value
    try:
        oracle.load(bytes(data))
        accepted = True
    except Exception:
        accepted = False
    try:
        _core.parse_safetensors(bytes(data))
    except rf.FileFormatError:
        return
    assert accepted


def test_a_file_written_by_version_1_still_loads():
    from pathlib import Path

    golden = Path(__file__).parents[1] / "golden" / "language_model_v1.safetensors"
    model = rf.load(golden)
    assert model.config["cell"] == "lstm"
    logits, _ = model.step(model.vocab.encode_text("a"))
    np.testing.assert_allclose(logits.sum(), GOLDEN_SUM, rtol=1e-5)


@pytest.mark.parametrize("weights", ["int8", "bf16"])
def test_a_file_written_by_version_2_still_loads(weights):
    from pathlib import Path

    golden = Path(__file__).parents[1] / "golden" / f"language_model_v2_{weights}.safetensors"
    model = rf.load(golden)
    assert model.config["weights"] == weights
    logits, _ = model.step(model.vocab.encode_text("a"))
    # A number at the edge between two roundings may go either way where multiply-adds are not fused.
    np.testing.assert_allclose(logits.sum(), GOLDEN_SUM_OF_ROUNDED[weights], rtol=1e-3)


GOLDEN_SUM_OF_ROUNDED = {"int8": -0.7057949304580688, "bf16": -0.7057710886001587}
GOLDEN_SUM = -0.7058489322662354  # of the logits, when the file was written


@pytest.mark.parametrize(("weights", "share"), [("int8", 0.27), ("bf16", 0.51)])
def test_a_quantized_file_is_smaller_and_loads_as_it_is(tmp_path, weights, share):
    vocab = rf.Vocab([f"w{i}" for i in range(500)], tokenizer="word")
    model = rf.LanguageModel(vocab, cell="lstm", embedding_size=200, hidden_size=200, num_layers=2, seed=1)
    model.save(tmp_path / "whole")
    rf.quantize(tmp_path / "whole", tmp_path / "small", weights=weights)
    assert (tmp_path / "small").stat().st_size <= share * (tmp_path / "whole").stat().st_size
    again = rf.load(tmp_path / "small")
    assert again.config["weights"] == weights
    ids = np.arange(200) % 500
    whole, at_load = rf.evaluate(model, ids), rf.evaluate(rf.load(tmp_path / "whole", weights=weights), ids)
    assert rf.evaluate(again, ids) == at_load != whole
    assert at_load.perplexity == pytest.approx(whole.perplexity, rel=0.01)
    for name, value in again.state_dict().items():  # a quantized value does not change again
        assert np.array_equal(rf.load(tmp_path / "small", weights="f32").state_dict()[name], value)
    rf.quantize(tmp_path / "small", tmp_path / "again", weights=weights)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "small").read_bytes()


def test_the_safetensors_package_reads_quantized_files(tmp_path):
    model = rf.LanguageModel(20, hidden_size=9, seed=1)
    model.save(tmp_path / "m", weights="int8")
    theirs = oracle.load_file(tmp_path / "m")
    scale, rounded = theirs["output.weight.scale"], theirs["output.weight"]
    assert rounded.dtype == np.int8
    np.testing.assert_allclose(
        rounded * scale[:, None], model.state_dict()["output.weight"], atol=scale.max() / 2 * 1.001
    )


def test_an_int8_model_says_that_it_cannot_be_trained(tmp_path):
    model = rf.LanguageModel(5, hidden_size=8, seed=0, weights="int8")
    with pytest.raises(ValueError, match="int8 weights are for inference"):
        model.loss([[0], [1]], [[1], [2]])
    with pytest.raises(ValueError, match="int8 weights are for inference"):
        rf.LSTM(3, 4, weights="int8").forward(np.zeros((2, 1, 3), np.float32))
    with pytest.raises(ValueError, match="expected one of f32, bf16, int8"):
        model.save(tmp_path / "m", weights="int4")


def test_a_scale_of_another_length_is_refused(tmp_path):
    rf.LanguageModel(20, hidden_size=9, seed=1).save(tmp_path / "m", weights="int8")
    tensors, metadata = _core.read_safetensors(str(tmp_path / "m"))
    tensors["output.weight.scale"] = np.ones(3, np.float32)
    _core.write_safetensors(str(tmp_path / "m"), tensors, metadata)
    with pytest.raises(rf.FileFormatError, match=r"output.weight.scale has shape \[3\], expected \[20\]"):
        rf.load(tmp_path / "m")


def test_the_bytes_of_a_file_are_available_without_a_file(tmp_path):
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1, -2], np.int8)}
    metadata = {"kind": "ä", "empty": ""}
    rf._core.write_safetensors(str(tmp_path / "x"), tensors, metadata)
    data = rf._core.safetensors_bytes(tensors, metadata)
    assert data == (tmp_path / "x").read_bytes()
    again, held = rf._core.parse_safetensors(data)
    assert held == metadata
    assert all(
        np.array_equal(again[name], value) and again[name].dtype == value.dtype for name, value in tensors.items()
    )
