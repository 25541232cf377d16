"""The ranks on which a command trains."""

from __future__ import annotations

from typing import Any, Literal

from rnnfast.distributed import MPI, Ranks
from rnnfast.distributed.mpi import started_ranks


def ranks_of(
    shards: int | None, *, threads: int | None, compress: Literal["bf16"] | None = None, **exchange: Any
) -> Ranks | None:
    """The ranks of this job, which mpiexec may have started; None without shards. ``exchange``: options of several ranks alone."""
    started = started_ranks()
    if not shards:
        if started > 1:
            raise ValueError(
                f"{started} ranks were started without --shards; give a power of two that {started} divides"
            )
        return None
    if started == 1:
        return Ranks(shards, compress=compress)
    return MPI(shards, compress=compress, threads=threads, **exchange)
