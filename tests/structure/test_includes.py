"""Includes and imports go one way; intrinsics, OpenMP and Python each have their one place."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "cpp" / "src"
# A folder includes only what is to its left; files/ is outside this order.
FLOORS = ["simd", "kernels", "runtime", "ops", "layers", "models", "api", "bindings"]
ALLOWED = {
    floor: {*FLOORS[: i + 1], *(["files"] if i >= FLOORS.index("models") else [])} for i, floor in enumerate(FLOORS)
}
ALLOWED["files"] = {"kernels", "runtime", "ops", "files"}
# What a folder or a module at the top of the Python package may import besides itself and SMALL.
SMALL = {"_arrays", "_expect", "_typing", "files", "html", "protocols"}
IMPORTS = {
    "_expect": set(),
    "_arrays": {"_expect"},
    "_moved": set(),
    "_typing": set(),
    "files": {"_expect"},
    "html": set(),
    "plot": SMALL,
    "presets": set(),
    "_names": set(),
    "protocols": {"_names", "files", "text"},  # text for types alone
    "bleu": SMALL,
    "text": SMALL,
    "markov": {*SMALL, "text"},
    "distributed": {*SMALL, "_core"},
    "info": {*SMALL, "_core", "distributed"},
    "pickling": {*SMALL, "_core"},
    "nn": {*SMALL, "_core", "pickling"},
    "models": {*SMALL, "_core", "distributed", "nn", "text"},
    "evaluate": {*SMALL, "distributed", "models", "nn", "text"},
    "generate": {*SMALL, "_core", "distributed", "models", "nn", "text"},
    "translate": {*SMALL, "_core", "models", "nn", "plot", "text"},
    "train": {*SMALL, "_core", "distributed", "evaluate", "models", "nn", "plot", "text"},
    "estimators": {*SMALL, "_core", "distributed", "models", "nn", "plot", "text", "train"},
    "io": {*SMALL, "_core", "estimators", "markov", "models"},
    "torch": {*SMALL, "_core", "info"},
    "interop": {*SMALL, "info", "models", "nn"},
    "reference": {*SMALL, "nn"},
    "study": {*SMALL, "info", "models", "nn", "plot", "reference", "text", "train", "translate"},
}
ABOVE = {"__init__", "__main__", "cli", "commands"}  # which may import all of these


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


def test_one_place_fills_a_cell_kernel_s_arguments():
    """Whatever walks over time calls forward_step and backward_step; only they know the kernels' descriptors."""
    files = [f for f in cpp_files("src", "bindings") if "kernels" not in f.parts]
    for descriptor in ("CellForward", "CellBackward"):
        filled = [f.name for f in files for _ in re.findall(rf"\b{descriptor} \w+;", f.read_text())]
        assert filled == ["scan_step.cpp"], descriptor


def test_public_headers_expose_no_isa_openmp_or_third_party():
    for file in cpp_files("include"):
        assert not re.search(
            r"__AVX|__SSE|__ARM|_OPENMP|#include \"(simd|kernels|runtime|ops|layers|models|files|api)/",
            file.read_text(),
        ), file


PACKAGE = ROOT / "python" / "rnnfast"


def python_modules():
    """Every module of the package by its dotted name, without the package's."""
    return {".".join(f.relative_to(PACKAGE).with_suffix("").parts): f for f in sorted(PACKAGE.rglob("*.py"))}


def python_imports(file, *, types=True):
    """The modules of the package that a file imports, by their dotted names; those that only types need if ``types``."""
    found = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if not types:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rnnfast":
            module = node.module.partition(".")[2]
            names = {".".join(filter(None, (module, alias.name))) for alias in node.names}
            found |= {name if name in MODULES else module or name for name in names}
    return found


MODULES = python_modules()


@pytest.mark.parametrize("place", IMPORTS)
def test_python_imports_point_down(place):
    for name, file in MODULES.items():
        if name.partition(".")[0] == place:
            extra = {module.partition(".")[0] for module in python_imports(file)} - IMPORTS[place] - {place}
            assert not extra, f"{name} imports {extra}"


def test_python_modules_do_not_import_one_another_in_circles():
    graph = {
        name: python_imports(file, types=False) & set(MODULES) for name, file in MODULES.items() if name not in ABOVE
    }
    list(graphlib.TopologicalSorter(graph).static_order())


def test_every_python_module_has_its_place():
    assert {name.partition(".")[0] for name in MODULES} - ABOVE == set(IMPORTS)


def test_only_the_command_line_knows_its_commands():
    for name, file in MODULES.items():
        places = {module.partition(".")[0] for module in python_imports(file)}
        if name.partition(".")[0] != "commands":
            assert name == "cli" or "commands" not in places, name
        else:
            assert "cli" not in places, name


def test_only_three_files_ask_for_the_operating_system():
    """Memory, forks, signals and cores: runtime/system.cpp. Instructions: runtime/cpu_features.cpp. Files: files/system_file.cpp."""
    systems = re.compile(r"\b(_WIN32|__linux__|__APPLE__|__unix__)\b|<(unistd|pthread|sched|sys/\w+|windows)\.h>")
    found = {p.relative_to(SOURCES).as_posix() for p in SOURCES.rglob("*.*") if systems.search(p.read_text("utf-8"))}
    assert found == {"runtime/system.cpp", "runtime/cpu_features.cpp", "files/system_file.cpp"}
