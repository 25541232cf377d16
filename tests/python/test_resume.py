"""Checkpoints: what a resumed run keeps, what it may change, and which files are refused."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stopping import Enough, StopAt

import rnnfast as rf
from rnnfast import _core
from rnnfast.text.mapped import write_ids
from rnnfast.train import Interrupted
from rnnfast.train.checkpoint import fingerprint, read_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoint_v1.safetensors"
GOLDEN_TEXT = "a time for all, a tale of late hats.\n" * 24
OPTIONS = {"batch_size": 4, "num_steps": 10, "progress": False}
TEXT = rf.Corpus.from_text("the time traveller for so it will be convenient to speak of him.\n" * 4)
TRAIN, VALID = TEXT.split(0.8, 0.2)


def small(cell="rnn", seed=0, corpus=TEXT, **options):
    return rf.LanguageModel(corpus.vocab, cell=cell, hidden_size=6, seed=seed, **options)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The checkpoint of a run that was interrupted in its second epoch."""
    file = tmp_path_factory.mktemp("begun") / "run.safetensors"
    with pytest.raises(Enough):
        rf.fit(
            small(), TRAIN, VALID, epochs=3, checkpoint=file, callbacks=[StopAt(8)], keep_best=True, patience=3, **OPTIONS
        )  # fmt: skip
    return file


def resume(file, model=None, train=TRAIN, valid=VALID, **options):
    model = model or small()
    same = {"epochs": 3, "keep_best": True, "patience": 3, **OPTIONS}
    return rf.fit(model, train, valid, checkpoint=file, resume=True, **{**same, **options})


def same_weights(one, two):
    return all(np.array_equal(two.state_dict()[name], value) for name, value in one.state_dict().items())


OTHER = rf.Corpus(TRAIN.ids[::-1].copy(), TRAIN.vocab)


