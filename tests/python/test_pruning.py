"""Pruning: the schedule, which weights become zero, exact resume, and the same bits in streams and batches."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from stopping import Enough, StopAt

import rnnfast as rf
from rnnfast.train.pruning import Sparsity, sparsity_of

TEXT = rf.Corpus.from_text("the time traveller for so it will be convenient to speak of him.\n" * 12)
OPTIONS = {"batch_size": 4, "num_steps": 10, "progress": False}
MATRICES = ("rnn.weight_hh_l0", "rnn.weight_ih_l1", "rnn.weight_hh_l1")


class ZeroBlocks(rf.Callback):
    """The share of zero blocks of a matrix after every step, which never gets smaller."""

    def __init__(self, model, name, block):
        self.model, self.name, self.block, self.shares = model, name, block, []

    def on_step(self, record):
        self.shares.append(float((magnitudes(self.model, self.name, self.block) == 0).mean()))


def model(**options):
    return rf.LanguageModel(TEXT.vocab, **{"cell": "lstm", "hidden_size": 32, "num_layers": 2, "seed": 0, **options})


def magnitudes(trained, name, block):
    weight = np.abs(trained.parameters()[name])
    hidden = trained.config["hidden_size"]
    units, inputs = block
    gates, columns = weight.shape[0] // hidden, weight.shape[1]
    down, across = -(-hidden // units), -(-columns // inputs)
    whole = np.zeros((gates, down * units, across * inputs), np.float32)
    whole[:, :hidden, :columns] = weight.reshape(gates, hidden, columns)
    return whole.reshape(gates, down, units, across, inputs).sum(axis=(2, 4))


def test_the_schedule_is_the_cubic_one():
    sparsity = Sparsity(0.8)
    for done in np.linspace(0, 1, 21):
        grown = min(max((done - 0.1) / 0.4, 0), 1)
        assert sparsity.at(float(done)) == pytest.approx(0.8 * (1 - (1 - grown) ** 3), abs=0.04)
    assert sparsity.at(0.1) == 0
    assert sparsity.at(0.5) == 0.8 == sparsity.at(1.0)


@pytest.mark.parametrize("block", [(16, 1), (16, 4), (32, 3)])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "gru_reset_before"])
def test_the_smallest_blocks_are_zero_and_stay_zero(cell, block):
    trained = model(cell=cell, hidden_size=40)
    seen = ZeroBlocks(trained, "rnn.weight_ih_l1", block)
    history = rf.fit(trained, TEXT, epochs=4, sparsity=0.7, block=block, callbacks=[seen], **OPTIONS)
    assert seen.shares == sorted(seen.shares)
    assert seen.shares[0] == 0
    assert history[-1]["sparsity"] == 0.7
    for name in MATRICES:
        assert (magnitudes(trained, name, block) == 0).mean() == pytest.approx(0.7, abs=0.02), name
    others = {name: w for name, w in trained.parameters().items() if name not in MATRICES}
    assert all(np.count_nonzero(w) > 0.9 * w.size for w in others.values())
    assert not any(np.signbit(w[w == 0]).any() for w in trained.parameters().values())


def test_an_embedding_makes_the_first_input_matrix_a_product_which_is_pruned():
    trained = model(embedding_size=24)
    rf.fit(trained, TEXT, epochs=2, sparsity=0.5, **OPTIONS)
    assert (magnitudes(trained, "rnn.weight_ih_l0", (16, 1)) == 0).mean() == pytest.approx(0.5, abs=0.02)


def test_frozen_weights_are_not_pruned():
    net = rf.Sequential(rf.LSTM(8, 32, seed=0), rf.LSTM(32, 32, seed=1), rf.Linear(32, 1, seed=2))
    net.requires_grad_(False, "0")
    x = np.random.default_rng(0).normal(size=(6, 40, 8)).astype(np.float32)
    rf.fit(net, (x, x[:, :, :1]), loss="mse", epochs=4, batch_size=10, sparsity=0.5, progress=False)
    assert [bool((net.parameters()[f"{i}.weight_hh_l0"] == 0).any()) for i in (0, 1)] == [False, True]


@pytest.mark.parametrize("block", [(16, 1), (16, 4)])
@pytest.mark.parametrize("average", [None, "ema:decay=0.9"])
@pytest.mark.parametrize("stop", [5, 25, 50])
def test_a_resumed_run_is_bit_identical(tmp_path, block, average, stop):
    options = {"epochs": 3, "sparsity": 0.8, "block": block, "average": average, "keep_best": True, **OPTIONS}
    whole = model(dropout=0.2)
    expected = rf.fit(whole, TEXT, TEXT, **options)
    file = tmp_path / "run.safetensors"
    with pytest.raises(Enough):
        rf.fit(model(dropout=0.2), TEXT, TEXT, checkpoint=file, callbacks=[StopAt(stop)], **options)
    resumed = model(dropout=0.2)
    history = rf.fit(resumed, TEXT, TEXT, checkpoint=file, resume=True, **options)
    for name, weight in whole.parameters().items():
        assert np.array_equal(weight, resumed.parameters()[name]), name
    assert [r["valid_perplexity"] for r in history] == [r["valid_perplexity"] for r in expected]
    assert (magnitudes(resumed, MATRICES[0], block) == 0).mean() == pytest.approx(0.8, abs=0.02)


@pytest.fixture
def interrupted(tmp_path):
    file = tmp_path / "run.safetensors"
    with pytest.raises(Enough):
        rf.fit(model(), TEXT, epochs=3, sparsity=0.8, checkpoint=file, callbacks=[StopAt(40)], **OPTIONS)
    return file


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sparsity": 0.7}, "sparsity is 0.7, in the checkpoint 0.8"),
        ({"sparsity": None}, "sparsity is None, in the checkpoint 0.8"),
        ({"sparsity": 0.8, "block": (16, 4)}, r"block is \[16, 4\], in the checkpoint \[16, 1\]"),
    ],
)
def test_a_run_resumes_only_with_the_same_sparsity(interrupted, options, told):
    with pytest.raises(ValueError, match=told):
        rf.fit(model(), TEXT, epochs=3, checkpoint=interrupted, resume=True, **options, **OPTIONS)


@pytest.mark.parametrize("damage", ["missing", "values", "shape"])
def test_damaged_masks_are_refused(interrupted, damage):
    from safetensors import safe_open

    with safe_open(interrupted, "numpy") as file:
        metadata = file.metadata()
    tensors = load_file(interrupted)
    name = f"mask.{MATRICES[0]}"
    if damage == "missing":
        del tensors[name]
    else:
        tensors[name] = tensors[name] * 2 if damage == "values" else tensors[name][:1]
    save_file(tensors, interrupted, metadata)
    with pytest.raises(
        rf.FileFormatError, match=r"masks of pruned weights are missing, have another shape, or are not zeros"
    ):
        rf.fit(model(), TEXT, epochs=3, sparsity=0.8, checkpoint=interrupted, resume=True, **OPTIONS)


def test_only_epochs_of_the_whole_sparsity_are_the_best():
    trained = model()
    history = rf.fit(trained, TEXT, TEXT, epochs=5, sparsity=0.9, keep_best=True, patience=1, **OPTIONS)
    assert history[0]["sparsity"] < 0.9
    assert (magnitudes(trained, MATRICES[0], (16, 1)) == 0).mean() == pytest.approx(0.9, abs=0.02)
    assert not np.array_equal(trained.parameters()[MATRICES[0]], model().parameters()[MATRICES[0]])


def test_networks_are_pruned_too():
    net = rf.Sequential(rf.LSTM(8, 32, bidirectional=True, seed=0), rf.Linear(64, 1, seed=1))
    x = np.random.default_rng(0).normal(size=(6, 40, 8)).astype(np.float32)
    rf.fit(net, (x, x[:, :, :1]), loss="mse", epochs=10, batch_size=10, sparsity=0.8, progress=False)
    zeros = {name: float((w == 0).mean()) for name, w in net.parameters().items() if "weight_" in name}
    assert all(share == pytest.approx(0.8, abs=0.05) for share in zeros.values()), zeros


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"sparsity": 1.0}, ValueError, "sparsity is 1.0, expected more than 0 and less than 1, or None"),
        ({"sparsity": math.nan}, ValueError, "sparsity is nan"),
        ({"sparsity": "much"}, TypeError, "sparsity is 'much', expected a number"),
        (
            {"sparsity": 0.5, "block": (8, 1)},
            ValueError,
            r"block is \(8, 1\), expected \(units, inputs\), units a multiple",
        ),
        ({"sparsity": 0.5, "block": (16, 0)}, ValueError, r"block is \(16, 0\)"),
        ({"sparsity": 0.5, "block": 16}, TypeError, r"block is 16, expected two integers, such as \(16, 1\)"),
    ],
)
def test_wrong_values_get_a_sentence(given, error, told):
    with pytest.raises(error, match=told):
        rf.fit(model(), TEXT, epochs=1, **given, **OPTIONS)


def test_a_model_without_recurrent_weights_cannot_be_pruned():
    with pytest.raises(ValueError, match="no recurrent weights to prune; give a model with an RNN, GRU or LSTM"):
        rf.fit(model(cell="sru"), TEXT, epochs=1, sparsity=0.5, **OPTIONS)
    assert sparsity_of(None, (16, 1)) is None


def test_the_command_prunes(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the time traveller for so it will be convenient to speak of him.\n" * 40)
    run = lambda *extra: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "rnnfast", "train", str(text), "--hidden-size", "32", "--epochs", "2", "--output", str(tmp_path / "m"), *extra],
        capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    done = run("--sparsity", "0.8", "--block", "16x4", "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    hidden = rf.load(tmp_path / "m").parameters()["rnn.weight_hh_l0"]
    assert (hidden == 0).mean() == pytest.approx(0.8, abs=0.05)
    assert "block is (8, 1), expected (units, inputs)" in run("--sparsity", "0.8", "--block", "8x1", "--force").stderr
    assert "'4' is not a block: expected units and inputs, such as 16x1" in run("--block", "4", "--force").stderr


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A pruned model and its file."""
    trained = model(embedding_size=16)
    rf.fit(trained, TEXT, epochs=2, sparsity=0.8, block=(16, 4), **OPTIONS)
    file = tmp_path_factory.mktemp("pruned") / "model.safetensors"
    trained.save(file)
    return trained, file


