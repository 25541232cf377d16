"""Prints how many lines of the readers of files run in the tests, and fails below 95%.

    cmake --preset coverage && cmake --build --preset coverage && python tools/reader_coverage.py

Runs the C++ tests and the fuzzers' kept inputs, compiled by clang 16, and the tests of the ARPA reader, which is Python, under PyPI's coverage.
Needs Debian's clang-16, libclang-rt-16-dev, llvm-16 and doctest-dev: ``nox -s coverage`` does all of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "coverage"
LEAST = 95.0
SOURCES = [
    *(f"files/{name}.cpp" for name in ("json", "safetensors", "sparse_tensors", "model_file", "options")),
    *(f"files/{name}.cpp" for name in ("vocabulary", "lower_case", "system_file")),
    "models/sampler.cpp",  # saved samplers; api/api.cpp and api/api_network.cpp read states, among much else
    *(f"api/{name}.cpp" for name in ("api_layers", "api_estimators", "api_forecaster")),
]
ARPA = "python/rnnfast/markov/arpa.py"
CORPORA = {"json": [], "model": ["corpus"], "state": [], "vocabulary": ["vocabulary_corpus"]}


def run(*command: object, **environment: str) -> str:
    variables = {**os.environ, **environment}
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, env=variables).stdout


def programs() -> dict[Path, list[object]]:
    """Each program, with the arguments that make it read what is kept."""
    commands: dict[Path, list[object]] = {BUILD / "tests" / "cpp" / "rnnfast_tests": []}
    for reader, corpora in CORPORA.items():
        kept = [ROOT / "tests" / "fuzz" / name for name in corpora]
        commands[BUILD / "tests" / "fuzz" / f"fuzz_{reader}"] = ["-runs=0", *kept]
    return commands


def cpp_lines() -> dict[str, tuple[int, int]]:
    """(lines, lines that ran) of each of SOURCES."""
    profiles = []
    for program, arguments in programs().items():
        profiles.append(BUILD / f"{program.name}.profraw")
        run(program, *arguments, LLVM_PROFILE_FILE=str(profiles[-1]), RNNFAST_ISA="baseline")
    merged = BUILD / "all.profdata"
    run("llvm-profdata-16", "merge", "-sparse", *profiles, "-o", merged)
    first, *others = programs()
    objects = [option for other in others for option in ("-object", other)]
    files = [ROOT / "cpp" / "src" / name for name in SOURCES]
    text = run(
        "llvm-cov-16", "export", "-summary-only", f"-instr-profile={merged}", first, *objects, "-sources", *files
    )
    counts = {entry["filename"]: entry["summary"]["lines"] for entry in json.loads(text)["data"][0]["files"]}
    return {name: (counts[str(f)]["count"], counts[str(f)]["covered"]) for name, f in zip(SOURCES, files)}


def arpa_lines() -> tuple[int, int]:
    """Of the reader and writer of ARPA files, in the installed package."""
    data = {"COVERAGE_FILE": str(BUILD / "arpa.coverage")}
    command = [sys.executable, "-m", "coverage"]
    run(*command, "run", "--include=*/markov/arpa.py", "-m", "pytest", "-q", "tests/python/test_ngram.py", **data)
    run(*command, "json", "-q", "-o", BUILD / "arpa.json", **data)
    totals = json.loads((BUILD / "arpa.json").read_text(encoding="utf-8"))["totals"]
    return totals["num_statements"], totals["covered_lines"]


def main() -> int:
    rows = {**cpp_lines(), ARPA: arpa_lines()}
    print("| reader | lines | that ran |\n| --- | ---: | ---: |")
    for name, (lines, ran) in rows.items():
        print(f"| `{name}` | {lines} | {100 * ran / lines:.1f}% |")
    low = [name for name, (lines, ran) in rows.items() if 100 * ran < LEAST * lines]
    if low:
        print(f"below {LEAST:.0f}%: {', '.join(low)}")
    return int(bool(low))


if __name__ == "__main__":
    sys.exit(main())