@pytest.mark.fault("N9")
@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"train": OTHER}, "train is one text, in the checkpoint another one; resume with the same settings"),
        ({"valid": OTHER}, "valid is one text, in the checkpoint another one"),
        ({"batch_size": 5}, "batch_size is 5, in the checkpoint 4"),
        ({"num_steps": 9}, "num_steps is 9, in the checkpoint 10"),
        ({"sampling": "random"}, "sampling is 'random', in the checkpoint 'sequential'"),
        ({"seed": 1}, "seed is 1, in the checkpoint 0"),
        ({"optimizer": "sgd"}, "optimizer is 'SGD', in the checkpoint 'Adam'"),
        ({"betas": (0.8, 0.999)}, "beta1 is 0.8, in the checkpoint 0.9"),
        ({"eps": 1e-6}, "epsilon is 1e-06, in the checkpoint 1e-08"),
        ({"weight_decay": 0.1}, "weight_decay is 0.1, in the checkpoint 0.0"),
        ({"clip_norm": None}, "clip_norm is None, in the checkpoint 1.0"),
        ({"clip_norm": 0.5, "clip_value": 0.1}, "clip_norm is 0.5, in the checkpoint 1.0; clip_value is 0.1, in the"),
        ({"schedule": "cosine"}, r"schedule is 'Cosine\(warmup=0.0, end=0.0\)', in the checkpoint 'Constant\(\)'"),
        ({"keep_best": False}, "keep_best is False, in the checkpoint True"),
        ({"model": small().requires_grad_(False, "output.bias")}, "frozen is"),
        ({"model": small(seed=1)}, "seed is 1, in the checkpoint 0; resume the same model"),
        ({"model": small("lstm", dropout=0.5)}, "cell is 'lstm', in the checkpoint 'rnn'; dropout is 0.5"),
        ({"epochs": 1}, "is in epoch 2, but epochs is 1; give at least as many"),
    ],
)
def test_what_would_change_the_run_is_refused_by_name(begun, changed, sentence):
    adam = {name: changed.pop(name) for name in ("betas", "eps", "weight_decay") if name in changed}
    model = changed.setdefault("model", small())
    before = model.state_dict()
    if adam:
        changed["optimizer"] = rf.Adam(model, lr=2e-3, **adam)
    with pytest.raises(ValueError, match=sentence):
        resume(begun, **changed)
    assert model.steps == 0
    assert all(np.array_equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.fault("N9")
def test_a_vocabulary_with_other_tokens_is_refused(begun):
    tokens = TEXT.vocab.idx_to_token
    vocab = rf.Vocab.from_list([tokens[0], tokens[2], tokens[1], *tokens[3:]])
    train, valid = (rf.Corpus(text.ids, vocab) for text in (TRAIN, VALID))
    with pytest.raises(
        ValueError, match="the tokens of vocab differ from those in the checkpoint; resume the same model"
    ):
        resume(begun, small(corpus=train), train, valid)


@pytest.mark.fault("N9")
def test_learning_rate_epochs_and_patience_may_change_and_the_change_is_printed_and_kept(begun, tmp_path, capsys):
    file = tmp_path / "run.safetensors"
    file.write_bytes(begun.read_bytes())
    history = resume(file, lr=0.5, epochs=4, patience=9, progress=None)
    note = "resumed in epoch 2 with lr 0.5 (0.002 before), epochs 4 (3 before), patience 9 (3 before)"
    assert history.notes == [note]
    assert note in capsys.readouterr().err
    assert history.column("lr") == [2e-3, 0.5, 0.5, 0.5]
    again = resume(file, epochs=4, patience=9)  # without lr, the checkpoint's learning rate continues
    assert (again.notes, again.column("lr")) == (history.notes, history.column("lr"))


def test_a_run_resumes_bit_identically_wherever_its_checkpoint_was_moved(begun, tmp_path):
    reference = small()
    expected = rf.fit(reference, TRAIN, VALID, epochs=3, keep_best=True, patience=3, **OPTIONS)
    file = tmp_path / "elsewhere.safetensors"
    file.write_bytes(begun.read_bytes())
    model = small()
    history = resume(file, model)
    assert same_weights(reference, model)
    assert history.column("valid_perplexity") == expected.column("valid_perplexity")
    assert history.notes == []


def test_a_checkpoint_that_version_0_1_wrote_still_resumes(tmp_path):
    file = tmp_path / "run.safetensors"
    file.write_bytes(GOLDEN.read_bytes())
    train, valid, _ = rf.Corpus.from_text(GOLDEN_TEXT).split(0.9, 0.05, 0.05)
    model = small("lstm", corpus=train)
    options = {"batch_size": 4, "num_steps": 8, "keep_best": True, "patience": 2, "progress": False, "epochs": 3}
    history = rf.fit(model, train, valid, checkpoint=file, resume=True, **options)
    assert history.column("lr") == [0.02] * 3
    assert history.column("valid_perplexity") == pytest.approx([9.291713411, 5.867069970, 3.958709027], rel=1e-3)
    total = sum(float(value.sum()) for value in model.state_dict().values())
    assert total == pytest.approx(89.517585754, rel=1e-3)


def test_texts_that_differ_in_any_id_are_distinguished():
    ids = np.arange(3_000_000) % 50
    other = ids.copy()
    other[2_500_000] += 1
    prints = {fingerprint(text) for text in (ids, other, ids[:-1], None)}
    assert len(prints) == 4
    assert fingerprint(ids.astype(np.int32)) == fingerprint(ids) == fingerprint(rf.Corpus(ids, rf.Vocab.from_list(
        ["<unk>", *map(str, range(49))], tokenizer="word")))  # fmt: skip
    pairs = [rf.ParallelCorpus.from_pairs([("a b", text)], tokenizer="word") for text in ("c d", "d c")]
    assert fingerprint(pairs[0]) != fingerprint(pairs[0][[0, 0]])


def test_a_text_larger_than_memory_is_read_in_pieces(tmp_path):
    """4 million ids in a file: neither the checks, nor the fingerprint, nor training hold as much as half of them as int32."""
    ids = (np.arange(4_000_000) % (len(TEXT.vocab) - 1) + 1).astype(np.int32)
    write_ids(tmp_path / "text.ids", TEXT.vocab, [ids])
    train = rf.Corpus.from_memory_map(tmp_path / "text.ids")
    weights = []
    for corpus in (train, rf.Corpus(ids, TEXT.vocab)):
        model = small()
        tracemalloc.start()
        with pytest.raises(Enough):
            rf.fit(model, corpus, VALID, checkpoint=tmp_path / "run", callbacks=[StopAt(3)], **OPTIONS)
        if corpus is train:
            assert tracemalloc.get_traced_memory()[1] < ids.nbytes / 2
        tracemalloc.stop()
        weights.append(model)
    assert same_weights(*weights)


def written(file, place=None, tensors=None, drop=()):
    """A copy of the checkpoint with parts of its JSON and tensors replaced."""
    held, metadata = _core.read_safetensors(str(file))
    told = {k: v for k, v in {**json.loads(metadata["checkpoint"]), **(place or {})}.items() if k not in drop}
    copy = file.with_name("hostile.safetensors")
    metadata["checkpoint"] = json.dumps(told)
    _core.write_safetensors(str(copy), {**held, **(tensors or {})}, metadata)
    return copy


HOSTILE = [
    ({"lr": 1e308}, "lr is 1e\\+308, expected a number from 0 to 3.4e\\+38"),
    ({"lr": -1e-3}, "lr is -0.001"),
    ({"lr": True}, "lr is True"),
    ({"tokens": -0.5}, "tokens is -0.5, expected an integer of at least 0"),
    ({"tokens": 2**80}, "tokens is 1208925819614629174706176"),
    ({"clipped": "a"}, "clipped is 'a'"),
    ({"clipped": 10**6}, "more clipped steps than steps"),
    ({"epoch": "\x00"}, r"epoch is '\\x00'"),
    ({"epoch": 7}, "the history does not have one record for each of 7 epochs"),
    ({"epoch": 2**40}, "the history does not have one record for each of 1099511627776 epochs"),
    ({"batch": 0}, "this epoch has tokens or a loss, but no step"),
    ({"batch": 70, "tokens": 70}, "beyond the last batch of epoch 2"),
    ({"batch": 2**40, "tokens": 2**40}, "beyond the last batch of epoch 2"),
    ({"stopped": math.inf}, "stopped is inf, expected a sentence or null"),
    ({"stopped": ""}, "stopped is ''"),
    ({"nll": math.nan}, "nll is nan, expected a finite number"),
    ({"norms": -1}, "norms is -1"),
    ({"steps": 1.5}, "steps is 1.5"),
    ({"optimizer": 3}, "optimizer is 3"),
    ({"reading": [1]}, r"reading is \[1\]"),
    ({"rules": {"keep_best": {}}}, "rules is"),
    ({"history": [3]}, r"history is \[3\]"),
    ({"history": {}}, "history is {}"),
    ({"notes": [1]}, "notes is"),
    ({"patience": -1}, "patience is -1"),
]


@pytest.mark.fault("R2")
@pytest.mark.parametrize(("place", "sentence"), HOSTILE)
def test_a_hostile_checkpoint_is_refused_in_one_sentence_and_changes_nothing(begun, place, sentence):
    check_refused(written(begun, place), sentence)


@pytest.mark.fault("R2")
@pytest.mark.parametrize("name", ["epoch", "batch", "tokens", "clipped", "nll", "norms", "history", "steps", "lr"])
def test_a_checkpoint_that_lacks_something_is_refused(begun, name):
    check_refused(written(begun, drop=[name]), f"damaged: {name} is missing")


@pytest.mark.fault("R2")
@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"state.0": np.zeros((1, 5, 6), np.float32)}, "the hidden state has shapes"),
        ({"state.1": np.zeros((1, 4, 6), np.float32)}, "the hidden state has shapes"),
        (
            {"best.output.bias": np.zeros(3, np.float32)},
            "the weights of the best epoch are missing, have another shape",
        ),
        ({"optimizer.first.output.bias": np.zeros(3, np.float32)}, "optimizer"),
        ({"optimizer.steps": np.array([-1, 0, 0], np.float32)}, "steps"),
        ({"optimizer.steps": np.array([0.5, 0, 0], np.float32)}, "steps"),
        ({"optimizer.third": np.zeros(3, np.float32)}, "optimizer"),
        (
            {"optimizer.second.output.bias": np.full(len(TEXT.vocab), -1, np.float32)},
            "second.output.bias of the optimizer, a mean of squares",
        ),
        ({"other": np.zeros(3, np.float32)}, "'other' is not part of a checkpoint"),
    ],
)
def test_hostile_tensors_are_refused_in_one_sentence_and_change_nothing(begun, tensors, sentence):
    check_refused(written(begun, tensors=tensors), sentence)