def contents(file):
    from safetensors import safe_open

    with safe_open(file, "numpy") as opened:
        return load_file(file), opened.metadata()


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
def test_a_file_has_no_zero_blocks_and_gives_the_same_bits(pruned, tmp_path, weights):
    trained, _ = pruned
    file, whole = tmp_path / "model.safetensors", tmp_path / "whole.safetensors"
    trained.save(file, weights=weights)
    model(embedding_size=16).save(whole, weights=weights)
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"]["format_version"] == "3"
    assert json.loads(header["__metadata__"]["sparse"])[MATRICES[0]] == [128, 32]
    assert header[f"{MATRICES[0]}.blocks"]["shape"][1:] == [16, 4]
    assert MATRICES[0] not in header
    assert header[f"{MATRICES[0]}.index"]["dtype"] == "I8"
    assert file.stat().st_size < 0.7 * whole.stat().st_size
    loaded = rf.load(file)
    assert loaded.config["weights"] == weights
    ids = TEXT.ids[:20, None]
    expected = rf.LanguageModel(
        TEXT.vocab, **{k: v for k, v in trained.config.items() if k not in ("vocab_size", "weights")}, weights=weights
    )
    expected.load_state_dict(trained.state_dict())
    assert loaded.step(ids[0])[0].tobytes() == expected.step(ids[0])[0].tobytes()
    if weights == "f32":
        assert all(w.tobytes() == loaded.parameters()[n].tobytes() for n, w in trained.parameters().items())


