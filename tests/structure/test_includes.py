"""Includes and imports go one way; intrinsics, OpenMP and Python each have their one place."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "cpp" / "src"
# A folder includes only what is to its left; files/ stands beside them.
FLOORS = ["simd", "kernels", "runtime", "ops", "layers", "models", "api", "bindings"]
ALLOWED = {
    floor: {*FLOORS[: i + 1], *(["files"] if i >= FLOORS.index("models") else [])} for i, floor in enumerate(FLOORS)
}
ALLOWED["files"] = {"kernels", "runtime", "ops", "files"}
# The same for Python modules; what stands together may import one another only in the order given.
IMPORTS = {
    "_expect": set(),
    "_arrays": set(),
    "text": {"_arrays"},
    "files": {"text"},
    "vocab": {"_arrays", "files", "text"},
    "mapped": {"files", "text", "vocab"},
    "data": {"_arrays", "mapped", "text", "vocab"},
    "parallel": {"_arrays", "data", "text", "vocab"},
    "bleu": set(),
    "datasets": set(),
    "grams": set(),
    "arpa": {"files", "grams", "text", "vocab"},
    "ngram": {"_arrays", "arpa", "data", "grams", "text", "vocab"},
    "plot": {"files", "text"},
    "schedules": set(),
    "tensorboard": {"text"},
    "callbacks": {"tensorboard", "text"},
    "history": {"html", "plot", "text"},
    "progress": set(),
    "html": set(),
    "info": {"_core", "_arrays"},
    "pickling": {"_core", "_arrays"},
    "nn": {"html", "_core", "_arrays", "pickling"},
    "sequence": {"_core", "_arrays", "nn"},
    "cells": {"_core", "_arrays", "nn"},
    "optim": {"_core", "_arrays", "nn"},
    "compare": {"info", "nn", "plot", "sequence", "text"},
    "compare_text": {"data", "info", "nn", "optim", "plot", "sequence", "text"},
    "models": {"_core", "_arrays", "files", "nn", "text", "vocab"},
    "seq2seq": {"_core", "_arrays", "models", "nn", "text", "vocab"},
    "samples": {"_arrays"},
    "estimator": {"_core", "_arrays", "models", "nn", "optim", "text"},
    "forecast": {"_arrays", "estimator", "nn", "plot", "samples", "text"},
    "classify": {"_arrays", "estimator", "nn", "plot", "samples", "text", "vocab"},
    "io": {"_core", "classify", "forecast", "models", "ngram", "nn", "seq2seq", "text", "vocab"},
    "checkpoint": {"_core", "data", "io", "nn", "parallel", "text"},
    "evaluate": {"html", "_arrays", "data", "parallel", "text"},
    "gradient_flow": {"html", "_arrays", "nn", "plot", "text"},
    "generate": {"_core", "_arrays", "text", "vocab"},
    "translate": {"_core", "_arrays", "nn", "parallel", "plot", "text"},
    "train": {
        "_core",
        "_arrays",
        "callbacks",
        "checkpoint",
        "data",
        "evaluate",
        "files",
        "history",
        "optim",
        "progress",
        "schedules",
        "text",
    },  # fmt: skip
}


def cpp_files(*folders):
    files = [f for folder in folders for f in sorted((ROOT / "cpp" / folder).rglob("*")) if f.is_file()]
    assert files
    return files


def floor_of(file):
    """The first folder below cpp/src, or bindings."""
    return file.relative_to(SOURCES).parts[0] if SOURCES in file.parents else file.parent.name


def test_cpp_includes_point_to_the_left():
    for file in cpp_files("src", "bindings"):
        for folder in re.findall(r'#include "(\w+)/', file.read_text()):
            assert folder in ALLOWED[floor_of(file)] | {"rnnfast"}, f"{file} includes {folder}/"


def test_internal_code_lives_in_the_inner_namespace():
    """Public names live in rnnfast::v1 (api/ and the public headers), all others in rnnfast::core."""
    for file in cpp_files("src"):
        for name in re.findall(r"^namespace (rnnfast[\w:]*)", file.read_text(), re.MULTILINE):
            assert name.startswith("rnnfast::core") or floor_of(file) == "api", f"{file} opens namespace {name}"


def test_kernel_files_include_only_sizes_and_simd():
    for file in cpp_files("src/kernels"):
        for name in re.findall(r"#include <(.+)>", file.read_text()):
            assert name in {"cstddef", "cstdint"}, f"{file} includes <{name}>"


def test_intrinsics_openmp_and_python_have_one_place_each():
    for file in cpp_files("src", "bindings", "include"):
        text = file.read_text()
        if file.parent.name != "simd":
            assert not re.search(r"<(immintrin|arm_neon|x86intrin)\.h>|\b_mm\d*_", text), file
        if file.stem != "parallel":
            assert not re.search(r"#pragma omp|<omp\.h>|\bomp_\w+\(", text), file
        if file.parent.name != "bindings":
            assert "pybind11" not in text, file
            assert "Python.h" not in text, file


def test_public_headers_show_no_isa_openmp_or_third_party():
    for file in cpp_files("include"):
        assert not re.search(
            r"__AVX|__SSE|__ARM|_OPENMP|#include \"(simd|kernels|runtime|ops|layers|models|files|api)/",
            file.read_text(),
        ), file


def python_imports(file):
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "rnnfast":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rnnfast."):
            found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("module", IMPORTS)
def test_python_imports_point_down(module):
    extra = (
        python_imports(ROOT / "python" / "rnnfast" / f"{module}.py") - IMPORTS[module] - {"_expect"}
    )  # which all may ask
    assert not extra, f"{module} imports {extra}"


def test_every_python_module_has_its_place():
    modules = {f.stem for f in (ROOT / "python" / "rnnfast").glob("*.py")}
    assert modules - {"__init__", "__main__", "cli"} == set(IMPORTS)


def test_only_the_command_line_knows_its_commands():
    package = ROOT / "python" / "rnnfast"
    for file in package.glob("*.py"):
        assert file.stem == "cli" or "commands" not in python_imports(file), file
    for file in (package / "commands").glob("*.py"):
        assert "cli" not in python_imports(file), file
