"""A type checker knows what the public functions take and return."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import rnnfast as rf

corpus = rf.Corpus.from_text("to be or not to be")
model = rf.LanguageModel(corpus.vocab, cell="gru", hidden_size=8)
history: rf.History = rf.fit(model, corpus, epochs=1, optimizer="sgd")
evaluation: rf.Evaluation = rf.evaluate(model, corpus)
counted: rf.Evaluation = rf.evaluate(rf.NGram(2).fit(corpus), corpus)
total: float = rf.log_prob(model, "to be")
each: list[float] = rf.log_prob(model, ["to", "be"])
text: str = rf.generate(model, "to")
texts: list[str] = rf.generate(model, "to", num_samples=2)
pairs = rf.ParallelCorpus.from_pairs([("a", "b")])
translator = rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, decoder="d2l")
of_pairs: rf.PairEvaluation = rf.evaluate(translator, pairs)
best: list[str] = rf.translate(translator, ["a"])
lists: list[list[rf.Translation]] = rf.translate(translator, ["a"], attention=True)
loaded: rf.LanguageModel = rf.load("m", kind=rf.LanguageModel)
again: rf.Seq2Seq = rf.load("m", kind="seq2seq", weights="int8")
classifier: rf.SequenceClassifier = rf.load("m", kind="sequence_classifier")
forecaster: rf.Autoregressor = rf.load("m", kind=rf.Autoregressor).fit([1.0, 2.0]).set_params(lr=0.1)
continued: str = rf.generate(rf.load("m", kind="language_model"), "to")
anything = rf.load("m")
if isinstance(anything, rf.Seq2Seq):
    best = rf.translate(anything, ["a"])
frozen: rf.Linear = rf.Linear(2, 3).requires_grad_(False, "bias")
last: float = history[-1]["train_perplexity"]
book: str = rf.datasets.load("timemachine")
pair: tuple[str, str] = rf.datasets.load("multi30k-de-en")["train"][0]
"""
WRONG = """
rf.LanguageModel(5, cell="grru")
rf.Seq2Seq(5, 5, decoder="d3l")
rf.translate(model, ["a"])
rf.evaluate(model, pairs).bits_per_token
rf.translate(rf.load("m"), ["a"])
rf.load("m", kind="translator")
rf.load("m", weights="f16")
rf.datasets.load("timemaschine")
rf.generate(model, "to").append("be")
"""


def test_a_program_type_checks_and_its_mistakes_do_not(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed; the lint tools bring it")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM + WRONG, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, file],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
    )
    wrong = {
        int(line.split(":")[1])
        for line in run.stdout.splitlines()
        if line.startswith(str(file.name)) and "error" in line
    }
    first = PROGRAM.count("\n") + 2
    assert wrong == set(range(first, first + WRONG.count("\n") - 1)), run.stdout + run.stderr
