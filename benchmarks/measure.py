"""Timing two or more programs so that a drifting machine cannot favour one: A B A B ..., best and median of many."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

import rnnfast as rf
from benchmarks.cases import Case


def set_threads(threads: int) -> None:
    """The same number for everyone."""
    rf.set_num_threads(threads)
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)


def check_outputs(case: Case) -> float:
    """Largest difference of any peer's output from ours, relative to the largest output; fails above the tolerance."""
    outputs = {name: np.asarray(program(), np.float64) for name, program in case.programs.items()}
    ours = outputs["rnnfast"]
    worst = max(float(np.abs(o - ours).max() / np.abs(ours).max()) for o in outputs.values())
    if not worst < case.tolerance:
        raise AssertionError(f"{case.name}: outputs differ by {worst:.1e}, more than {case.tolerance:.0e}")
    return worst


def measure(case: Case, seconds: float) -> dict[str, Any]:
    """Interleaved times in milliseconds, the ratio of medians to each peer, and GFLOP/s."""
    difference = check_outputs(case)
    times: dict[str, list[float]] = {name: [] for name in case.programs}
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(times["rnnfast"]) < 5:
        for name, program in case.programs.items():
            started = time.perf_counter()
            program()
            times[name].append(time.perf_counter() - started)
    median = {name: statistics.median(t) for name, t in times.items()}
    best = {name: min(t) for name, t in times.items()}
    return {
        "case": case.name,
        "threads": rf.get_num_threads(),
        "rounds": len(times["rnnfast"]),
        "difference": difference,
        "median_ms": {name: 1e3 * t for name, t in median.items()},
        "best_ms": {name: 1e3 * t for name, t in best.items()},
        "gflops": {name: case.flops / t / 1e9 for name, t in best.items()},
        "ratio": {name: t / median["rnnfast"] for name, t in median.items() if name != "rnnfast"},
        "best_ratio": {name: t / best["rnnfast"] for name, t in best.items() if name != "rnnfast"},
    }
