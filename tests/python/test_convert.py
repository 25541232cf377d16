"""``rnnfast convert`` and named arrays."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.cli import main


@pytest.fixture
def archive(tmp_path):
    """A GRU that tags ids, as a NumPy archive with short names."""
    random = np.random.default_rng(0)
    shapes = {
        "emb": (9, 4),
        "w_ih": (15, 4),
        "w_hh": (15, 5),
        "b_ih": (15,),
        "b_hh": (15,),
        "fc_w": (2, 5),
        "fc_b": (2,),
    }
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(
        tmp_path / "tagger.npz",
        **{name if name[:2] in ("em", "fc") else f"rnn_{name}": a for name, a in arrays.items()},
    )
    return tmp_path / "tagger.npz"


LAYERS = ("embedding:emb", "gru:rnn", "linear:fc")


def test_an_archive_becomes_a_model_file_and_then_an_onnx_file(archive, tmp_path, capsys):
    model, small = str(tmp_path / "model.safetensors"), str(tmp_path / "small.safetensors")
    assert main(["convert", str(archive), "--output", model, "--layers", *LAYERS, "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["parameters"] == 9 * 4 + 15 * 11 + 12
    assert main(["convert", str(archive), "--output", small, "--layers", *LAYERS, "--weights", "int8"]) == 0
    ids = np.random.default_rng(1).integers(0, 9, (7, 3))
    net = rf.load(model)
    assert np.array_equal(net(ids), rf.from_arrays(archive, *LAYERS)(ids))
    assert rf.load(small).config["weights"] == "int8"
    pytest.importorskip("onnx", reason="the onnx package is not installed")
    assert main(["convert", model, "--output", str(tmp_path / "net.onnx")]) == 0
    assert main(["convert", str(tmp_path / "net.onnx"), "--output", model, "--force"]) == 0
    assert np.array_equal(rf.load(model)(ids), net(ids))


REFUSALS = {
    "an archive does not tell its layers": ["tagger.npz", "--output", "m"],
    "no table 'nothing'": ["tagger.npz", "--output", "m", "--layers", "embedding:nothing"],
    "rnnfast quantize": ["net.safetensors", "--output", "m"],
    "--constant is for ONNX files": ["tagger.npz", "--output", "m", "--constant", "sr=1"],
    "rf.from_torch": ["model.pt", "--output", "m"],
    "exists already": ["tagger.npz", "--output", "net.safetensors", "--layers", "linear:fc"],
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_convert_says_what_it_cannot_take_and_what_to_do(archive, tmp_path, monkeypatch, capsys, reason):
    monkeypatch.chdir(tmp_path)
    rf.from_arrays(archive, *LAYERS).save("net.safetensors")
    (tmp_path / "model.pt").write_bytes(b"")
    assert main(["convert", *REFUSALS[reason]]) == 2
    assert reason in capsys.readouterr().err


def test_arrays_with_pytorch_s_names_make_stacks_of_both_directions():
    layer = rf.LSTM(3, 4, 2, bidirectional=True, seed=0)
    arrays = {f"rnn.{name}": value for name, value in layer.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    assert np.array_equal(rf.from_arrays(arrays, "lstm:rnn", "relu")(x), np.maximum(layer(x)[0], 0))
    with pytest.raises(ValueError, match=r"layer 'gru:rnn': its arrays do not fit GRU\(3, 4"):
        rf.from_arrays(arrays, "gru:rnn")
    with pytest.raises(ValueError, match="no layers are given"):
        rf.from_arrays(arrays)
    with pytest.raises(ValueError, match="layer 'cube': there is no activation cube"):
        rf.from_arrays(arrays, "lstm:rnn", "cube")
