"""Compares this revision with another one, interleaved in one run: ``python -m benchmarks compare REV [kinds ...]``.

REV is a revision of this repository, which is built first, or a folder that ``pip install --target`` put a revision in.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.cases import KINDS, all_cases, chosen
from benchmarks.measure import ROOT, Worker, WorkerFailed, measure
from benchmarks.report import aligned, geometric_mean, unit_of

WIDTHS = [46, 8, 12, 12, 8, 8, 0]


def build(revision: str, folder: Path) -> Path:
    """Checks out the revision and builds it with pip in its own folder."""
    source, target = folder / "source", folder / "site"
    git = ["git", "-C", str(ROOT)]
    subprocess.run([*git, "worktree", "add", "--detach", "--quiet", str(source), revision], check=True)
    try:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        # If the build tools are installed, the build needs no download.
        ready = subprocess.run([sys.executable, "-c", "import scikit_build_core, pybind11"], capture_output=True)
        pip += ["--no-build-isolation"] * (ready.returncode == 0)
        subprocess.run([*pip, str(source)], check=True)
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(source)], check=True)
    return target


def main(args: argparse.Namespace) -> None:
    if len(args.what) < 2:
        args.parser.error("compare needs a revision: python -m benchmarks compare main")
    revision, kinds = args.what[1], args.what[2:] or ["layers", "train"]
    for kind in set(kinds) - set(KINDS):
        args.parser.error(f"unknown kind {kind!r}: expected some of {', '.join(KINDS)}")
    cases = chosen(list(all_cases(kinds, args.cells, args.grid)), args.cases)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(revision).resolve() if Path(revision).is_dir() else build(revision, Path(folder))
        for threads in args.threads:
            _compare(args, revision, site, [case for case in cases if threads == 1 or case.kind != "stream"], threads)


def _compare(args: argparse.Namespace, revision: str, site: Path, cases: list, threads: int) -> None:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    workers = {"this": Worker("rnnfast", threads), revision: Worker("rnnfast", threads, {"PYTHONPATH": path})}
    ratios = []
    try:
        where = Path(workers[revision].ask("where")["file"])
        if site not in where.parents:
            raise WorkerFailed(
                f"the other revision was imported from {where}, not from {site}; it cannot replace an editable install"
            )
        if not args.json:
            print(aligned(["case", "threads", "this", revision, "ratio", "of best", ""], WIDTHS), flush=True)
        for case in cases:
            try:
                measured = measure(workers, case, args.seconds)
            except WorkerFailed as failed:  # a case that the other revision does not know
                print(f"{case.name}: {str(failed).strip().splitlines()[-1]}", file=sys.stderr)
                continue
            if len(measured.times) < 2:
                print(f"{case.name}: {measured.skipped | measured.wrong}", file=sys.stderr)
                continue
            median = {name: statistics.median(times) for name, times in measured.times.items()}
            best = {name: min(times) for name, times in measured.times.items()}
            ratios.append(median[revision] / median["this"])
            if args.json:
                line = {"case": case.name, "threads": threads, "revision": revision, "ratio": ratios[-1]}
                print(json.dumps({**line, "median": median, "best": best}), flush=True)
                continue
            scale = 1e6 if case.kind == "stream" else 1e3
            times = [f"{median[name] * scale:.3f} {unit_of(case.kind)}" for name in workers]
            of_best = best[revision] / best["this"]
            note = "slower" if max(ratios[-1], of_best) < 0.98 else ""
            cells = [case.name, str(threads), *times, f"{ratios[-1]:.3f}", f"{of_best:.3f}", note]
            print(aligned(cells, WIDTHS), flush=True)
        if ratios and not args.json:
            print(f"geometric mean: this revision is {geometric_mean(ratios):.3f} times as fast as {revision}")
    finally:
        for worker in workers.values():
            worker.close()
