"""``--resume`` and ``--from``: what the command line reads from a checkpoint or a model, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import rnnfast as rf
from rnnfast import _core
from rnnfast.cli import main

TEXT = "a time for all, a tale of late hats.\n" * 24
GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoint_v1.safetensors"
SMALL = "--hidden-size 6 --batch-size 4 --num-steps 8 --lr 0.02".split()


class Killed(BaseException):
    pass


@pytest.fixture
def rnnfast(monkeypatch, capsys):
    """A function that runs the command line here and returns its status, what it printed, and its errors."""

    def run(*args, kill=None):
        fit = rf.train.fit
        with monkeypatch.context() as patch:
            if kill is not None:
                patch.setattr(rf.train, "fit", lambda *a, **k: fit(*a, **{**k, **killing(kill)}))
            try:
                status = main([str(arg) for arg in args])
            except Killed:
                status = -9
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def killing(step):
    """Options that save after every step and end the run after one of them."""

    class Kill(rf.Callback):
        def on_step(self, record):
            if record["step"] == step:
                raise Killed

    return {"checkpoint_every": 0, "callbacks": [Kill()]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a text and an unfinished run: in its second of three epochs."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "text.txt").write_text(TEXT)
    monkeypatch.chdir(here)
    return here


def begin(rnnfast, *options):
    assert rnnfast("train", "text.txt", *SMALL, "--epochs", 3, "--output", "m.safetensors", *options, kill=32)[0] == -9
    return "m.checkpoint.safetensors"


def weights(path):
    return rf.load(path).state_dict()


def same(one, two):
    return all(np.array_equal(two[name], value) for name, value in one.items())


@pytest.mark.fault("C3")
def test_a_moved_folder_resumes_where_it_is_and_a_copy_leaves_the_original_alone(
    folder, tmp_path, rnnfast, monkeypatch
):
    rnnfast("train", "text.txt", *SMALL, "--epochs", 3, "--output", "whole.safetensors")
    whole = weights("whole.safetensors")
    checkpoint = begin(rnnfast)
    shutil.copytree(folder, tmp_path / "copy")
    kept = {file: (folder / file).read_bytes() for file in (checkpoint, "m.history.jsonl")}
    status, out, err = rnnfast("train", "--resume", tmp_path / "copy" / checkpoint)
    assert status == 0, err
    assert same(weights(tmp_path / "copy" / "m.safetensors"), whole)
    assert not (folder / "m.safetensors").exists()
    assert {file: (folder / file).read_bytes() for file in kept} == kept
    lines = (tmp_path / "copy" / "m.history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tmp_path / "copy")
    folder.rename(tmp_path / "moved")
    assert rnnfast("train", "--resume", f"moved/{checkpoint}")[0] == 0
    assert same(weights("moved/m.safetensors"), whole)


@pytest.mark.fault("C3")
def test_the_text_may_be_given_again_and_must_be_the_same(folder, tmp_path, rnnfast):
    checkpoint = begin(rnnfast)
    (folder / "text.txt").rename(tmp_path / "elsewhere.txt")
    status, _, err = rnnfast("train", "--resume", checkpoint)
    assert (status, "which is not available to resume" in err, "give FILE again" in err) == (2, True, True)
    (folder / "other.txt").write_text(TEXT.replace("late", "tall"))
    status, _, err = rnnfast("train", "other.txt", "--resume", checkpoint)
    assert (status, "other.txt is not the data of m.checkpoint.safetensors" in err) == (2, True)
    assert rnnfast("train", tmp_path / "elsewhere.txt", "--resume", checkpoint)[0] == 0
    assert (folder / "m.safetensors").exists()


@pytest.mark.fault("C3")
@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--batch-size 5", "--batch-size is 5, in the checkpoint 4"),
        ("--hidden-size 7 --seed 1", "--hidden-size is 7, in the checkpoint 6; --seed is 1, in the checkpoint 0"),
        ("--keep-best", "--keep-best is True, in the checkpoint False"),
        ("--data ptb", "--data is ptb, in the checkpoint None"),
        ("--preset mikolov", "in the checkpoint"),
        ("--from m.safetensors", "not allowed with argument"),
    ],
)
def test_options_that_would_change_the_run_are_refused_by_name(folder, rnnfast, option, sentence):
    checkpoint = begin(rnnfast)
    before = (folder / checkpoint).read_bytes()
    status, _, err = rnnfast("train", "--resume", checkpoint, *option.split())
    assert status == 2
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert (folder / checkpoint).read_bytes() == before


@pytest.mark.fault("C3", "N9")
def test_epochs_learning_rate_patience_and_output_may_change(folder, rnnfast):
    checkpoint = begin(rnnfast)
    (folder / "out").mkdir()
    changed = "--epochs 4 --lr 0.5 --patience 9 --output out/new.safetensors --batch-size 4 --json".split()
    status, out, err = rnnfast("train", "--resume", checkpoint, *changed)
    assert status == 0, err
    note = "resumed in epoch 2 with lr 0.5 (0.02 before), epochs 4 (3 before), patience 9 (None before)"
    assert note in err
    told = json.loads(out.splitlines()[-1])
    assert (told["notes"], told["epochs"], told["model"]) == ([note], 4, "out/new.safetensors")
    rows = [json.loads(line) for line in (folder / "out" / "new.history.jsonl").read_text().splitlines()]
    assert [row["lr"] for row in rows] == [0.02, 0.5, 0.5, 0.5]
    assert not (folder / "m.safetensors").exists()
    assert not (folder / checkpoint).exists()


def test_a_checkpoint_of_version_0_1_resumes_where_it_is(folder, rnnfast):
    shutil.copy(GOLDEN, "model.checkpoint.safetensors")
    status, _, err = rnnfast("train", "--resume", "model.checkpoint.safetensors")
    assert status == 0, err
    total = sum(float(value.sum()) for value in weights("model.safetensors").values())
    assert total == pytest.approx(89.517585754, rel=1e-3)


@pytest.mark.fault("R2")
@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (None, "was written by rf.fit, not by `rnnfast train`"),
        ({"settings": {"file": 3}}, "its setting 'file' is 3"),
        ({"settings": {"colour": "red"}}, "or of a later version: its setting 'colour'"),
        ({"settings": {"epochs": -1}}, "its setting 'epochs' is -1"),
        ({"settings": {"lr": float("nan")}}, "its setting 'lr' is nan"),
        ({"settings": {}, "sha256": 4}, "its 'sha256' is 4"),
        ({"settings": {}, "sha256": "", "relative": [1]}, "its 'relative' is"),
        ({"settings": {}, "sha256": "", "relative": {"output": {}}}, "its 'output' is {}"),
        ({"settings": {}, "sha256": "", "command": "train-translation"}, "was written by train-translation"),
    ],
)
def test_impossible_settings_are_refused(folder, rnnfast, run, sentence):
    tensors, metadata = _core.read_safetensors(str(GOLDEN))
    _core.write_safetensors("c", tensors, {**metadata, "run": json.dumps(run)})
    status, _, err = rnnfast("train", "--resume", "c")
    assert (status, len(err.splitlines())) == (2, 1)
    assert sentence in err


def test_a_finished_model_continues_training_with_another_text(folder, rnnfast):
    assert rnnfast("train", "text.txt", *SMALL, "--cell", "gru", "--epochs", 4, "--output", "one.safetensors")[0] == 0
    other = "a late tale for all hats, zz!\n" * 30
    (folder / "other.txt").write_text(other)
    options = ["--from", "one.safetensors", "--epochs", 1, "--lr", 1e-3, "--batch-size", 4, "--num-steps", 8]
    status, out, err = rnnfast("train", "other.txt", *options, "--output", "two.safetensors", "--json")
    assert status == 0, err
    unknown = 100 * other.count("zz!\n") * 3 / len(other)
    assert f"{unknown:.2f}% of the tokens to train on are not in the model's vocabulary" in err
    one, two = rf.load("one.safetensors"), rf.load("two.safetensors")
    assert (two.vocab, two.config) == (one.vocab, one.config)
    before = rf.evaluate(
        rf.LanguageModel(one.vocab, hidden_size=6, seed=0), rf.Corpus.from_text(other, vocab=one.vocab)
    )
    assert json.loads(out)["train_perplexity"] < before.perplexity * 0.7
    assert not same(one.state_dict(), two.state_dict())
    rnnfast("train", "other.txt", *options, "--output", "cut.safetensors", kill=9)
    assert rnnfast("train", "--resume", "cut.checkpoint.safetensors")[0] == 0
    assert same(weights("cut.safetensors"), two.state_dict())


def test_a_run_in_bf16_is_one_and_resumes_as_one(folder, rnnfast):
    options = ["train", "text.txt", *SMALL, "--cell", "gru", "--epochs", 2, "--output"]
    for weights_, name in (("f32", "full.safetensors"), ("bf16", "low.safetensors")):
        assert rnnfast(*options, name, "--weights", weights_)[0] == 0
        assert rf.load(name).config["weights"] == weights_
    assert not same(weights("full.safetensors"), weights("low.safetensors"))
    rnnfast(*options, "cut.safetensors", "--weights", "bf16", kill=9)
    assert rnnfast("train", "--resume", "cut.checkpoint.safetensors")[0] == 0
    assert same(weights("cut.safetensors"), weights("low.safetensors"))


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--hidden-size 7", "--from one.safetensors: --hidden-size is 7, in the model 6; leave them out"),
        ("--cell lstm --tie-weights", "--cell is lstm, in the model rnn; --tie-weights is True, in the model False"),
        ("--tokenizer word", "--tokenizer is word, in the model char"),
        ("--weights bf16", "--weights is bf16, in the model f32"),
        ("--min-freq 2", "--min-freq has no effect on a finished model"),
        ("--from nowhere.safetensors", "nowhere.safetensors does not exist"),
        ("--from small.safetensors", "is quantized to int8, for inference only"),
        ("--from ids.safetensors", "has no vocabulary"),
        ("--from counts.arpa", "holds counts of n-grams"),
        ("--from pairs.safetensors", "holds a translator"),
    ],
)
def test_what_a_finished_model_contradicts_is_refused(folder, rnnfast, option, sentence):
    corpus = rf.Corpus.from_text(TEXT)
    rf.LanguageModel(corpus.vocab, hidden_size=6, seed=0).save("one.safetensors")
    rf.quantize("one.safetensors", "small.safetensors")
    rf.LanguageModel(9, hidden_size=6, seed=0).save("ids.safetensors")
    rf.Seq2Seq(9, 9, embedding_size=2, hidden_size=3, seed=0).save("pairs.safetensors")
    rf.NGram(2).fit(rf.Corpus.from_text("a b\n", tokenizer="whitespace")).save_arpa("counts.arpa")
    start = [] if "--from" in option else ["--from", "one.safetensors"]
    status, _, err = rnnfast("train", "text.txt", *start, *option.split())
    assert (status, len(err.splitlines())) == (2, 1)
    assert sentence in err


def test_a_translator_resumes_after_a_move_and_continues_from_a_finished_one(folder, tmp_path, rnnfast, monkeypatch):
    words = "the a cat dog sees likes old new".split()
    pairs = [f"{x} {y} {z}\t{z} {x} {y}\n" for x in words for y in words for z in words[:3]]
    (folder / "pairs.tsv").write_text("".join(pairs))
    small = ["--hidden-size", 6, "--embedding-size", 4, "--batch-size", 16, "--min-freq", 1]
    train = ["train-translation", "pairs.tsv", *small, "--epochs", 2, "--output"]
    assert rnnfast(*train, "whole.safetensors")[0] == 0
    rnnfast(*train, "m.safetensors", kill=14)
    refused = rnnfast("train-translation", "--resume", "m.checkpoint.safetensors", "--embedding-size", 5)
    assert (refused[0], "--embedding-size is 5, in the checkpoint 4" in refused[2]) == (2, True)
    folder.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert rnnfast("train-translation", "--resume", "m.checkpoint.safetensors")[0] == 0
    assert same(weights("m.safetensors"), weights("whole.safetensors"))
    Path("more.tsv").write_text("".join(pairs[::-1]) + "cow cat\tcat cow\n" * 9)
    on = ["train-translation", "more.tsv", "--from", "m.safetensors", "--epochs", 1, "--output", "n.safetensors"]
    status, out, err = rnnfast(*on)
    assert status == 0, err
    assert "% of the source tokens to train on are not in the model's vocabulary" in out
    assert rf.load("n.safetensors").config == rf.load("m.safetensors").config
    refused = rnnfast(*on[:-1], "o.safetensors", "--attention", "dot")
    assert (refused[0], "--attention is dot, in the model none" in refused[2]) == (2, True)


@pytest.mark.fault("C4")
def test_a_run_that_diverges_ends_with_a_message_and_status_1(folder, rnnfast):
    options = ["--optimizer", "sgd", "--clip-norm", 0, "--lr", 1000, "--epochs", 2, "--json"]
    status, out, err = rnnfast("train", "text.txt", *SMALL[:-2], *options)
    assert status == 1
    assert err.splitlines()[-1].startswith("rnnfast: training diverged: the last training perplexity is ")
    assert "rnnfast: training diverges: the perplexity of epoch 1 is" in err
    assert max(len(line) for line in err.splitlines() if "perplexity" in line) < 200
    assert json.loads(out.splitlines()[-1])["model"] == "rnnfast-model.safetensors"
    assert "Infinity" not in out + Path("rnnfast-model.history.jsonl").read_text()
