"""The same cases under pytest-benchmark: ``pytest benchmarks --benchmark-enable``."""

from __future__ import annotations

import pytest

from benchmarks.cases import Case, forward, language_model, train
from benchmarks.measure import check_outputs

CASES = {
    "forward": lambda: forward("RNN", 35, 32, 28, 256),
    "train": lambda: train("RNN", 35, 32, 28, 256),
    "language_model": lambda: language_model("RNN", 35, 32, 28, 0, 256, 1),
}


@pytest.mark.parametrize("peer", ["rnnfast", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_speed(benchmark, name, peer):
    case: Case = CASES[name]()
    if peer not in case.programs:
        pytest.skip(f"{peer} is not installed")
    check_outputs(case)
    benchmark.group = case.name
    benchmark(case.programs[peer])
