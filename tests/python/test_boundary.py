"""Absurd arguments give a one-sentence error: a sample of the 100,000 calls of ``nox -s boundary`` under AddressSanitizer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rnnfast as rf

FUZZER = Path(__file__).parents[1] / "fuzz" / "python_boundary.py"


def test_public_functions_return_or_refuse_in_one_sentence_whatever_the_arguments(tmp_path):
    pytest.importorskip("hypothesis")
    command = [sys.executable, FUZZER, "--calls", "1500", "--log", tmp_path / "calls.txt"]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "agg"})
    call = (tmp_path / "calls.txt").read_text(encoding="utf-8").strip()
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}\nlast call: {call}"


def test_a_number_is_not_a_path(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    for call in (rf.load, rf.Corpus.from_file, rf.Vocab.load, rf.NGram.from_arpa, lambda path: rf.quantize(path, "x")):
        with pytest.raises(TypeError, match="expected a str or a Path"):
            call(descriptor)
    os.close(descriptor)  # no call closed it: open(3) accepts a number as an open file


def test_what_is_another_kind_of_thing_is_named():
    corpus = rf.Corpus.from_text("ab ba")
    for call in (rf.surprisal, rf.log_prob, rf.generate):
        with pytest.raises(TypeError, match="model is a Corpus, expected a LanguageModel or an NGram"):
            call(corpus, "ab")
    with pytest.raises(TypeError, match="optimizer is an int, expected a name, or an optimizer"):
        rf.fit(rf.LanguageModel(corpus.vocab, hidden_size=2), corpus, optimizer=3)
    with pytest.raises(TypeError, match="records is None, expected a list with one mapping per epoch"):
        rf.History(None)
    with pytest.raises(MemoryError, match="choose smaller sizes"):
        rf.Linear(2**31 - 1, 2**31 - 1)
    with pytest.raises(TypeError, match="notes is None, expected a list of str"):
        rf.History(notes=None)
    with pytest.raises(TypeError, match="model is a list, expected a model, such as an rf.LanguageModel"):
        rf.fit([rf.Linear(2, 2)], corpus)
    with pytest.raises(TypeError, match="callbacks is a str, expected a list of rf.Callback"):
        rf.fit(rf.LanguageModel(corpus.vocab, hidden_size=2), corpus, callbacks="laplace")
    with pytest.raises(TypeError, match=r"callbacks\[0\] is the class TensorBoard, expected an rf.Callback"):
        rf.fit(rf.LanguageModel(corpus.vocab, hidden_size=2), corpus, callbacks=[rf.TensorBoard])
    with pytest.raises(TypeError, match="name is a list, expected a str"):
        rf.ParallelCorpus.from_pairs([("a", "b")], name=["pairs"])
    with pytest.raises(TypeError, match="name is None, expected a str"):
        rf.Corpus.from_text("ab", name=None)


def test_a_plot_needs_a_list_of_steps():
    pytest.importorskip("matplotlib")
    forecaster = rf.LinearAR(1).fit([0.0, 1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="steps is None, expected numbers of steps"):
        forecaster.plot([0.0, 1.0, 2.0], steps=None)


def test_a_path_that_does_not_print_is_quoted_on_one_line():
    for call in (rf.load, rf.Corpus.from_file, rf.Vocab.load, rf.NGram.from_arpa, rf.Corpus.from_memory_map):
        with pytest.raises(FileNotFoundError, match=r"'a\\nb' does not exist") as caught:
            call("a\nb")
        assert "\n" not in str(caught.value)