def check_refused(file, sentence):
    model = small(seed=0)
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    optimizer = rf.Adam(model, lr=2e-3)
    before, state = model.state_dict(), optimizer.state_dict()
    with pytest.raises(ValueError, match=sentence) as caught:
        resume(file, model, optimizer=optimizer)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert model.steps == 0
    assert optimizer.lr == 2e-3
    assert all(np.array_equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(np.array_equal(optimizer.state_dict()[name], value) for name, value in state.items())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.fault("R2")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), value=JSON, row=st.booleans())
@example(place=3, value={"a": 10**400}, row=False)
def test_any_change_to_a_checkpoint_s_json_is_read_or_refused_in_one_sentence(begun, place, value, row):
    _, metadata = _core.read_safetensors(str(begun))
    told = json.loads(metadata["checkpoint"])
    part = told["history"][0] if row else told
    part[sorted(part)[place % len(part)]] = value
    try:
        found = read_checkpoint(written(begun, told))
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
    assert "\n" not in refused
    assert len(refused) < 400
    if refused:
        return
    assert json.dumps(found.place)
    assert found.place["epoch"] == 1
    assert 0 <= found.place["lr"] < math.inf


def interrupting(event, number=signal.SIGINT):
    """A callback or a function that sends this process a signal at the moment that is called ``event``."""

    class Send(rf.Callback):
        def on_epoch(self, record, model):
            if event == "callback" and record["epoch"] == 2:
                os.kill(os.getpid(), number)

    def on_epoch(record):
        if event == "on_epoch" and record["epoch"] == 2:
            os.kill(os.getpid(), number)

    return {"callbacks": [Send()], "on_epoch": on_epoch}


