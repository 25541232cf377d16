"""Peak memory of a training step: PyTorch's and ours, each in its own process.

glibc's limit for blocks that it maps by themselves is fixed, at 1 MB. By default it grows with the first large block that is freed; a peak
then depends on where small blocks happen to lie in the heap, and PyTorch's own varied by a third from process to process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import status


def peak(case: Any, side: int, threads: int) -> int:
    """Bytes that three training steps take in addition to model and data: gradients, and all that forward leaves for backward."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    program = case.make()[side]
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the current use
    before = status("VmRSS")
    for _ in range(3):
        program()
    return status("VmHWM") - before


def _output(command: list[str], environment: dict[str, str]) -> int:
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def memory_results(cases: Iterable[Any], threads: int) -> Iterable[dict[str, Any]]:
    """One result for each training case, of the best of three processes for each side."""
    if sys.platform != "linux":
        sys.exit("peak memory is read from Linux's /proc")
    for case in cases:
        if not case.name.startswith("train"):
            continue
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
        command = [sys.executable, "-m", "benchmarks.torch_models", "--peak-of", case.name, "--threads", str(threads)]
        found = [min(_output([*command, "--side", str(side)], environment) for _ in range(3)) for side in (0, 1)]
        theirs, ours = found
        yield {
            "name": case.name,
            "threads": threads,
            "torch_bytes": theirs,
            "rnnfast_bytes": ours,
            "ratio": theirs / max(1, ours),
            "target": 1.0,
        }
