"""Data-parallel training on several processes, ranks, with bit-identical weights for any number of them (extra: ``mpi``)."""

from rnnfast.distributed.mpi import MPI
from rnnfast.distributed.ranks import RankFailed, Ranks

__all__ = ["MPI", "RankFailed", "Ranks"]