@pytest.mark.fault("R1", "N12")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("event", ["evaluate", "callback", "on_epoch", "save", "best"])
def test_a_signal_at_the_end_of_the_last_epoch_is_not_swallowed(tmp_path, monkeypatch, event, number):
    file, model = tmp_path / "run.safetensors", small()
    module = sys.modules["rnnfast.train.objective"]
    evaluate, save, load_state_dict, calls = module.evaluate, model.save, model.load_state_dict, []

    def sending(name, function, at):
        def call(*args, **kwargs):
            calls.append(name)
            if event == name and calls.count(name) == at:
                os.kill(os.getpid(), number)
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(module, "evaluate", sending("evaluate", evaluate, 2))
    model.save = sending("save", save, 2)
    model.load_state_dict = sending("best", load_state_dict, 1)
    before = signal.getsignal(number)
    options = {**OPTIONS, "epochs": 2, "keep_best": True, "lr": 0.05}
    with pytest.raises(Interrupted) as caught:
        rf.fit(model, TRAIN, VALID, checkpoint=file, **options, **interrupting(event, number))
    assert signal.getsignal(number) is before
    assert (caught.value.number, caught.value.checkpoint) == (number, file)
    assert caught.value.history.column("epoch") == [1, 2]
    assert rf.evaluate(model, VALID).perplexity == caught.value.history.best["valid_perplexity"]
    resumed = rf.fit(small(), TRAIN, VALID, checkpoint=file, resume=True, **options)
    assert resumed.records == caught.value.history.records


@pytest.mark.fault("R1")
def test_a_signal_counts_even_when_a_callback_raises(tmp_path):
    class Send(rf.Callback):
        def on_epoch(self, record, model):
            os.kill(os.getpid(), signal.SIGINT)
            raise Enough

    with pytest.raises(Interrupted) as caught:
        rf.fit(small(), TRAIN, epochs=2, callbacks=[Send()], **OPTIONS)
    assert isinstance(caught.value.__cause__, Enough)


