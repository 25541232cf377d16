"""The build and the machine: compiler, instruction sets, threads."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import numpy as np

from rnnfast import _core
from rnnfast._arrays import between
from rnnfast.distributed.mpi import started_ranks


def set_num_threads(threads: int) -> None:
    """Sets the number of threads of all computations; results are bit-identical for any number.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    _core.set_num_threads(between(threads, 1, 4096, "threads"))


def get_num_threads() -> int:
    """The number of threads. The default is the minimum of RNNFAST_NUM_THREADS, OMP_NUM_THREADS and the cores that this process
    may use, by its affinity and its container's CPU quota.

    >>> get_num_threads() >= 1
    True
    """
    return int(_core.num_threads())


def _openmp_runtimes() -> list[str]:
    """OpenMP libraries loaded by this process; two of them slow each other down severely."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    found = re.findall(
        r"\S*/lib(?:gomp|iomp5|omp)[^/\s]*\.so[^\s]*", maps.read_text(encoding="utf-8", errors="replace")
    )
    return sorted(set(found))


def info() -> dict[str, Any]:
    """Version, compiler, ISAs built / supported / active, those with other bits that only ``RNNFAST_ISA`` selects
    (``isas_on_request``), the class of results (``bits``: fused or unfused multiply-adds, or fused with bf16 in tiles; one class
    has the same bits), threads, cores allowed, the container's CPU quota in cores (None: no limit), OpenMP runtimes in this
    process, ranks that ``mpiexec`` has started (1 without it).

    >>> sorted(info())[:4]
    ['bits', 'compiler', 'cores_allowed', 'cpu_quota']
    """
    runtimes = _openmp_runtimes()
    return {
        **_core.info(),
        "openmp_runtimes": runtimes,
        "ranks": started_ranks(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
