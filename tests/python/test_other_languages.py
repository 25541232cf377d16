"""The shared library in other languages: its symbols, and the examples in Rust, Go and Java, which write what Python writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rnnfast as rf

ROOT = Path(__file__).parents[2]
LANGUAGES = ["rust", "go", "java"]
JNA = Path("/usr/share/java/jna.jar")  # Debian's libjna-java


def run(*command, check=True, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, **options)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with the shared library, linked from the objects in the wheel, and the folder of its headers."""
    if Path(rf.__file__).is_relative_to(ROOT / "python"):
        pytest.skip("an editable install has no C++ library")
    printed = run(sys.executable, "-m", "rnnfast", "--cmake-dir").stdout.rstrip("\n")
    archive = Path(printed).parents[1] / "librnnfast.a"
    folder = tmp_path_factory.mktemp("library")
    run("c++", "-shared", "-fopenmp", "-Wl,--whole-archive", archive, "-Wl,--no-whole-archive", "-Wl,--gc-sections",
        f"-Wl,--version-script={ROOT / 'cmake' / 'rnnfast.map'}", "-o", folder / "librnnfast.so")  # fmt: skip
    return folder, Path(printed).parents[2] / "include"


@pytest.fixture(scope="module", params=LANGUAGES)
def generate(request, library, tmp_path_factory):
    """The command of the program, and the environment that finds the library."""
    compiler = {"rust": "cargo", "go": "go", "java": "javac"}[request.param]
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} on the PATH")
    if request.param == "java" and not JNA.exists():
        pytest.skip(f"no {JNA}: apt-get install libjna-java")
    libraries, headers = library
    folder = tmp_path_factory.mktemp(request.param)
    source = folder / "source"
    shutil.copytree(ROOT / "examples" / request.param, source)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "RNNFAST_LIB": str(libraries)}
    if request.param == "rust":
        run("cargo", "build", "--release", "--offline", "--target-dir", folder / "target", cwd=source, env=environment)
        return [folder / "target" / "release" / "generate"], environment
    if request.param == "java":
        classes = f"{JNA}{os.pathsep}{folder / 'classes'}"
        run("javac", "-Xlint:all", "-Werror", "-cp", JNA, "-d", folder / "classes", *source.glob("*.java"))
        return ["java", "-cp", classes, "Generate"], environment
    flags = {"CGO_CFLAGS": f"-I{headers}", "CGO_LDFLAGS": f"-L{libraries}", "GOFLAGS": "-mod=mod", "GOPROXY": "off"}
    run("go", "vet", ".", cwd=source, env={**environment, **flags})
    run("go", "build", "-o", folder / "generate", ".", cwd=source, env={**environment, **flags})
    return [folder / "generate"], environment


def test_the_program_writes_what_python_writes(generate, corpus, tmp_path):
    command, environment = generate
    model = rf.LanguageModel(corpus.vocab, cell="gru", hidden_size=24, embedding_size=8, seed=3)
    model.save(tmp_path / "model.safetensors")
    expected = rf.generate(model, "the time ", length=60, temperature=0.8, seed=7) + "\n"
    assert run(*command, tmp_path / "model.safetensors", "the time ", 60, 0.8, 7, env=environment).stdout == expected


def test_errors_of_the_library_reach_the_user(generate, tmp_path):
    command, environment = generate
    done = run(*command, tmp_path / "missing.safetensors", "a", check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path / 'missing.safetensors'}: cannot be opened")


def test_the_library_exports_every_cpp_symbol_that_it_did(library):
    """The names contain the types of all arguments, and the inline namespace. The C functions: tests/structure/test_abi.py."""
    found = run("nm", "-D", "--defined-only", library[0] / "librnnfast.so").stdout.splitlines()
    exported = {line.split()[-1] for line in found}
    kept = (ROOT / "tests" / "golden" / "abi" / "cpp_symbols.txt").read_text(encoding="utf-8").split()
    missing = [name for name in kept if name not in exported]
    assert (
        not missing
    ), "programs that were linked with the library before will not start: a new minor version may do that"