def index_of(tensors):
    return tensors[f"{MATRICES[0]}.index"]


def shape(metadata, value):
    shapes = json.loads(metadata["sparse"])
    shapes[MATRICES[0]] = value
    metadata["sparse"] = json.dumps(shapes)


HOSTILE = [
    ("its blocks or their index are missing", lambda t, m: t.pop(f"{MATRICES[0]}.index")),
    ("the file has the whole matrix too", lambda t, m: t.update({MATRICES[0]: np.zeros((128, 32), np.float32)})),
    ("expected two dimensions", lambda t, m: shape(m, [128])),
    ("expected two dimensions", lambda t, m: shape(m, [0, 32])),
    ("expected two dimensions", lambda t, m: shape(m, 7)),
    ("its shape is not one of whole blocks", lambda t, m: shape(m, [120, 32])),
    ("its shape is not one of whole blocks", lambda t, m: shape(m, [128, 30])),
    ("it would be far larger than its file", lambda t, m: shape(m, [1 << 40, 32])),
    ("it would be far larger than its file", lambda t, m: shape(m, [1 << 62, 1 << 62])),
    ("its index is not I8, with a bit for every block", lambda t, m: shape(m, [256, 32])),
    ("its index has bits beyond its blocks", lambda t, m: shape(m, [128, 4])),
    ("its index has another number of blocks than the file", lambda t, m: index_of(t).__setitem__(0, 0)),
    ("its index is not I8", lambda t, m: t.update({f"{MATRICES[0]}.index": index_of(t).astype(np.uint8)})),
    (
        "its blocks are not F32, BF16 or I8",
        lambda t, m: t.update({f"{MATRICES[0]}.blocks": t[f"{MATRICES[0]}.blocks"].astype(np.float16)}),
    ),
    ("the shapes of its sparse matrices cannot be read", lambda t, m: m.update(sparse="{")),
    ("the weights rnn.weight_ih_l0 are missing", lambda t, m: m.pop("sparse")),
]


