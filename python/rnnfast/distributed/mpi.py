"""Ranks on MPI, by mpi4py (extra: ``mpi``). MPI only moves data: no MPI promises an order of summation, so the sums are ours."""

from __future__ import annotations

import atexit
import math
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._arrays import positive
from rnnfast.distributed.ranks import Flat, Numbers, RankFailed, Ranks, Value, tree_sum_

_FAILED, _BEAT = 1, 2  # tags of messages
_BEAT_SECONDS = 0.5
_SPIN_SECONDS = 0.005  # a wait polls this long before it sleeps between polls
_NAP_SECONDS = 1e-4
_LONG_NAP_SECONDS = 1e-3  # alongside a thread that computes, from which every look at the messages takes time
_LISTEN_SECONDS = 0.05
_NEAR_PIECE = 1 << 18  # numbers a rank: within one machine, messages are copies, which caches make faster
_STOPPED_SECONDS = 1.0
_GRACE_SECONDS = 2.0  # for the rank that failed to print its error, before the others end the job
# The variables by which starters of MPI programs tell a process how many there are: MPICH and Intel MPI, Open MPI, Slurm.
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
_THREADS = ("RNNFAST_NUM_THREADS", "OMP_NUM_THREADS")


class MPI(Ranks):
    """The ranks that ``mpiexec`` has started, each with the same program; for ``rf.fit(..., distributed=rf.distributed.MPI(shards=4))``.

    Every rank makes one, at the same place of the program. The number of ranks divides ``shards``.

    Parameters
    ----------
    shards : groups of rows of a batch, a power of two. The weights after training depend on it, but not on the number of ranks
    compress : ``"bf16"``: every sum of the tree is rounded to bfloat16, so ranks exchange half the bytes; the result has other bits, which
        do not depend on the number of ranks either. None: float32
    overlap : add completed gradients over the ranks in a thread while backward computes the others; the bits are the same without. None:
        if the ranks are on several machines, or their threads leave cores of this one idle. Otherwise the exchange is a copy by the
        cores that compute, and cannot be hidden
    split_optimizer : each rank holds the optimizer's state of its share of the weights and moves these alone, then all ranks exchange
        the weights. The bits are the same; the memory of Adam falls from 8 bytes a weight to 8 / ranks, and half as many bytes are
        exchanged again
    timeout : seconds of silence after which the other ranks give up a rank. A thread of every rank reports twice a second that the
        process is alive, also during long computations
    threads : of this rank; None: ranks on one machine share its cores, unless MPI has bound them to separate cores or
        ``RNNFAST_NUM_THREADS`` or ``OMP_NUM_THREADS`` is set

    Raises ``ImportError`` without mpi4py or an MPI library.

    >>> ranks = MPI(shards=4)  # doctest: +SKIP
    >>> history = rf.fit(model, corpus, distributed=ranks)  # doctest: +SKIP
    """

    def __init__(
        self,
        shards: int,
        *,
        compress: Literal["bf16"] | None = None,
        overlap: bool | None = None,
        split_optimizer: bool = False,
        timeout: float = 8.0,
        threads: int | None = None,
    ) -> None:
        super().__init__(shards, compress=compress)
        if not timeout > 2 * _BEAT_SECONDS:
            raise ValueError(f"timeout is {timeout}, expected more than {2 * _BEAT_SECONDS:g} seconds")
        self._mpi = library()
        world = self._mpi.COMM_WORLD
        self.rank, self.size = world.Get_rank(), world.Get_size()
        if shards % self.size:
            fit = ", ".join(str(n) for n in (2**i for i in range(self.shards.bit_length())) if n <= self.shards)
            raise ValueError(f"shards is {shards}, which {self.size} ranks do not divide: start {fit} ranks")
        self.timeout = float(timeout)
        self._data, self._control = world.Dup(), world.Dup()
        self._buffers: dict[str, NDArray[Any]] = {}
        self._heard = self._listened = time.monotonic()
        self._broken = self._told = False  # whether the job has failed, and whether another rank reports it
        self._closing = threading.Event()
        self._beating: threading.Thread | None = None
        self.exchanged = 0  # bytes that this rank has sent
        here = share_cores(threads)
        self.near = 1 < self.size == here.ranks
        overlap = not self.near or here.threads < here.cores if overlap is None else overlap
        several = self.size > 1 and self._mpi.Query_thread() == self._mpi.THREAD_MULTIPLE
        self.overlaps, self.splits_optimizer = overlap and several, split_optimizer and self.size > 1
        if several:
            self._beating = threading.Thread(target=self._beat, name="rnnfast-heartbeat", daemon=True)
            self._beating.start()
        atexit.register(self._close)

    def __repr__(self) -> str:
        return f"MPI(shards={self.shards}, rank={self.rank}, size={self.size})"

    # Moving data

    def add_(self, flat: Flat, factor: float = 1.0) -> None:
        if self.size == 1:
            super().add_(flat, factor)
            return
        started = time.monotonic()
        if self.compress is not None:
            self._add_rounded(flat)
            super().add_(flat, factor)
        elif self.near and not self.overlaps:
            piece = _NEAR_PIECE * self.size
            for first in range(0, len(flat), piece):
                self._add_near(flat[first : first + piece], factor)
        else:
            slices = self._buffer("slices", (self.size, len(flat) // self.size), np.float32)
            self._wait(self._data.Ialltoall(flat, slices))
            total = tree_sum_(slices)
            super().add_(total, factor)
            self._wait(self._data.Iallgather(total, flat))
        self.exchanged += 2 * (self.size - 1) * (flat.nbytes // (2 if self.compress else 1)) // self.size
        self.seconds += time.monotonic() - started

    def _add_near(self, flat: Flat, factor: float) -> None:
        """The same among the ranks of one machine: the slice of this rank is not copied."""
        every = flat.reshape(self.size, -1)
        received = self._buffer("slices", every.shape, np.float32)
        others, own = [rank for rank in range(self.size) if rank != self.rank], every[self.rank]
        waiting = [self._data.Irecv(received[rank], rank) for rank in others]
        waiting += [self._data.Isend(every[rank], rank) for rank in others]
        for request in waiting:
            self._wait(request)
        rows = [own if rank == self.rank else received[rank] for rank in range(self.size)]
        super().add_(tree_sum_(rows, out=own), factor)
        waiting = [self._data.Irecv(every[rank], rank) for rank in others]
        waiting += [self._data.Isend(own, rank) for rank in others]
        for request in waiting:
            self._wait(request)

    def _add_rounded(self, flat: Flat) -> None:
        """The numbers of ``flat`` are bfloat16 already, and those of the sum are again."""
        received = self._buffer("slices", (self.size, len(flat) // self.size), np.uint16)
        self._wait(self._data.Ialltoall(_upper_halves(flat), received))
        total = tree_sum_(_from_upper_halves(received), self.round_)
        whole = self._buffer("whole", (len(flat),), np.uint16)
        self._wait(self._data.Iallgather(_upper_halves(total), whole))
        flat[:] = _from_upper_halves(whole)

    def spread_(self, flat: Flat) -> None:
        if self.size > 1:
            self._wait(self._data.Iallgather(self._mpi.IN_PLACE, flat))

    def gather(self, numbers: Numbers) -> Numbers:
        if self.size == 1:
            return numbers[None]
        every = np.empty((self.size, *numbers.shape))
        self._wait(self._data.Iallgather(np.ascontiguousarray(numbers), every))
        return every

    def all(self, value: Value) -> list[Value]:
        if self.size == 1:
            return [value]
        own = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = self.gather(np.array([float(len(own))]))[:, 0].astype(int)
        every = np.empty(int(sizes.sum()), np.uint8)
        self._wait(self._data.Iallgatherv(own, [every, sizes.tolist()]))
        return [pickle.loads(part.tobytes()) for part in np.split(every, np.cumsum(sizes)[:-1])]

    def _buffer(self, name: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
        size, held = math.prod(shape), self._buffers.get(name)
        if held is None or held.size < size or held.dtype != kind:
            held = self._buffers[name] = np.empty(size, kind)
        return held[:size].reshape(shape)

    # Noticing that a rank is gone

    def _wait(self, request: Any) -> None:
        """Waits for a message, and for the end of the job."""
        self._heard = started = now = time.monotonic()
        try:
            while not request.Test():
                before, now = now, time.monotonic()
                if now - before > _STOPPED_SECONDS:  # this process was stopped, perhaps with the whole job
                    self._heard = now
                if now - self._listened > _LISTEN_SECONDS:
                    self._listened = now
                    self._listen()
                if self.computing:
                    time.sleep(_LONG_NAP_SECONDS)
                elif now - started < _SPIN_SECONDS:
                    _yield_core()
                else:
                    time.sleep(_NAP_SECONDS)
        except self._mpi.Exception as error:
            raise RankFailed(f"rank {self.rank} cannot reach the others: {error}") from None

    def _listen(self) -> None:
        """Raises ``RankFailed`` if a rank has failed or is silent."""
        status = self._mpi.Status()
        if self._control.Iprobe(self._mpi.ANY_SOURCE, _FAILED, status):
            text = bytearray(status.Get_count(self._mpi.BYTE))
            self._control.Recv([text, self._mpi.BYTE], status.Get_source(), _FAILED)
            failure = RankFailed(text.decode(errors="replace"))
            failure.told = self._told = True
            raise failure
        previous = (self.rank - 1) % self.size
        while self._control.Iprobe(previous, _BEAT):
            self._control.Recv([bytearray(1), self._mpi.BYTE], previous, _BEAT)
            self._heard = time.monotonic()
        silent = time.monotonic() - self._heard
        if self._beating is not None and silent > self.timeout:
            message = (
                f"rank {previous} has been silent for {silent:.0f} seconds: its process or its machine has stopped"
            )
            self._tell(message)
            raise RankFailed(message)

    def _beat(self) -> None:
        """Reports to the next rank that this process is alive."""
        request = None
        while not self._closing.wait(_BEAT_SECONDS):
            if request is None or request.Test():  # else the next rank is not reachable at the moment
                request = self._control.Isend([b"\0", self._mpi.BYTE], (self.rank + 1) % self.size, _BEAT)

    def _tell(self, message: str) -> None:
        """Reports to all others that the job has failed."""
        text = message.encode()
        others = [rank for rank in range(self.size) if rank != self.rank]
        sent = [self._control.Isend([text, self._mpi.BYTE], rank, _FAILED) for rank in others]
        until = time.monotonic() + 0.5
        while not all(request.Test() for request in sent) and time.monotonic() < until:
            time.sleep(_NAP_SECONDS)

    @contextmanager
    def together(self, *agreed: type[BaseException]) -> Iterator[None]:
        try:
            yield
        except agreed:
            raise
        except RankFailed:
            self._broken = True
            raise
        except BaseException as error:
            if self.size > 1:
                self._tell(f"rank {self.rank} failed: {type(error).__name__}: {error}")
                self._broken = True
            raise

    def _close(self) -> None:
        """At the end of the program, which with messages under way must not wait for the other ranks."""
        self._closing.set()
        if self._beating is not None:
            self._beating.join()
        if self._broken:
            abort(1, patient=self._told)


def abort(status: int, *, patient: bool) -> None:
    """Ends all ranks, if there are several; ``patient`` gives the rank that failed time to print its error first."""
    if started_ranks() < 2 and "mpi4py.MPI" not in sys.modules:
        return
    if patient:
        time.sleep(_GRACE_SECONDS)
    with suppress(ImportError):
        world = library().COMM_WORLD
        if world.Get_size() > 1:
            world.Abort(status)


def library() -> Any:
    """``mpi4py.MPI``, which starts MPI."""
    try:
        from mpi4py import MPI as found
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is there, an MPI library is not
        raise ImportError(
            f"several ranks need mpi4py and an MPI library ({str(error).splitlines()[0]}): pip install 'rnnfast[mpi]'"
        ) from None
    return found


def started_ranks() -> int:
    """How many ranks this process is one of, by what the starter of the job has put into the environment; 1 without a job."""
    return max(_numbers(_SIZES), default=1)


def started_rank() -> int:
    """The number of this process among :func:`started_ranks`."""
    return max(_numbers(_RANKS), default=0) if started_ranks() > 1 else 0


def _numbers(names: tuple[str, ...]) -> list[int]:
    return [int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()]


class Here(NamedTuple):
    """The ranks on this machine, their threads, and the cores that they may use."""

    ranks: int
    threads: int
    cores: int


def share_cores(threads: int | None = None) -> Here:
    """Sets the threads of this rank, so that the ranks on one machine do not have more than it has cores."""
    mpi = library()
    local = mpi.COMM_WORLD.Split_type(mpi.COMM_TYPE_SHARED)
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    every = local.allgather(mine)
    sharing = sum(other == mine for other in every)
    if threads is not None:
        _core.set_num_threads(positive(threads, "threads"))
    elif sharing > 1 and not any(os.environ.get(name) for name in _THREADS):
        _core.set_num_threads(max(1, _core.num_threads() // sharing))
    used = sum(local.allgather(_core.num_threads()))
    here = Here(int(local.Get_size()), used, len(set().union(*every)) or os.cpu_count() or 1)
    local.Free()
    return here


def _yield_core() -> None:
    if hasattr(os, "sched_yield"):
        os.sched_yield()


# bfloat16: the upper half of a float32


def _upper_halves(x: Flat) -> NDArray[np.uint16]:
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def _from_upper_halves(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (halves.astype(np.uint32) << 16).view(np.float32)
