"""The translation benchmark on a corpus of a hundred synthetic pairs: it trains both programs equally, tests them, and continues a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").exists():
    pytest.skip("benchmarks are not part of this copy", allow_module_level=True)
pytest.importorskip("torch")
sys.path.insert(0, str(ROOT))

from benchmarks import translation  # noqa: E402

import rnnfast as rf  # noqa: E402

SMALL = [
    "--embedding-size",
    "8",
    "--hidden-size",
    "16",
    "--batch-size",
    "16",
    "--epochs",
    "3",
    "--lr",
    "0.01",
    "--threads",
    "1",
]


@pytest.fixture
def corpora(monkeypatch):
    """Words and their numbers, backwards: the smallest data that show learning."""
    random = np.random.default_rng(0)

    def pairs(count):
        rows = [random.integers(0, 9, random.integers(2, 6)) for _ in range(count)]
        return [(" ".join(f"w{i}" for i in row), " ".join(f"Number {i}" for i in row[::-1])) for row in rows]

    train = rf.ParallelCorpus.from_pairs(pairs(100), tokenizer="word", lower=True)
    known = {"source_vocab": train.source_vocab, "target_vocab": train.target_vocab}
    held = {"train": train, **{part: rf.ParallelCorpus.from_pairs(pairs(9), **known) for part in ("valid", "test")}}
    monkeypatch.setattr(translation, "multi30k", lambda: held)
    return held


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("row", ["tutorial-1", "tutorial-3", "context_as_state"])
def test_both_programs_learn_the_same(row, corpora, tmp_path, threads):
    """Without dropout and with the true token read, two float32 programs stay within a ten-thousandth for three epochs."""
    pytest.importorskip("sacrebleu")
    file = tmp_path / "out.jsonl"
    options = [
        "--rows",
        row,
        *SMALL,
        "--dropout",
        "0",
        "--teacher-forcing",
        "1",
        "--init-scale",
        "0",
        "--json",
        str(file),
    ]
    translation.main([*options, "--sentences", "5"])
    *epochs, result = lines(file)
    assert [line["kind"] for line in epochs] == ["epoch"] * 3
    for epoch in epochs:
        assert epoch["rnnfast_valid_perplexity"] == pytest.approx(epoch["torch_valid_perplexity"], rel=1e-4)
    assert epochs[-1]["rnnfast_train_perplexity"] < 0.9 * epochs[0]["rnnfast_train_perplexity"]
    assert result["rnnfast_test_perplexity"] == pytest.approx(result["torch_test_perplexity"], rel=1e-4)
    assert "tok:none" in result["rnnfast_bleu_beam_5"]["signature"]
    assert [speed["rows"] for speed in result["greedy"]] == [1, 64]
    assert all(speed["rnnfast_same"] == 1 for speed in result["greedy"])


def test_an_interrupted_run_continues_to_the_same_numbers(corpora, tmp_path, monkeypatch, threads):
    options = ["--rows", "tutorial-1", *SMALL, "--no-test", "--json"]
    translation.main([*options, str(tmp_path / "whole.jsonl")])
    keep = translation.Row.keep

    def cut(row, programs):
        keep(row, programs)
        if len(row.epochs) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(translation.Row, "keep", cut)
    with pytest.raises(KeyboardInterrupt):
        translation.main([*options, str(tmp_path / "cut.jsonl")])
    translation.main([*options, str(tmp_path / "cut.jsonl")])
    whole, parts = lines(tmp_path / "whole.jsonl"), lines(tmp_path / "cut.jsonl")
    assert len(whole) == len(parts) == 4
    for a, b in zip(whole, parts):
        assert {n: v for n, v in a.items() if "perplexity" in n} == {n: v for n, v in b.items() if "perplexity" in n}
    assert list(tmp_path.glob("*.pt")) == []
    translation.main([*options, str(tmp_path / "cut.jsonl")])  # finished rows are not repeated
    assert len(lines(tmp_path / "cut.jsonl")) == 4


def test_one_program_runs_alone(corpora, tmp_path, threads):
    for name in ("rnnfast", "torch"):
        file = tmp_path / f"{name}.jsonl"
        translation.main(["--rows", "previous", *SMALL, "--no-test", "--only", name, "--json", str(file)])
        told = lines(file)[-1]
        assert f"{name}_valid_perplexity" in told
        assert "ratio" not in told


def test_the_books_pairs_are_prepared_as_in_the_book(data_folder):
    train = translation.d2l_pairs()["train"]
    assert len(train) == 600
    assert train.source_vocab.to_tokens(train.source_ids[0]) == ["go", ".", "<eos>"]
    assert all(len(ids) <= 9 for ids in (*train.source_ids, *train.target_ids))


def test_an_unknown_row_is_named(capsys):
    with pytest.raises(SystemExit):
        translation.main(["--rows", "tutorial-9"])
    assert "unknown row tutorial-9" in capsys.readouterr().err
