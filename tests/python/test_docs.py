"""The code in the documents runs unchanged."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rnnfast as rf

ROOT = Path(__file__).parents[2]


def blocks(name):
    """The Python blocks of a document, each at its own lines, so that a traceback names the right one."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield "\n" * text[: match.start(1)].count("\n") + match[1]


def test_the_names_for_type_checkers_and_the_list_in_the_docs_are_those_of_the_compiled_table():
    """Run ``python tools/cells.py`` where this fails."""
    run = subprocess.run([sys.executable, ROOT / "tools" / "cells.py", "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.fault("C14")
def test_readme_s_code_runs_and_its_network_forecasts_better_than_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("README.md"):
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "model.safetensors").exists()
    fresh = names["series"][300:]
    assert names["forecaster"].score(fresh) > 0.9 > names["linear"].score(fresh)


def test_the_code_for_networks_runs_and_its_networks_learn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("docs/networks.md"):
        exec(compile(block, "docs/networks.md", "exec"), names)
    assert names["history"].best["valid_mae"] < 0.5 * np.abs(names["valid"][1] - names["valid"][1].mean()).mean()
    examples = names["words"], names["tags"]
    assert rf.evaluate(names["tagger"], examples, loss="cross_entropy", metrics=["accuracy"]).metrics["accuracy"] > 0.9


def test_the_code_for_pytorch_models_runs():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    names = {}
    for block in blocks("docs/torch.md"):
        exec(compile(block, "docs/torch.md", "exec"), names)


def test_the_code_for_several_processes_runs():
    for block in blocks("docs/distributed.md"):
        exec(compile(block, "docs/distributed.md", "exec"), {})


def test_the_code_for_layers_without_a_recurrent_product_runs():
    names = {}
    for block in blocks("docs/scans.md"):
        exec(compile(block, "docs/scans.md", "exec"), names)


@pytest.mark.fault("C13")
@pytest.mark.parametrize("document", ["docs/language-models.md", "docs/translation.md"])
def test_the_tutorials_run_and_draw_their_pictures(tmp_path, monkeypatch, data_folder, document):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(document):
        exec(compile(block, document, "exec"), names)
    shown = set(re.findall(r"\]\((pictures/.*?)\)", (ROOT / document).read_text(encoding="utf-8")))
    assert shown == {f"pictures/{file.name}" for file in (tmp_path / "pictures").iterdir()}
    assert all((ROOT / "docs" / picture).exists() for picture in shown)
    for picture in shown:
        assert (tmp_path / picture).read_bytes()[:4] == b"\x89PNG"
