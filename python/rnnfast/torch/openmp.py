"""Whether PyTorch and rnnfast share one OpenMP runtime. Threads of one spin while the other's want their cores."""

from __future__ import annotations

from pathlib import Path

import torch

from rnnfast.info import info


def two_runtimes() -> list[str]:
    """rnnfast's runtime and PyTorch's own, if these are two files; else nothing."""
    found = info()
    ours = found["openmp_library"]
    folder = str(Path(torch.__file__).parent)
    theirs = [path for path in found["openmp_runtimes"] if path.startswith(folder)]
    return [ours, *theirs] if ours and theirs and Path(ours).resolve() not in map(Path, theirs) else []
