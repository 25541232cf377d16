"""A type checker knows what the public functions take and return."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import rnnfast as rf


def language_model(text: str, file: Path) -> rf.LanguageModel:
    corpus = rf.Corpus.from_text(text)
    train, valid, test = corpus.split(0.8, 0.1, 0.1)
    model = rf.LanguageModel(corpus.vocab, cell="gru", hidden_size=8, weights="f32", seed=0)
    history: rf.History = rf.fit(model, train, valid, epochs=1, optimizer="sgd", progress=False)
    last: float = history[-1]["train_perplexity"]
    evaluation: rf.Evaluation = rf.evaluate(model, test)
    counted: rf.Evaluation = rf.evaluate(rf.NGram(2).fit(train), test)
    print(f"{last:.2f} {evaluation.perplexity:.2f} {counted.bits_per_token:.2f}")
    total: float = rf.log_prob(model, "to be")
    each: list[float] = rf.log_prob(model, ["to", "be"])
    written: str = rf.generate(model, "to", length=10)
    several: list[str] = rf.generate(model, "to", num_samples=2)
    print(total, each, written, *several)
    model.save(file)
    return model


def by_hand(corpus: rf.Corpus, model: rf.LanguageModel) -> float:
    optimizer, loss = rf.Adam(model, lr=1e-3), 0.0
    for x, y in rf.batches(corpus, batch_size=4, num_steps=5):
        loss, state = model.loss(x, y)
        model.backward()
        norm: float = rf.clip_grad_norm_(model, 5.0)
        optimizer.step()
        optimizer.zero_grad()
        print(norm)
    return loss


def translator(sentences: list[tuple[str, str]]) -> list[str]:
    pairs = rf.ParallelCorpus.from_pairs(sentences)
    model = rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, decoder="d2l", attention="additive")
    rf.fit(model, pairs, epochs=1, progress=False)
    of_pairs: rf.PairEvaluation = rf.evaluate(model, pairs)
    best: list[str] = rf.translate(model, ["a"])
    lists: list[list[rf.Translation]] = rf.translate(model, ["a"], attention=True)
    scores: NDArray[np.float64] = rf.score_pairs(model, ["a"], ["b"])
    print(of_pairs.perplexity, float(scores.sum()), lists[0][0].score)
    return best


def files(folder: Path) -> None:
    loaded: rf.LanguageModel = rf.load(folder / "m", kind=rf.LanguageModel)
    again: rf.Seq2Seq = rf.load(folder / "t", kind="seq2seq", weights="int8")
    classifier: rf.SequenceClassifier = rf.load(folder / "c", kind="sequence_classifier")
    continued: str = rf.generate(rf.load(folder / "m", kind="language_model"), "to")
    print(loaded.num_parameters, again.decoder, classifier.hidden_size, continued)
    anything = rf.load(folder / "m")
    if isinstance(anything, rf.Seq2Seq):
        print(rf.translate(anything, ["a"])[0].upper())
    elif isinstance(anything, rf.LanguageModel):
        print(rf.evaluate(anything, rf.Corpus.from_text("to")).tokens)


def estimators(series: NDArray[np.float64]) -> float:
    forecaster: rf.Autoregressor = rf.Autoregressor("gru", 4, epochs=1).fit(series).set_params(lr=0.1)
    ahead: NDArray[np.float64] = forecaster.forecast(3)
    line: float = rf.LinearAR(2).fit(series).score(series)
    seasonal = rf.Forecaster(horizon=6, season=12).fit(series)
    months: NDArray[np.float64] = seasonal.forecast(3) + seasonal.predict_interval(3).upper
    others: NDArray[np.float64] = seasonal.forecast(3, series.tolist())
    known: rf.Forecaster = seasonal
    print(np.asarray(known.forecast()).shape, others.shape, months.shape)
    classifier = rf.SequenceClassifier(hidden_size=4, epochs=1).fit(["good", "bad"], [1, 0])
    chances: NDArray[np.float64] = classifier.predict_proba(["good"])
    tagger = rf.SequenceTagger(hidden_size=4, epochs=1).fit([["a", "b"]], [["X", "Y"]])
    shares: list[NDArray[np.float64]] = tagger.predict_proba([["a"]])
    print(ahead.shape, chances.max(), shares[0].max(), tagger.score([["a"]], [["X"]]))
    return line


def layers(x: NDArray[np.float32]) -> NDArray[np.float32]:
    lstm = rf.LSTM(input_size=x.shape[2], hidden_size=4, num_layers=2, seed=0)
    y, (h, c), backward = lstm.forward(x)
    dx, _ = backward(np.ones_like(y))
    frozen: rf.Linear = rf.Linear(4, 3).requires_grad_(False, "bias")
    step = lstm.stream()
    chain = rf.Sequential(rf.LSTM(4, 8), rf.Linear(8, 2))
    out, learn = chain.forward(x)
    back: NDArray[np.float32] | None = learn(np.ones_like(out))
    print(chain(x).shape, chain.stream()(x[0]).shape, back)
    named = rf.Network(inputs={"x": 4}, layers={"a": rf.Linear(4, 3), "b": rf.Linear(3, 2)}, outputs=["a", "b"])(x)
    print(len(named) if isinstance(named, tuple) else named.shape)
    print(frozen(y).shape, step(x[0, 0]).shape, h.shape, c.shape, sorted(lstm.grads))
    assert dx is not None
    return dx


book: str = rf.datasets.load("timemachine")
pair: tuple[str, str] = rf.datasets.load("multi30k-de-en")["train"][0]
model = language_model(book, Path(sys.argv[1]))
"""
WRONG = """
rf.LanguageModel(5, cell="grru")
rf.Seq2Seq(5, 5, decoder="d3l")
rf.translate(model, ["a"])
rf.evaluate(model, rf.ParallelCorpus.from_pairs([pair])).bits_per_token
rf.translate(rf.load("m"), ["a"])
rf.load("m", kind="translator")
rf.load("m", weights="f16")
rf.datasets.load("timemaschine")
rf.generate(model, "to").append("be")
rf.Autoregressor("gruu", 4)
rf.Autoregressor("gru", 4).fit([1.0]).forecast(3).perplexity
rf.Forecaster().fit([1.0]).forecast(3).perplexity
rf.Forecaster().fit([1.0]).predict_interval(3).lower.perplexity
rf.Sequential(rf.Linear(4, 3))([1.0]).perplexity
rf.load("m", kind="network")([1.0]).perplexity
"""


def test_a_program_type_checks_and_its_mistakes_do_not(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed; the lint tools bring it")
    assert len(PROGRAM.splitlines()) > 80
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
