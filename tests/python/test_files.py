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


GOLDEN_SUM = -0.7058489322662354  # of the logits, when the file was written