@pytest.mark.fault("R1")
def test_a_second_ctrl_c_does_not_wait_and_an_ignored_signal_stays_ignored(tmp_path):
    class Send(rf.Callback):
        def __init__(self):
            self.seen = 0

        def on_step(self, record):
            os.kill(os.getpid(), signal.SIGINT)
            self.seen += 1
            os.kill(os.getpid(), signal.SIGINT)
            self.seen += 1

    send, before = Send(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        rf.fit(small(), TRAIN, epochs=2, callbacks=[send], **OPTIONS)
    assert not isinstance(caught.value, Interrupted)
    assert send.seen == 1
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        rf.fit(small(), TRAIN, epochs=1, callbacks=[send], **OPTIONS)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.fault("N12")
@pytest.mark.parametrize("end", ["interrupt", "nan", "callback"])
def test_the_best_weights_stay_however_training_ends(tmp_path, end):
    model, best = small(), {}

    class Spoil(rf.Callback):
        def on_step(self, record):
            if record["step"] == 30:
                if end == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)
                elif end == "nan":
                    model.loss = lambda *_: (math.nan, None)
                else:
                    raise Enough

        def on_epoch(self, record, model):
            if record["valid_perplexity"] < best.get("perplexity", math.inf):
                best.update(perplexity=record["valid_perplexity"], weights=model.state_dict())

    kinds = {"interrupt": Interrupted, "nan": rf.NonFiniteLoss, "callback": Enough}
    with pytest.raises(kinds[end]) as caught:
        rf.fit(model, TRAIN, VALID, epochs=50, keep_best=True, callbacks=[Spoil()], **OPTIONS, lr=0.3)
    assert all(np.array_equal(model.state_dict()[name], value) for name, value in best["weights"].items())
    if end != "callback":
        assert caught.value.history.best["valid_perplexity"] == best["perplexity"]
        assert len(caught.value.history) >= 3


@pytest.mark.fault("N8")
def test_an_optimizer_of_another_model_is_refused():
    model = small()
    with pytest.raises(ValueError, match="made for another model"):
        rf.fit(model, TRAIN, optimizer=rf.Adam(small()), **OPTIONS)
    with pytest.raises(TypeError, match=r"optimizer is the class Adam; give Adam\(model\) or its name"):
        rf.fit(model, TRAIN, optimizer=rf.Adam, **OPTIONS)
    with pytest.raises(TypeError, match="optimizer is an int, expected a name"):
        rf.fit(model, TRAIN, optimizer=3, **OPTIONS)
    with pytest.raises(ValueError, match="lr is 0.1, but the optimizer has its own, 0.001"):
        rf.fit(model, TRAIN, optimizer=rf.Adam(model), lr=0.1, **OPTIONS)
    assert model.steps == 0


@pytest.mark.fault("N2")
def test_ids_outside_the_vocabulary_are_found_before_the_first_epoch():
    size = len(TEXT.vocab)
    bad = TRAIN.ids.copy()
    bad[20] = size
    for texts in (
        (bad, VALID),
        (TRAIN, bad),
        (TRAIN, -TRAIN.ids.astype(np.int64)),
        (TRAIN.ids.astype(np.int64) + 2**32, VALID),
    ):
        model = small()
        with pytest.raises((ValueError, IndexError), match="id"):
            rf.fit(model, *texts, epochs=1, **OPTIONS)
        assert model.steps == 0


@pytest.mark.fault("C4")
def test_divergence_is_not_silent():
    model = small()
    with pytest.warns(
        UserWarning, match=r"training diverges: the perplexity of epoch 1 is .*; try a smaller lr"
    ) as told:
        history = rf.fit(model, TRAIN, epochs=2, optimizer="sgd", clip_norm=None, **OPTIONS, lr=500.0)
    assert len(told) == 1
    assert history.diverged
    assert not rf.fit(small(), TRAIN, epochs=1, **OPTIONS).diverged


@pytest.mark.fault("C4")
def test_weights_that_overflow_are_no_checkpoint(tmp_path):
    file, model = tmp_path / "run.safetensors", small()
    with pytest.raises(rf.NonFiniteLoss, match="the last good checkpoint is|smaller lr"):
        rf.fit(
            model,
            TRAIN,
            epochs=3,
            optimizer="sgd",
            clip_norm=None,
            **OPTIONS,
            lr=3e38,
            checkpoint=file,
            checkpoint_every=0,
        )
    assert not file.exists() or rf.load(file)


@pytest.mark.fault("C4", "C6")
def test_json_of_a_checkpoint_holds_no_infinity(tmp_path, monkeypatch):
    file, values = tmp_path / "run.safetensors", iter([math.inf, 3.0])
    evaluation = rf.evaluate(small(), VALID)
    monkeypatch.setattr(
        sys.modules["rnnfast.train.objective"],
        "evaluate",
        lambda *_, **__: type(evaluation)(**{**evaluation.as_dict(), "perplexity": next(values)}),
    )
    options = {**OPTIONS, "epochs": 2, "keep_best": True}
    rf.fit(small(), TRAIN, VALID, checkpoint=file, **options)
    _, metadata = _core.read_safetensors(str(file))
    assert "Infinity" not in metadata["checkpoint"]
    again = rf.fit(small(), TRAIN, VALID, checkpoint=file, resume=True, **options)
    assert again.column("valid_perplexity") == [math.inf, 3.0]


