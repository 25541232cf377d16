"""The code in the documents runs unchanged."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)


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
def test_the_tour_runs_and_its_network_forecasts_better_than_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("docs/python.md"):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert (tmp_path / "model.safetensors").exists()
    fresh = names["series"][300:]
    assert names["forecaster"].score(fresh) > 0.9 > names["linear"].score(fresh)


def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_is_short_beside_its_code():
    text = re.sub(r"^```.*?^```", "", readme(), flags=re.DOTALL | re.MULTILINE)
    words = re.findall(r"[^\W_]+(?:['’.-][^\W_]+)*", re.sub(r"\]\([^)]*\)", "]", text))
    assert len(words) < 600


# What the fragments of C++ in the documents use without declaring it.
NAMES = """
#include <vector>
#include <rnnfast/estimators.hpp>
#include <rnnfast/network.hpp>
#include <rnnfast/rnnfast.hpp>
extern const rnnfast::Network network;
extern const rnnfast::NetworkData* inputs;
extern rnnfast::NetworkState* const* states;
extern const std::vector<int32_t> ids;
extern const int64_t* lengths;
extern const float *x, *xs;
extern float *y, *ys, *const* outputs;
extern const double *measured, *series;
extern double* next;
extern const size_t steps, rows, count;
"""


@pytest.mark.parametrize("document", ["README.md", "docs/deploy.md", "docs/cpp.md"])
def test_the_cpp_of_the_documents_compiles(tmp_path, document):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    found = re.findall(r"^```cpp\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found
    for number, code in enumerate(found):
        fragment = re.sub("^#include.*\n", "", code, flags=re.MULTILINE)
        program = code if "int main()" in code else f"{NAMES}\nvoid fragment() {{\n{fragment}}}\n"
        (tmp_path / f"{number}.cpp").write_text(program)
    command = [compiler, "-std=c++17", "-fsyntax-only", f"-I{ROOT / 'cpp' / 'include'}", *tmp_path.glob("*.cpp")]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


def test_readme_s_figures_are_those_of_the_benchmark():
    tables = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for case, ours, other in (
        ("train LSTM 35x32x256x256 | 1", "36.612", "41.201"),
        ("forward GRU 35x32x256x256 | 1", "8.342", "9.457"),
        ("stream LSTM 1x1x256x256 | 1", "23.540", "33.881"),
        ("forward LSTM 64x64x512x512 bf16 | 1", "87.122", "83.707"),
    ):
        (line,) = [line for line in tables.splitlines() if line.startswith(f"| {case}") and ours in line]
        assert other in line
        assert f"{float(other) / float(ours):.2f}" in readme()


def ratios_of_speed():
    """Ratios to PyTorch and to the fastest other framework on one thread, by kind of case, from the tables of docs/performance.md."""
    found, columns = {}, []
    for line in (ROOT / "docs" / "performance.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "case":
            columns = cells
        elif match := re.match(r"\| (forward|train|stream|lm) \S+ (?:\d+x(\d+)x|T=)\S* .*\| 1 \|", line):
            one_row = match[2] == "1" and match[1] in ("forward", "train")
            kind = "bf16" if "bf16" in cells[0] else match[1] + ", one row" * one_row
            for other in ("×PyTorch", "×fastest"):
                value = dict(zip(columns, cells)).get(other)
                found.setdefault((kind, other), []).extend([float(value)] if value else [])
    return found


def test_the_summary_of_speed_is_that_of_its_tables():
    def summary(values):
        """Lowest, geometric mean, highest."""
        mean = math.exp(sum(map(math.log, values)) / len(values)) if values else 0
        return f"{min(values):.2f}, {mean:.2f}, {max(values):.2f}" if values else ""

    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8").partition("## Run it")[0]
    ratios = ratios_of_speed()
    for kind, name in {
        "forward, one row": "forward, one row", "forward": "forward, 8 rows and more",
        "train, one row": "training, one row", "train": "training, 8 rows and more",
        "stream": "one step of a stream", "lm": "training step of a language model", "bf16": "forward in bf16",
    }.items():  # fmt: skip
        torch, fastest = ratios[kind, "×PyTorch"], ratios[kind, "×fastest"]
        assert f"| {name} | {len(fastest)} | {summary(torch)} | {summary(fastest)} |" in text


def test_the_code_for_pytorch_models_runs():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    names = {}
    for block in blocks("docs/torch.md"):
        exec(compile(block, "docs/torch.md", "exec"), names)


def test_the_code_for_several_processes_runs():
    names = {}
    for block in blocks("docs/distributed.md"):
        exec(compile(block, "docs/distributed.md", "exec"), names)


def test_the_code_for_layers_without_a_recurrent_product_runs():
    names = {}
    for block in blocks("docs/scans.md"):
        exec(compile(block, "docs/scans.md", "exec"), names)


def test_the_code_for_networks_of_other_frameworks_runs(tmp_path, monkeypatch):
    for package in ("torch", "onnx"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("docs/exchange.md"):
        exec(compile(block, "docs/exchange.md", "exec"), names)


@pytest.mark.fault("C13")
@pytest.mark.parametrize("document", ["docs/language-models.md", "docs/translation.md"])
def test_the_tutorials_print_what_they_say_and_draw_their_pictures(tmp_path, monkeypatch, data_folder, document):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    names, printed = {}, []
    for block in blocks(document):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block, document, "exec"), names)
        printed.append(out.getvalue())
    wrong = pages.differences(ROOT / document, printed)
    assert not wrong, "\n".join(wrong)
    shown = set(re.findall(r"\]\((pictures/.*?)\)", (ROOT / document).read_text(encoding="utf-8")))
    assert shown == {f"pictures/{file.name}" for file in (tmp_path / "pictures").iterdir()}
    assert all((ROOT / "docs" / picture).exists() for picture in shown)
    for picture in shown:
        assert (tmp_path / picture).read_bytes()[:4] == b"\x89PNG"
