"""``rnnfast train-translation`` as a user meets it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from test_cli import assert_the_same, run, train_and_kill
from test_translation_training import counted

import rnnfast as rf

SMALL = ["--hidden-size", "24", "--embedding-size", "12", "--batch-size", "8", "--lr", "0.01", "--min-freq", "1"]


@pytest.fixture
def folder(tmp_path):
    sources, targets = zip(*counted(200))
    (tmp_path / "train.de").write_text("\n".join(sources) + "\n", encoding="utf-8")
    (tmp_path / "train.en").write_text("\n".join(targets) + "\n", encoding="utf-8")
    (tmp_path / "both.tsv").write_text("".join(f"{s}\t{t}\n" for s, t in zip(sources, targets)), encoding="utf-8")
    (tmp_path / "short.en").write_text("\n".join(targets[1:]) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("files", [["train.de", "train.en"], ["both.tsv"]])
def test_a_translator_trains_on_two_files_or_one(folder, files):
    train = run("train-translation", *files, *SMALL, "--epochs", 25, "--attention", "additive", "--json", cwd=folder)
    assert train.returncode == 0, train.stderr
    result = json.loads(train.stdout.splitlines()[-1])
    assert result["test_perplexity"] < 3
    assert 0.6 < result["test_token_accuracy"] <= 1
    assert result["model"] == "rnnfast-translator.safetensors"
    model = rf.load(folder / result["model"])
    assert model.num_parameters == result["parameters"]
    assert model.config["attention"] == "additive"
    assert "180 pairs to train on" in train.stderr
    history = [json.loads(line) for line in (folder / "rnnfast-translator.history.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in history] == list(range(1, 26))
    assert "rnnfast translate rnnfast-translator.safetensors" in train.stderr
    assert not list(folder.glob("*checkpoint*"))
    try:
        import sacrebleu  # noqa: F401
    except ImportError:
        assert result["test_bleu"] is None
        assert "rnnfast[mt]" in train.stderr
    else:
        assert result["test_bleu"] > 10
        assert result["bleu_signature"].startswith("nrefs:1")
        assert "test BLEU" in train.stderr


def test_every_choice_is_an_option(folder):
    options = ["--decoder", "previous", "--cell", "lstm", "--num-layers", 2, "--bidirectional", "--context", "mean"]
    options += ["--weights", "bf16"]
    options += [
        "--readout",
        "all",
        "--teacher-forcing",
        0.5,
        "--dropout",
        0.1,
        "--output-dropout",
        0.2,
        "--lower",
        "--max-length",
        4,
    ]
    options += ["--attention", "general", "--init-scale", 0.1, "--max-pairs", 50, "--tensorboard", "curves"]
    result = run("train-translation", "both.tsv", *SMALL, *options, "--epochs", 1, cwd=folder)
    assert result.returncode == 0, result.stderr
    model = rf.load(folder / "rnnfast-translator.safetensors")
    expected = {
        "cell": "lstm", "num_layers": 2, "bidirectional": True, "context": "mean", "readout": "all", "dropout": 0.1,
        "output_dropout": 0.2, "teacher_forcing": 0.5, "attention": "general", "initial_state": "context", "reads": ["previous"],
        "weights": "bf16",
    }  # fmt: skip
    assert {name: model.config[name] for name in expected} == expected
    assert model.source_vocab.lower
    assert "50 pairs to train on" in result.stdout
    assert "sentences to 4 tokens" in result.stdout
    assert list((folder / "curves").glob("events.out.tfevents.*"))


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_resume_after_kill_9_is_bit_identical_to_an_uninterrupted_run(folder):
    options = ["train.de", "train.en", *SMALL, "--epochs", 2, "--dropout", 0.2, "--cell", "lstm", "--keep-best"]
    options += ["--threads", 1]
    train_and_kill("train-translation", options, folder, steps=[17], delays=[0])
    assert_the_same(folder, 2)


def test_an_interrupt_says_how_to_resume_and_with_which_command(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "rnnfast", "train-translation", "both.tsv", *SMALL, "--epochs", "5000"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "rnnfast train-translation --resume rnnfast-translator.checkpoint.safetensors" in errors
    wrong = run("train", "--resume", "rnnfast-translator.checkpoint.safetensors", cwd=folder)
    assert wrong.returncode == 2
    assert "was written by train-translation" in wrong.stderr
    (folder / "both.tsv").write_text("a\tb\n" * 100)
    changed = run("train-translation", "--resume", "rnnfast-translator.checkpoint.safetensors", cwd=folder)
    assert changed.returncode == 2
    assert "too few" in changed.stderr  # a hundred times the same source cannot be split


def test_without_files_the_texts_of_a_program_s_menus_are_read(tmp_path):
    pytest.importorskip("jupyterlab_language_pack_fr_FR")
    tiny = ["--hidden-size", 16, "--embedding-size", 8, "--batch-size", 128, "--epochs", 1]
    result = run("train-translation", *tiny, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "enough for phrases, not for a language" in result.stdout
    assert "to train on" in result.stdout


def test_without_files_and_without_the_package_one_line_names_the_extra(tmp_path):
    hidden = (
        "import importlib.util as u, sys, rnnfast.cli as c; find = u.find_spec;"
        "u.find_spec = lambda name, *a: None if name.startswith('jupyterlab') else find(name, *a);"
        "sys.exit(c.main(['train-translation']))"
    )
    result = subprocess.run([sys.executable, "-c", hidden], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "pip install 'rnnfast[demo]'" in result.stderr


def test_public_data_sets_are_read_by_name(data_folder, tmp_path):
    tiny = ["--hidden-size", 8, "--embedding-size", 8, "--batch-size", 128, "--epochs", 1, "--max-pairs", 500]
    result = run("train-translation", "--data", "multi30k-de-en", *tiny, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "500 pairs to train on, 1,014 to validate, 1,000 to test" in result.stderr


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ("nowhere.de nowhere.en", "does not exist"),
        ("train.de short.en", "train.de has 200 lines and short.en has 199"),
        ("train.de", "has no tab"),
        ("latin.de train.en", "is not UTF-8"),
        ("blank.tsv", "too few"),
        ("train.de train.en --data fra-eng", "give one of them"),
        ("both.tsv --decoder attention", "invalid choice"),
        ("both.tsv --attention sparse", "invalid choice"),
        ("both.tsv --teacher-forcing 2", "outside"),
        ("both.tsv --max-length 1", "expected at least 2"),
        ("both.tsv --decoder previous --attention additive", "context"),
        ("both.tsv --output nowhere/model", "is not a folder"),
        ("--resume nowhere.safetensors", "does not exist"),
    ],
)
def test_bad_input_is_one_line_and_status_2(folder, args, sentence):
    (folder / "latin.de").write_bytes("Grüße\n".encode("latin-1") * 200)
    (folder / "blank.tsv").write_text("\n\n\n")
    result = run("train-translation", *args.split(), cwd=folder)
    assert result.returncode == 2, result.stdout + result.stderr
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_empty_lines_are_left_out_and_counted(folder):
    with (folder / "both.tsv").open("a", encoding="utf-8") as file:
        file.write("\n" * 30 + "eins\t\n")
    result = run("train-translation", "both.tsv", *SMALL, "--epochs", 1, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "with an empty side" in result.stdout
