"""The soak tests, for seconds: ``nox -s soak`` runs them for an hour."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rnnfast as rf

ROOT = Path(__file__).parents[2]
if not sys.platform.startswith("linux"):
    pytest.skip("resident memory is read from /proc", allow_module_level=True)


@pytest.fixture
def soak():
    spec = importlib.util.spec_from_file_location("soak", ROOT / "tests" / "soak" / "soak.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(printed):
    """Rounds, models loaded, wrong results, of the first line."""
    return [int(n) for n in re.search(r": (\d+) rounds, .*?(\d+) models loaded, (\d+) wrong", printed).groups()]


def test_threads_of_python_get_the_same_bits_throughout(soak, capsys, monkeypatch):
    monkeypatch.setattr(soak, "MOST_GROWTH", 1000)  # within two seconds, the memory is not at rest
    assert soak.main(2, 4) == 0
    printed = capsys.readouterr().out
    rounds, _, wrong = table(printed)
    assert rounds > 0
    assert wrong == 0
    assert len(printed.splitlines()) == 5


def test_other_bits_an_error_and_more_memory_are_found(soak, capsys, monkeypatch):
    monkeypatch.setattr(soak, "MOST_GROWTH", 1000)
    for name, broken in (("stream", lambda _: object()), ("loaded", lambda *_: 1 / 0)):
        with monkeypatch.context() as patch:
            patch.setattr(soak.Soak, name, broken)
            assert soak.main(2, 2) == 1
            assert table(capsys.readouterr().out)[2] > 0
    monkeypatch.setattr(soak, "MOST_GROWTH", -1000)
    assert soak.main(1, 1) == 1


@pytest.mark.slow
def test_threads_of_cpp_get_the_same_bits_throughout(tmp_path):
    if Path(rf.__file__).is_relative_to(ROOT / "python"):
        pytest.skip("an editable install has no C++ library")
    run = subprocess.run([sys.executable, "-m", "rnnfast", "--cmake-dir"], capture_output=True, text=True, check=True)
    library = Path(run.stdout.rstrip("\n")).parents[1] / "librnnfast.a"
    subprocess.run(
        ["c++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{library.parents[1] / 'include'}",
         ROOT / "tests" / "soak" / "soak.cpp", library, "-fopenmp", "-o", tmp_path / "soak"], check=True,
    )  # fmt: skip
    command = [tmp_path / "soak", ROOT / "tests" / "golden", "3", "4"]
    done = subprocess.run([*command, "1000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rounds, loads, wrong = table(done.stdout)
    assert rounds > loads > 0
    assert wrong == 0
    assert subprocess.run([*command, "-1000"], capture_output=True).returncode == 1
