"""Writes the seeds of the fuzzer: one small model of every cell and precision, and damaged ones.

python tests/fuzz/make_corpus.py tests/fuzz/corpus
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

import rnnfast as rf
from rnnfast import _core


def retyped(model: bytes, dtype: Any) -> bytes:
    """The model with every tensor in another dtype."""
    tensors, metadata = _core.parse_safetensors(model)
    return save({name: value.astype(dtype) for name, value in tensors.items()}, metadata=metadata)


def network(path: Path, config: dict[str, Any]) -> None:
    made = _core.Network(json.dumps(config))
    metadata = {"format": "rnnfast", "format_version": "1", "kind": "network", "config": made.config}
    _core.write_safetensors(str(path), dict(made.parameters()), metadata)


def sparse_models(folder: Path) -> None:
    """Models whose recurrent matrix is stored without its blocks of zeros."""
    model = rf.LanguageModel(rf.Vocab("a b c".split()), cell="gru", embedding_size=2, hidden_size=16, seed=1)
    weights = model.state_dict()
    pruned = {**weights, "rnn.weight_hh_l0": np.where(np.arange(16) < 2, weights["rnn.weight_hh_l0"], np.float32(0))}
    model.load_state_dict(pruned)
    for precision in ("f32", "bf16", "int8"):
        model.save(folder / f"sparse_{precision}", weights=precision)


def main(folder: Path) -> None:
    """Writes the files; an old one of the same name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = rf.Vocab("a b c".split())
    for cell in ("rnn", "rnn_relu", "gru", "lstm"):
        for weights in ("f32", "bf16", "int8"):
            model = rf.LanguageModel(vocab, cell=cell, embedding_size=2, hidden_size=3, num_layers=2, seed=1)
            model.save(folder / f"{cell}_{weights}", weights=weights)
        rf.LanguageModel(vocab, cell=cell, hidden_size=2, seed=1).save(folder / f"{cell}_one_hot")
    sparse_models(folder)
    pair = rf.Vocab("a b".split(), reserved=("<pad>", "<bos>", "<eos>"))
    for attention, weights in (("none", "f32"), ("additive", "bf16"), ("dot", "int8"), ("general", "f32")):
        translator = rf.Seq2Seq(pair, pair, embedding_size=2, hidden_size=3, attention=attention, seed=1)
        translator.save(folder / f"translator_{attention}_{weights}", weights=weights)
    bridged = rf.Seq2Seq(pair, pair, cell="lstm", embedding_size=2, hidden_size=2, bidirectional=True, decoder="d2l",
                         readout="all", seed=1)  # fmt: skip
    bridged.save(folder / "translator_bridged")
    network(folder / "network_chain", {"inputs": [{"name": "x", "size": 2}], "layers": [
        {"name": "c", "type": "conv1d", "out_channels": 2, "kernel_size": 2, "before": 1},
        {"name": "r", "type": "recurrent", "cell": "lstm", "hidden_size": 2},
        {"name": "p", "type": "pool", "function": "mean"},
        {"name": "l", "type": "linear", "out_features": 2}]})  # fmt: skip
    network(folder / "network_graph", {"inputs": [{"name": "t", "ids": 3}, {"name": "x", "size": 2}], "layers": [
        {"name": "e", "type": "embedding", "embedding_dim": 2},
        {"name": "a", "type": "add", "inputs": ["e", "x"]},
        {"name": "n", "type": "layer_norm"},
        {"name": "s", "type": "self_attention", "causal": True},
        {"name": "c", "type": "concatenate", "inputs": ["a", "s"]},
        {"name": "r", "type": "recurrent", "cell": "gru", "hidden_size": 2, "bidirectional": True}],
        "outputs": ["n", "r"]})  # fmt: skip
    stream = rf.Sequential(rf.Embedding(3, 2, seed=1), rf.Conv1d(2, 2, 2, padding="causal", seed=1), rf.nn.GELU(),
                           rf.RMSNorm(2), rf.GRU(2, 2, seed=1), rf.nn.Pool("max"), rf.Linear(2, 2, seed=1), seed=1)  # fmt: skip
    for weights in ("bf16", "int8"):
        stream.save(folder / f"network_stream_{weights}", weights=weights)
    rf.SequenceClassifier("gru", 2, embedding_size=2, epochs=1, seed=1).fit(["ab", "a"], ["x", "y"]).save(
        folder / "classifier_text"
    )
    numbers = rf.SequenceClassifier("lstm", 2, epochs=1, seed=1, pooling="mean")
    numbers.fit([np.zeros((2, 2)), np.ones((1, 2))], [1, -2]).save(folder / "classifier_numbers")
    tagger = rf.SequenceTagger("gru", 2, embedding_size=2, epochs=1, seed=1)
    tagger.fit(["ab", "a"], [["x", "y"], ["x"]]).save(folder / "tagger")
    forecaster = rf.Forecaster("gru", 2, horizon=2, season=2, calibration=2, epochs=1, seed=1)
    forecaster.fit(np.sin(np.arange(14.0)), exogenous=np.ones((14, 1))).save(folder / "interval_forecaster")
    for cell in ("gru", "lstm"):
        rf.Autoregressor(cell, 2, epochs=1, num_steps=2, seed=1).fit(np.arange(5.0)).save(folder / f"forecaster_{cell}")
    whole = (folder / "lstm_f32").read_bytes()
    (folder / "doubles").write_bytes(retyped(whole, np.float64))
    (folder / "halves").write_bytes(retyped(whole, np.float16))
    (folder / "foreign").write_bytes(retyped(whole, np.int64))
    read = struct.pack("<Qi", 1, 5)  # one token, as each list of ids is written
    (folder / "sampler").write_bytes(
        b"rnnfsm01" + struct.pack("<2d5QQ", 1.0, 1.0, 0, 7, 0, 2, 3, 0) + read + struct.pack("<Q", 1) + read + read
    )
    (folder / "cut_short").write_bytes(whole[:-5])
    (folder / "header_only").write_bytes(whole[: 8 + int.from_bytes(whole[:8], "little")])
    (folder / "other_version").write_bytes(whole.replace(b'"format_version":"1"', b'"format_version":"9"'))
    (folder / "nested").write_bytes(b"\x14\0\0\0\0\0\0\0" + b'{"a":[[[[[[[[1]]]]]]')
    (folder / "huge_shape").write_bytes(whole.replace(b"[4,2]", b"[99999999999999999999,2]"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
