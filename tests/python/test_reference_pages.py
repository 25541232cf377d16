"""The reference of the Python package: every public name is on the page, has an example, and the examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import rnnfast as rf

PAGE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
CONSTANTS = {"__version__", "CELLS"}
# Examples that need a package that is not always installed, or a data set.
NEEDS = {
    "rnnfast.bleu.CorpusBleu": "sacrebleu",
    "rnnfast.bleu.corpus_bleu": "sacrebleu",
    "rnnfast.interop.hosted.Hosted": "onnx",
    "rnnfast.interop.hosted.layers": "onnx",
    "rnnfast.interop.hosted.load": "onnxruntime",
    "rnnfast.interop.keras_read.from_keras": "keras",  # test_interop_keras.py runs it
    "rnnfast.interop.onnx_read.from_onnx": "onnx",
    "rnnfast.interop.torch_read.from_torch": "torch",
    "rnnfast.text.datasets.interface_pairs": "jupyterlab_language_pack_fr_FR",
    "rnnfast.text.datasets.load": "",
}


def names_of(module):
    """The public names of a module: ``__all__``, or the classes and functions that it defines."""
    own = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
    return [n for n in getattr(module, "__all__", own) if not n.startswith("_") or n == "__version__"]


MODULES = [getattr(rf, name) for name in rf.__all__ if inspect.ismodule(getattr(rf, name))] + [rf.reference]
PUBLIC = {f"rf.{name}": getattr(rf, name) for name in rf.__all__ if not inspect.ismodule(getattr(rf, name))}
PUBLIC.update({f"{m.__name__}.{name}": getattr(m, name) for m in MODULES for name in names_of(m)})


def test_every_public_name_has_an_example():
    assert len(PUBLIC) > 140
    constants = {name for name in PUBLIC if name.rpartition(".")[2] in CONSTANTS}
    assert [
        name for name in PUBLIC if name not in constants and ">>> " not in (inspect.getdoc(PUBLIC[name]) or "")
    ] == []


def test_every_public_module_is_on_the_reference_page_and_leaves_no_name_out():
    shown = re.findall(r"^\.\. automodule:: ([\w.]+)\n(?:   :(?:\w|-)+:.*\n)*?   :members:", PAGE, re.MULTILINE)
    assert "rnnfast" in shown
    missing = {m.__name__ for m in MODULES if "." in m.__name__} - set(shown)
    assert not missing
    assert ":exclude-members:" not in PAGE


def examples():
    """All examples of the package, and those of the compiled part, whose text is Python's."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for found in pkgutil.walk_packages(rf.__path__, "rnnfast."):
        if found.name in ("rnnfast.__main__", "rnnfast._core"):
            continue
        if found.name.startswith("rnnfast.torch") and importlib.util.find_spec("torch") is None:
            continue
        yield from finder.find(importlib.import_module(found.name), extraglobs={"np": np})
    yield from finder.find(rf.FileFormatError, "rnnfast.FileFormatError", globs={"np": np})


def runs_here(name):
    if name == "rnnfast.interop.keras_read.from_keras":
        return False
    if name == "rnnfast.text.datasets.load":
        return any(Path(os.environ.get("RNNFAST_DATA", "/nowhere")).glob("timemachine.txt*"))
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


def test_doctests_hold():
    runner, skipped = doctest.DocTestRunner(verbose=False), []
    for example in examples():
        if runs_here(example.name):
            runner.run(example)
        else:
            skipped.append(example.name)
    assert runner.failures == 0
    assert runner.tries > 350
    assert set(skipped) <= set(NEEDS)
    print("skipped:", *skipped)


@pytest.mark.parametrize("name", ["rf.fit", "rf.LSTM", "rf.FileFormatError", "rnnfast.study.exploding_gradients"])
def test_names_of_each_kind_are_among_the_public_ones(name):
    assert name in PUBLIC
