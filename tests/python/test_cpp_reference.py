"""The reference of C++ and C: every declaration of the public headers is on the page with its documentation, and search finds it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADERS = sorted((ROOT / "cpp" / "include" / "rnnfast").glob("*.h*"))
WORD = re.compile(r"[A-Za-z_]\w*")
# Words of the code that declare nothing: what the library exports, its inner version, and inherited constructors.
FRAME = {"rnnfast", "C", "RNNFAST_API", "RNNFAST_C_API", "RNNFAST_H", "v1", "inline", "namespace", "class", "struct", "enum", "public", "private",
         "typedef", "using", "runtime_error", "invalid_argument", "Impl", "impl", "impl_", "extern", "define", "std", "return", "nullptr"}  # fmt: skip


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


headers = script("headers")


def entries(header):
    """All entries of a header, with the name of the class that each is in."""
    waiting = [("", entry) for entry in headers.read(header)[1]]
    while waiting:
        owner, entry = waiting.pop(0)
        yield owner, entry
        inner = entry.declarations[0].split()[0] if entry.inside else ""
        waiting += [(inner, each) for each in entry.inside]


def public_code(header):
    """The code of a header without comments, bodies, private parts, lines of the preprocessor, and what no program uses."""
    code = re.sub(r"/\*.*?\*/", "", re.sub(r"//.*", "", header.read_text(encoding="utf-8")), flags=re.DOTALL)
    code = re.sub(r"^#(?!define RNNFAST_ABI).*", "", code, flags=re.MULTILINE)
    code = re.sub(r"^private:.*?^\};", "};", code, flags=re.DOTALL | re.MULTILINE)
    code = re.sub(r"(?: : \w+\(\w+\))? \{[^{}\n]*;? ?\} *$", ";", code, flags=re.MULTILINE)
    return "".join(
        part for part in re.split(r"(?<=[;{}])", code) if not re.search(r"\bImpl\b|\bimpl\(\)|\busing\b", part)
    )


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_every_name_that_a_header_declares_is_in_an_entry(header):
    """Classes, functions with each of their overloads, parameters, types, members and enumerators."""
    code, shown = public_code(header), " ".join(d for _, entry in entries(header) for d in entry.declarations)
    assert set(WORD.findall(code)) - FRAME <= set(WORD.findall(shown))
    assert Counter(re.findall(r"(\w+)\(", code)) == Counter(re.findall(r"(\w+)\(", shown))


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_every_word_of_documentation_is_on_the_page(header):
    text = re.sub(r"^private:.*?^\};", "};", header.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    comments = re.findall(
        r"/\*.*?\*/" if header.suffix == ".h" else r"//.*", text, re.DOTALL if header.suffix == ".h" else 0
    )
    said = {word for comment in comments if "namespace" not in comment for word in WORD.findall(comment)}
    inner = set(
        "n v1 a program and library of different versions fail at link time not later".split()
    )  # of the inner namespace, and n of a line's end
    assert said - inner <= set(WORD.findall(headers.page(header).replace("\\", "")))


def test_functions_of_c_have_their_parameters_and_those_of_a_class_stand_in_it():
    functions = {
        d: entry
        for _, entry in entries(ROOT / "cpp/include/rnnfast/rnnfast.h")
        if entry.kind == "function"
        for d in entry.declarations
    }
    names = set(
        re.findall(
            r"\b(rnnfast_\w+)\(",
            re.sub(r"/\*.*?\*/", "", (ROOT / "cpp/include/rnnfast/rnnfast.h").read_text(), flags=re.DOTALL),
        )
    )
    assert {WORD.findall(d.partition("(")[0])[-1] for d in functions} == names
    assert len(names) > 80
    step = "void step(int32_t token, State& state, std::vector<float>& logits) const"
    found = [
        (owner, " ".join(entry.text))
        for owner, entry in entries(ROOT / "cpp/include/rnnfast/rnnfast.hpp")
        if step in entry.declarations
    ]
    assert found == [
        (
            "LanguageModel",
            "Reads one token and returns the logits of the next. Allocates and locks nothing after the first step of a state.",
        )
    ]


@pytest.mark.slow
def test_search_finds_classes_functions_and_parameters(tmp_path):
    """On a site of this page alone, built without a warning."""
    for package in ("sphinx", "myst_parser", "furo", "numpydoc", "ziamath"):
        pytest.importorskip(package, reason=f"{package} is not installed: the site is not built")
    source = tmp_path / "source"
    source.mkdir()
    page = (ROOT / "docs" / "cpp-reference.md").read_text(encoding="utf-8")
    (source / "index.md").write_text(re.sub(r"\]\([\w-]+\.md\)", "]", page), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-c",
        ROOT / "docs",
        source,
        tmp_path / "site",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    index = (tmp_path / "site" / "searchindex.js").read_text(encoding="utf-8")
    html = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    for name in (
        "LanguageModel",
        "generate",
        "step",
        "rnnfast_model_load",
        "RNNFAST_BAD_FILE",
        "no_repeat_ngram_size",
        "log_probabilities",
    ):
        assert f'"{name}"' in index or name.lower() in index, name
        assert name in html
    assert "Allocates and locks nothing after the" in html