@pytest.mark.parametrize(("told", "damage"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_damaged_sparse_matrix_is_refused_in_one_sentence(pruned, tmp_path, told, damage):
    tensors, metadata = contents(pruned[1])
    damage(tensors, metadata)
    file = tmp_path / "model.safetensors"
    save_file(tensors, file, metadata)
    with pytest.raises(rf.FileFormatError) as error:
        rf.load(file)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_networks_and_translators_have_sparse_files(tmp_path):
    net = rf.Sequential(rf.GRU(8, 32, seed=0), rf.Linear(32, 1, seed=1))
    x = np.random.default_rng(0).normal(size=(6, 40, 8)).astype(np.float32)
    rf.fit(net, (x, x[:, :, :1]), loss="mse", epochs=10, batch_size=10, sparsity=0.8, progress=False)
    net.save(file := tmp_path / "net.safetensors")
    assert "0.weight_hh_l0.blocks" in contents(file)[0]
    assert rf.load(file)(x).tobytes() == net(x).tobytes()


BITS = """
import hashlib, sys
import numpy as np
import rnnfast as rf

rng, found = np.random.default_rng(0), {}
for cell in sorted(rf.nn.LAYERS):
    for weights in ("f32", "bf16", "int8"):
        for inputs in (1, 4):
            layer = rf.nn.LAYERS[cell](48, 48, seed=0, weights=weights)
            state = layer.state_dict()
            for name, w in state.items():
                if w.ndim == 2:
                    kept = rng.random((w.shape[0] // 16, 48 // inputs)) < 0.2
                    state[name] = w * np.kron(kept, np.ones((16, inputs), np.float32))
            layer.load_state_dict(state)
            x = rng.normal(size=(5, 20, 48)).astype(np.float32)
            rf.set_num_threads(1)
            y = layer(x)[0]  # 20 rows: with all blocks
            for threads in (1, 2, 3):
                rf.set_num_threads(threads)
                few = layer(x[:, :2])[0]
                assert few.tobytes() == np.ascontiguousarray(y[:, :2]).tobytes(), (cell, weights, inputs, threads)
                for rows in (1, 3):
                    stream = layer.stream(rows)
                    steps = np.stack([stream(row) for row in x[:, :rows]])
                    assert steps.tobytes() == np.ascontiguousarray(y[:, :rows]).tobytes(), (cell, weights, inputs, rows)
            found[cell, weights, inputs] = hashlib.sha256(y.tobytes()).hexdigest()
print(hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest())
"""


def bits(isa):
    environment = {**os.environ, "RNNFAST_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", BITS], env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("isa", rf.info()["isas_supported"])
def test_streams_leave_zero_blocks_out_with_the_bits_of_batches(isa):
    same = {"avx2", "avx512", "avx512_bf16", "neon"} & set(rf.info()["isas_supported"])
    found = bits(isa)
    if isa in same:
        assert found == bits(sorted(same)[0])
