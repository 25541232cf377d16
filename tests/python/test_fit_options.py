"""Schedules, early stopping, the best weights, callbacks and their records."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stopping import Enough, StopAt

import rnnfast as rf
from rnnfast.train.schedules import Constant, Cosine, ReduceOnPlateau, StepDecay, schedule_named

OPTIONS = {"batch_size": 4, "num_steps": 10, "lr": 1e-2, "progress": False}


def small(corpus, cell="rnn", seed=0, **options):
    return rf.LanguageModel(corpus.vocab, cell=cell, hidden_size=24, seed=seed, **options)


def rates(corpus, schedule, epochs, valid=None):
    seen = []

    class Note(rf.Callback):
        def on_step(self, record):
            seen.append(record["lr"])

    optimizer_lr = 0.5
    rf.fit(
        small(corpus), corpus, valid, epochs=epochs, optimizer="sgd", schedule=schedule, callbacks=[Note()],
        **{**OPTIONS, "lr": optimizer_lr},
    )  # fmt: skip
    return np.array(seen).reshape(epochs, -1)


def test_the_learning_rate_follows_the_schedule(corpus):
    assert (rates(corpus, "constant", 2) == 0.5).all()
    step = rates(corpus, StepDecay(decay=0.5, start=1), 3)
    assert [set(row) for row in step] == [{0.5}, {0.25}, {0.125}]
    cosine = rates(corpus, "cosine:warmup=1,end=0.1", 4)
    steps = cosine.shape[1]
    np.testing.assert_allclose(cosine[0], 0.5 * np.arange(steps) / steps)
    assert (np.diff(cosine[1:].ravel()) < 0).all()
    assert cosine[-1, -1] == pytest.approx(0.05, rel=0.01)


def test_the_zaremba_preset_has_the_schedule_of_the_paper():
    small_model, medium = StepDecay(0.5, start=4), StepDecay(1 / 1.2, start=6)
    assert [small_model.factor(e, 13, ()) for e in range(6)] == [1, 1, 1, 1, 0.5, 0.25]
    assert medium.factor(38.9, 39, ()) == pytest.approx(1.2**-33)


def test_a_plateau_lowers_the_learning_rate_when_patience_ends():
    plan = ReduceOnPlateau(decay=0.1, patience=1, threshold=0.01, least=0.05)
    factors = [plan.factor(0, 9, [100, 99.5, 99.4, 50, 50, 50, 50][:n]) for n in range(8)]
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.05, 0.05])


def test_fit_lowers_the_rate_on_a_plateau(corpus):
    train, valid = corpus.split(0.9, 0.1)
    model = small(train)
    history = rf.fit(model, train, valid, epochs=6, optimizer="sgd", schedule="plateau:decay=0.5", **OPTIONS)
    plan = ReduceOnPlateau(decay=0.5)
    seen = history.column("valid_perplexity")
    for epoch, record in enumerate(history):
        assert record["lr"] == pytest.approx(1e-2 * plan.factor(epoch, 6, seen[:epoch]))


@pytest.mark.parametrize("schedule", ["step:start=1", "cosine:warmup=1", "plateau"])
def test_resuming_repeats_schedule_best_weights_and_patience_bit_identically(corpus, tmp_path, schedule):
    train, valid = corpus.split(0.9, 0.1)
    options = {**OPTIONS, "epochs": 4, "schedule": schedule, "keep_best": True, "patience": 2, "lr": 0.05}
    reference = small(corpus, "lstm", dropout=0.2)
    expected = rf.fit(reference, train, valid, **options)
    file = tmp_path / "run.safetensors"

    steps = reference.steps
    for at in (steps // 3, 2 * steps // 3):
        with pytest.raises(Enough):
            rf.fit(
                small(corpus, "lstm", dropout=0.2), train, valid, **options, checkpoint=file, checkpoint_every=0,
                resume=file.exists(), callbacks=[StopAt(at)],
            )  # fmt: skip
    resumed = small(corpus, "lstm", dropout=0.2)
    history = rf.fit(resumed, train, valid, **options, checkpoint=file, resume=True)
    assert history.stopped == expected.stopped
    for mine, other in zip(history, expected):
        assert {k: v for k, v in mine.items() if "second" not in k} == {
            k: v for k, v in other.items() if "second" not in k
        }
    for name, value in reference.state_dict().items():
        assert np.array_equal(resumed.state_dict()[name], value), name
    with pytest.raises(ValueError, match="resume with the same settings"):
        rf.fit(resumed, train, valid, **{**options, "keep_best": False}, checkpoint=file, resume=True)


def test_training_stops_early_and_the_best_weights_stay(corpus):
    train, valid = corpus.split(0.9, 0.1)
    ids = np.random.default_rng(0).integers(1, 20, 300).astype(np.int32)  # noise: only overfitting can be learnt
    model = small(corpus)
    history = rf.fit(model, ids[:200], ids[200:], epochs=60, patience=3, keep_best=True, **{**OPTIONS, "lr": 0.05})
    assert len(history) < 60
    assert history.stopped.startswith("no lower validation perplexity for 3 epochs after epoch")
    assert history[-1]["epoch"] - history.best["epoch"] == 3
    assert rf.evaluate(model, ids[200:]).perplexity == history.best["valid_perplexity"]
    assert rf.fit(small(corpus), train, valid, epochs=2, patience=3, **OPTIONS).stopped is None


def test_a_run_that_a_callback_stopped_stays_stopped(corpus, tmp_path):
    class Ends(rf.Callback):
        def on_epoch(self, record, model):
            return "seen enough" if record["epoch"] == 2 else None

    options = {**OPTIONS, "epochs": 4, "checkpoint": tmp_path / "run.safetensors"}
    rf.fit(model := small(corpus), corpus, callbacks=[Ends()], **options)
    again = rf.fit(resumed := small(corpus), corpus, resume=True, **options)
    assert (len(again), again.stopped) == (2, "seen enough")
    assert resumed.steps == model.steps
    for name, value in model.state_dict().items():
        assert np.array_equal(resumed.state_dict()[name], value), name


def test_a_callback_sees_steps_and_epochs_and_may_stop(corpus):
    class Look(rf.Callback):
        def __init__(self):
            self.steps, self.epochs, self.ends = [], [], 0

        def on_step(self, record):
            self.steps.append(record)

        def on_epoch(self, record, model):
            self.epochs.append((record["epoch"], model))
            return "seen enough" if record["epoch"] == 2 else None

        def on_end(self):
            self.ends += 1

    look, model = Look(), small(corpus)
    history = rf.fit(model, corpus, epochs=5, callbacks=[look], **OPTIONS)
    assert history.stopped == "seen enough"
    assert look.epochs == [(1, model), (2, model)]
    assert look.ends == 1
    assert [r["step"] for r in look.steps] == list(range(1, model.steps + 1))
    half = len(look.steps) // 2
    mean = np.mean([r["grad_norm"] for r in look.steps[:half]])
    assert history[0]["grad_norm"] == pytest.approx(mean, rel=0.05)  # epochs may differ by a step


def test_the_share_of_clipped_steps_is_counted(corpus):
    assert rf.fit(small(corpus), corpus, epochs=1, **OPTIONS, clip_norm=1e-6)[0]["clipped"] == 1
    assert rf.fit(small(corpus), corpus, epochs=1, **OPTIONS, clip_norm=None)[0]["clipped"] == 0
    assert rf.fit(small(corpus), corpus, epochs=1, **OPTIONS, clip_norm=None, clip_value=1e-9)[0]["clipped"] == 1
    assert rf.fit(small(corpus), corpus, epochs=1, **OPTIONS, clip_norm=None, clip_value=1e3)[0]["clipped"] == 0


def test_clipping_by_value_limits_each_gradient(corpus):
    model = small(corpus)
    before = model.state_dict()
    ids = corpus.ids[:41]
    rf.fit(model, ids, epochs=1, optimizer="sgd", batch_size=4, num_steps=10, lr=1.0, clip_norm=None, clip_value=1e-3)
    moved = max(np.abs(model.state_dict()[n] - before[n]).max() for n in before)
    assert 0.9e-3 < moved < 1.1e-3


def test_tensorboard_reads_its_event_files_back(corpus, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = rf.fit(small(corpus), corpus, epochs=3, callbacks=[rf.TensorBoard(tmp_path / "run", every=5)], **OPTIONS)
    events = accumulator.EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    curve = events.Scalars("epoch/train_perplexity")
    assert [point.step for point in curve] == [1, 2, 3]
    assert [point.value for point in curve] == pytest.approx(history.column("train_perplexity"))
    assert [point.step for point in events.Scalars("step/grad_norm")][:3] == [5, 10, 15]


def test_event_files_have_the_format_tensorflow_documents(tmp_path):
    from rnnfast.train.tensorboard import EventWriter, _masked_crc, crc32c

    assert crc32c(b"123456789") == 0xE3069283  # the check value of Castagnoli's CRC
    writer = EventWriter(tmp_path)
    writer.scalars({"a": 1.5}, 300)
    writer.close()
    (file,) = tmp_path.iterdir()
    data, records = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert data[8:12] == _masked_crc(data[:8])
        records.append(data[12 : 12 + length])
        assert data[12 + length : 16 + length] == _masked_crc(records[-1])
        data = data[16 + length :]
    assert records[0][11:] == b"\x1a\x0dbrain.Event:2"
    assert records[1][9:12] == b"\x10\xac\x02"  # step 300 as a varint
    assert records[1][12:] == b"\x2a\x0a\x0a\x08\x0a\x01a\x15" + struct.pack("<f", 1.5)


def test_the_history_knows_its_best_epoch():
    history = rf.History([{"epoch": e, "train_perplexity": 9 - e, "valid_perplexity": v} for e, v in ((1, 5), (2, 7))])
    assert history.best["epoch"] == 1
    assert history.column("valid_perplexity") == [5, 7]
    with pytest.raises(ValueError, match="no epoch has finished"):
        _ = rf.History().best


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: schedule_named("sine"), "expected one of constant, step, cosine, onecycle, plateau"),
        (lambda: schedule_named("step:decay=0.5,begin=3"), "no option 'begin': it has decay, start, every"),
        (lambda: schedule_named("step:decay=fast"), "decay of schedule 'step' is 'fast'"),
        (lambda: schedule_named("constant:x=1"), "it has none"),
        (lambda: StepDecay(decay=0), "decay is 0"),
        (lambda: StepDecay(every=0), "at least 0 and 1"),
        (lambda: Cosine(warmup=math.nan), "warmup and end are nan"),
        (lambda: Cosine(warmup=5).check(5), "does not end in 5"),
        (lambda: ReduceOnPlateau(decay=1.0), "less than 1"),
        (lambda: ReduceOnPlateau(patience=-1), "patience, threshold and least are -1"),
        (lambda: rf.TensorBoard("x", every=0), "every is 0"),
    ],
)
def test_bad_schedules_are_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"schedule": "plateau"}, "give valid"),
        ({"patience": 2}, "give valid"),
        ({"keep_best": True}, "give valid"),
        ({"patience": 0}, "patience is 0"),
        ({"clip_value": -1.0}, "clip_value is -1"),
        ({"schedule": "cosine:warmup=2", "epochs": 2}, "warm-up of 2.0 epochs does not end in 2"),
    ],
)
def test_bad_options_are_named(corpus, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        rf.fit(small(corpus), corpus, **{**OPTIONS, **options})


def test_a_constant_schedule_is_the_same_everywhere():
    assert {Constant().factor(p, 9, ()) for p in (0, 3.5, 9)} == {1.0}


def trained_beside_pytorch(*options):
    """The records of ``benchmarks.ptb_pytorch`` for each epoch and at the end."""
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "benchmarks.ptb_pytorch", "--batches", "4", "--threads", "1", *options]
    told = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


@pytest.mark.slow
def test_pytorch_learns_the_same_from_a_preset_alone_and_in_turns(data_folder):
    epoch, test = trained_beside_pytorch("--epochs", "1")
    for kind in ("train", "valid"):
        ours, theirs = epoch[f"rnnfast_{kind}_perplexity"], epoch[f"torch_{kind}_perplexity"]
        assert ours == pytest.approx(theirs, rel=1e-2)  # the first steps at this rate magnify rounding
    assert test["rnnfast_test_perplexity"] == pytest.approx(test["torch_test_perplexity"], rel=1e-2)
    assert epoch["ratio"] > 0
    for name, tolerance in (("rnnfast", 0.0), ("torch", 1e-3)):  # PyTorch does not promise the same bits twice
        records = trained_beside_pytorch("--epochs", "1", "--only", name)
        assert not [key for record in records for key in record if key.split("_")[0] not in (name, "epoch", "lr")]
        for alone, beside in zip(records, (epoch, test)):
            perplexities = {key: value for key, value in alone.items() if key.endswith("_perplexity")}
            assert perplexities
            assert perplexities == pytest.approx({key: beside[key] for key in perplexities}, rel=tolerance, abs=0.0)


@pytest.mark.parametrize("name", ["rnnfast", "torch"])
def test_a_plateau_schedule_follows_the_program_that_trains_alone(data_folder, name):
    *epochs, _ = trained_beside_pytorch("--preset", "mikolov", "--epochs", "6", "--only", name)
    seen = [epoch[f"{name}_valid_perplexity"] for epoch in epochs]
    plan = schedule_named(rf.presets.load("mikolov")["schedule"])
    assert [epoch["lr"] for epoch in epochs] == [2.0 * plan.factor(e, 20, seen[:e]) for e in range(6)]
    assert epochs[-1]["lr"] < 2.0  # four batches an epoch at this rate do not get better for long