@pytest.mark.fault("C8")
def test_tensorboard_shows_what_float32_cannot_hold_as_infinite(tmp_path):
    board = rf.TensorBoard(tmp_path)
    record = {"epoch": 1, "train_perplexity": 1e300, "valid_perplexity": math.inf, "lr": -1e39, "grad_norm": 3.4e38}
    board.on_epoch(record, None)
    board.on_end()
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    for tag, value in (("train_perplexity", math.inf), ("lr", -math.inf), ("grad_norm", 3.4e38)):
        assert tag.encode() + b"\x15" + struct.pack("<f", value) in data


@pytest.mark.fault("C8")
@pytest.mark.parametrize("moment", ["on_step", "on_epoch"])
def test_a_callback_that_raises_does_not_lose_the_epoch(tmp_path, moment):
    class Fails(rf.Callback):
        ended = 0

        def on_step(self, record):
            if moment == "on_step" and record["step"] == 7:
                raise Enough

        def on_epoch(self, record, model):
            if moment == "on_epoch":
                raise Enough

        def on_end(self):
            Fails.ended += 1
            raise Enough

    file, reference, resumed = tmp_path / "run.safetensors", small(), small()
    with pytest.raises(Enough):
        rf.fit(small(), TRAIN, epochs=2, checkpoint=file, callbacks=[Fails(), Fails()], **OPTIONS)
    assert Fails.ended == 2
    place = read_checkpoint(file).place
    assert (place["epoch"], place["batch"]) == ((1, 0) if moment == "on_epoch" else (1, 2))
    rf.fit(resumed, TRAIN, epochs=2, checkpoint=file, resume=True, **OPTIONS)
    rf.fit(reference, TRAIN, epochs=2, **OPTIONS)
    assert same_weights(reference, resumed)


def test_a_run_s_note_that_json_cannot_hold_is_refused_before_training():
    for run, kind in (({"x": math.nan}, ValueError), ({"x": object()}, TypeError)):
        model = small()
        with pytest.raises(kind, match="run cannot be stored in a checkpoint"):
            rf.fit(model, TRAIN, epochs=1, run=run, **OPTIONS)
        assert model.steps == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seed": None}, "seed is None, expected an integer"),
        ({"clip_norm": "1"}, "clip_norm is '1', expected a number, or None"),
        ({"patience": True}, "patience is True"),
        ({"checkpoint_every": "1"}, "checkpoint_every is '1', expected a number of seconds"),
    ],
)
def test_an_option_of_another_type_is_named(options, sentence):
    with pytest.raises(TypeError, match=sentence):
        rf.fit(small(), TRAIN, VALID, **{**OPTIONS, **options})
    pairs = rf.ParallelCorpus.from_pairs([("a b", "c d")] * 3, tokenizer="word")
    model = rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, embedding_size=2, hidden_size=3, seed=0)
    with pytest.raises(TypeError, match=sentence):
        rf.fit(model, pairs, pairs, progress=False, **options)


def test_numbers_of_numpy_and_infinite_limits_are_kept_in_a_checkpoint(tmp_path):
    file = tmp_path / "run.safetensors"
    options = {"num_steps": np.int64(10), "batch_size": np.int32(4), "lr": np.float32(0.01), "progress": False}
    options |= {"patience": math.inf, "clip_norm": math.inf, "clip_value": np.float32(1), "epochs": np.int64(2)}
    rf.fit(small(), TRAIN, VALID, checkpoint=file, **options)
    assert len(rf.fit(small(), TRAIN, VALID, checkpoint=file, resume=True, **options)) == 2


def test_a_record_may_hold_what_a_callback_adds_to_it(tmp_path):
    class Adds(rf.Callback):
        def on_epoch(self, record, model):
            record["loss"] = np.float32(1.5)

    file = tmp_path / "run.safetensors"
    rf.fit(small(), TRAIN, epochs=1, checkpoint=file, callbacks=[Adds()], **OPTIONS)
    assert rf.fit(small(), TRAIN, epochs=1, checkpoint=file, resume=True, **OPTIONS).column("loss") == [1.5]
