"""One set of rules for model files: Python refuses what the C++ reader refuses, and what it accepts works in Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import rnnfast as rf
from rnnfast import _core

oracle = pytest.importorskip("safetensors.numpy")
WORDS = "a b c d e f".split()
RESERVED = rf.text.RESERVED
WRONG = [
    None, True, False, "", "lstm", "1", -1, 0, 1, 2, 3, 5, 1.0, 1.5, 0.5, 10**6, 2**31 - 1, 2**31, 2**63, 2**64 - 1, 2**64, 10**40,
    -(2**63), 1e300, float("nan"), float("inf"), -float("inf"), [], [1], ["context"], ["context", 1], {}, {"a": 1},
]  # fmt: skip
OPTIONS = [
    "hidden_dim", "tie_weights", "variational", "init_scale", "decoder", "vocab", "output_dropout", "self", "cell ", "",
]  # fmt: skip


def language_model(**options):
    return rf.LanguageModel(rf.Vocab(WORDS, tokenizer="word"), embedding_size=3, hidden_size=4, seed=1, **options)


def translator(**options):
    vocab = rf.Vocab(WORDS, reserved=RESERVED, tokenizer="word")
    return rf.Seq2Seq(vocab, vocab, embedding_size=3, hidden_size=4, seed=1, **options)


MODELS = {
    "lm": (language_model, {"cell": "lstm", "num_layers": 2}),
    "lm int8": (language_model, {"cell": "gru"}),
    "translator": (translator, {"decoder": "d2l", "attention": "general"}),
    "translator learned": (translator, {"cell": "lstm", "decoder": "context_as_input", "bidirectional": True}),
}


@pytest.fixture(scope="module", params=MODELS)
def parts(request, tmp_path_factory):
    """Tensors as they are in the file, metadata, and a path to write to."""
    build, options = MODELS[request.param]
    path = tmp_path_factory.mktemp("rules") / "model"
    build(**options).save(path, weights="int8" if "int8" in request.param else "f32")
    stored, metadata = _core.read_safetensors(str(path))
    return stored, metadata, path


def agree(tensors, metadata, path):
    """Whether both readers take the file; an accepted model must work, and save itself as a file that loads."""
    path.write_bytes(oracle.save({n: np.ascontiguousarray(v) for n, v in tensors.items()}, metadata=metadata))
    if metadata.get("format") != "rnnfast" or metadata.get("kind") not in ("language_model", "seq2seq"):
        with pytest.raises(rf.FileFormatError):  # as each C++ class does, which knows one kind only
            rf.load(path)
        return False
    try:
        _core.read_model(str(path))
    except rf.FileFormatError:
        with pytest.raises(rf.FileFormatError):
            rf.load(path)
        return False
    model = rf.load(path)
    if isinstance(model, rf.LanguageModel):
        model.step([1])
    else:
        rf.translate(model, [[4, 5]], max_length=2)
    model.save(path)
    rf.load(path)
    return True


def with_config(metadata, change):
    config = json.loads(metadata["config"])
    change(config)
    return {**metadata, "config": json.dumps(config)}


@pytest.mark.fault("R3")
def test_both_readers_agree_on_every_change_of_the_configuration(parts):
    tensors, metadata, path = parts
    accepted = refused = 0
    for key in [*json.loads(metadata["config"]), *OPTIONS]:
        for value in WRONG:
            good = agree(tensors, with_config(metadata, lambda c, k=key, v=value: c.update({k: v})), path)
            accepted, refused = accepted + good, refused + (not good)
        agree(tensors, with_config(metadata, lambda c, k=key: c.pop(k, None)), path)
    assert accepted > 5
    assert refused > 200


@pytest.mark.fault("R3")
def test_both_readers_agree_on_every_change_of_a_tensor(parts):
    tensors, metadata, path = parts
    assert agree(tensors, metadata, path)
    for name, value in tensors.items():
        rest = {n: v for n, v in tensors.items() if n != name}
        assert not agree(rest, metadata, path), name
        assert not agree({**rest, name: value[None]}, metadata, path), name
        assert not agree({**rest, name: value[:-1]}, metadata, path), name
        if value.ndim == 2 and value.shape[0] != value.shape[1]:
            assert not agree({**rest, name: value.T}, metadata, path), name
        if value.dtype == np.float32:
            spoilt = value.copy()
            spoilt.flat[-1] = np.nan
            assert not agree({**rest, name: spoilt}, metadata, path), name
        prefix = name.partition(".")[0]
        assert not agree({**tensors, f"{prefix}.more": value}, metadata, path), name
    assert agree({**tensors, "optimizer.more": np.ones(3, np.float32)}, metadata, path)
    assert not agree({**tensors, "optimizer.more": np.full(3, np.inf, np.float32)}, metadata, path)


@pytest.mark.fault("R3")
def test_both_readers_agree_on_every_change_of_the_other_metadata(parts):
    tensors, metadata, path = parts
    for key in metadata:
        for text in [
            "",
            "null",
            "[]",
            "{}",
            "0",
            "x",
            "1",
            "2",
            "3",
            "seq2seq",
            "language_model",
            "autoregressor",
            "\ud7ff",
        ]:
            agree(tensors, {**metadata, key: text}, path)
        agree(tensors, {k: v for k, v in metadata.items() if k != key}, path)
    for key in (k for k in metadata if k.endswith("vocabulary")):
        held = json.loads(metadata[key])
        for field in (*held, "lower", "rules", "more"):
            for value in [
                *WRONG,
                ["<unk>"],
                ["<unk>", 1],
                held["tokens"][1:],
                [*held["tokens"], "x"],
                ["<unk>"] * len(held["tokens"]),
            ]:
                agree(tensors, {**metadata, key: json.dumps({**held, field: value})}, path)


@pytest.mark.fault("R6")
def test_tensors_of_other_dtypes_do_no_harm_and_halves_and_doubles_are_read(parts):
    tensors, metadata, path = parts
    foreign = {"bn.num_batches_tracked": np.array(3, np.int64), "mask": np.ones(4, bool), "ids": np.ones(3, np.int32)}
    path.write_bytes(oracle.save({**tensors, **foreign}, metadata=metadata))
    expected = rf.load(path).state_dict()
    for dtype in (np.float16, np.float64):
        path.write_bytes(
            oracle.save(
                {n: v.astype(dtype) if v.dtype == np.float32 else v for n, v in tensors.items()}, metadata=metadata
            )
        )
        read = rf.load(path).state_dict()
        for name, value in read.items():
            stored = (
                tensors[name].astype(dtype).astype(np.float32) if tensors[name].dtype == np.float32 else expected[name]
            )
            if f"{name}.scale" not in tensors:
                assert np.array_equal(value, stored), name
    for name in list(tensors)[:3]:
        path.write_bytes(oracle.save({**tensors, name: np.ones(tensors[name].shape, np.int64)}, metadata=metadata))
        with pytest.raises(rf.FileFormatError, match=f'"{name}" has dtype I64; only F32, F64, F16, BF16 or I8'):
            rf.load(path)


@pytest.mark.fault("R3")
def test_every_file_that_python_writes_is_one_that_cpp_reads(tmp_path):
    models = [
        rf.LanguageModel(5, seed=2**64 - 1),
        rf.LanguageModel(5, embedding_size=4, hidden_size=4, tie_weights=True, variational=True, dropout=0.5),
        rf.LanguageModel(5, embedding_size=4, hidden_size=4, num_layers=2, residual=True, norm="layer"),
        rf.LanguageModel(5, cell="qrnn", embedding_size=4, hidden_size=5, num_layers=2, window=2),
        rf.LanguageModel(5, cell="qrnn", embedding_size=4, hidden_size=4, num_layers=2, window=2, residual=True),
        rf.Seq2Seq(9, 9, cell="qrnn", encoder_window=2, bidirectional=True),
        rf.Seq2Seq(9, rf.Vocab(WORDS, reserved=RESERVED)),
        rf.Seq2Seq(rf.Vocab(WORDS, reserved=RESERVED), 9, decoder="previous", teacher_forcing=0.5, output_dropout=0.1),
        language_model(weights="int8"),
    ]
    for model in models:
        for weights in ("f32", "bf16", "int8"):
            model.save(tmp_path / "m", weights=weights)
            assert rf.load(tmp_path / "m").num_parameters == model.num_parameters
    with pytest.raises(ValueError, match=r"source_vocab begins with .*'<bos>'.* expected <unk>, <pad>, <bos>, <eos>"):
        rf.Seq2Seq(rf.Vocab(WORDS, reserved=("<bos>", "<pad>", "<eos>")), 9)


@pytest.mark.fault("R3")
@pytest.mark.parametrize("name", sorted(p.name for p in (Path(__file__).parents[1] / "golden").glob("*.safetensors")))
def test_every_old_file_is_read_by_both(name):
    path = Path(__file__).parents[1] / "golden" / name
    _core.read_model(str(path))
    rf.load(path)
