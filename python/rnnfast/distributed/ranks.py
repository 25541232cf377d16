"""Shards of a batch, and the ranks that compute them: every sum over shards is one fixed binary tree."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Callable, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnnfast._arrays import positive
from rnnfast._expect import brief, kind_of

Numbers = NDArray[np.float64]
Flat = NDArray[np.float32]
Value = TypeVar("Value")


class RankFailed(RuntimeError):
    """Another rank raised an error or stopped; the message names it. ``told``: it could report that itself.

    >>> issubclass(RankFailed, RuntimeError)
    True
    """

    told = False


class RanksDiffer(ValueError):
    """The ranks do not run the same program on the same data; every rank raises this."""


class Ranks:
    """The processes that train a model together; here, one process that computes all shards.

    The rows of a batch belong to ``shards`` groups. The gradient of each shard is summed alone, and the shards are added in one
    binary tree, ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)). Each of ``size`` ranks owns a whole subtree of it, so the result does not
    depend on ``size``.

    >>> ranks = Ranks(shards=4)
    >>> ranks.rank, ranks.size, list(ranks.own)
    (0, 1, [0, 1, 2, 3])
    """

    rank, size = 0, 1
    overlaps = False  # whether another thread may exchange gradients while this one computes
    splits_optimizer = False
    near = False  # whether there are several, all on one machine
    computing = False  # whether another thread of this process computes while this one exchanges
    seconds = waited = 0.0  # of the exchanges of gradients, and those of them in which this rank computed nothing

    def __init__(self, shards: int, *, compress: Literal["bf16"] | None = None) -> None:
        if compress not in (None, "bf16"):
            raise ValueError(f"compress is {brief(compress)}, expected 'bf16' or None")
        if positive(shards, "shards") & (shards - 1):
            raise ValueError(f"shards is {shards}, expected a power of two: they are added in a binary tree")
        self.shards, self.compress = int(shards), compress
        # What happens to every sum of the tree, if anything
        self.round_: Callable[[Flat], None] | None = None if compress is None else round_bf16_

    @property
    def own(self) -> range:
        """The shards of this rank."""
        return share_of(self.shards, self.rank, self.size)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes files and shows progress."""
        return self.rank == 0

    def padded(self, size: int) -> int:
        """The size of a buffer with ``size`` numbers for :meth:`add_`, which needs equal slices for all ranks."""
        return -(-size // self.size) * self.size

    def add_(self, flat: Flat, factor: float = 1.0) -> None:
        """Replaces ``flat`` (of a padded size) by its sum over all ranks, added in the tree, times ``factor``."""
        if factor != 1.0:
            np.multiply(flat, np.float32(factor), out=flat)

    def spread_(self, flat: Flat) -> None:
        """Fills ``flat`` (of a padded size), of which each rank has its slice, with the slices of all."""

    def gather(self, numbers: Numbers) -> Numbers:
        """The numbers (K,) of every rank, (size, K)."""
        return numbers[None]

    def all(self, value: Value) -> list[Value]:
        """Any small value of every rank."""
        return [value]

    def first(self, value: Value) -> Value:
        """The value of rank 0."""
        sent: Any = value if self.leads else None
        given: Value = self.all(sent)[0]
        return given

    @contextmanager
    def together(self, *agreed: type[BaseException]) -> Iterator[None]:
        """Work that all ranks do: an exception of one rank ends the others with ``RankFailed``. Every rank raises exceptions of the types
        ``agreed`` by itself."""
        yield

    def check_same(self, facts: dict[str, Any]) -> None:
        """``RanksDiffer`` on every rank if the ``facts`` of one rank, values by description, are not those of rank 0."""
        every = self.all(facts)
        for rank, other in enumerate(every):
            for what, value in every[0].items():
                if other.get(what) != value:
                    raise RanksDiffer(
                        f"the {what} of rank {rank}, {other.get(what)}, is not that of rank 0, {value}; start every rank with the same "
                        "program, files and version of rnnfast"
                    )


def as_ranks(distributed: Ranks | None) -> Ranks:
    """The ranks that a caller gave, or one process."""
    ranks = Ranks(1) if distributed is None else distributed
    if not isinstance(ranks, Ranks):
        raise TypeError(f"distributed is {kind_of(distributed)}, expected an rf.distributed.MPI(shards=...)")
    return ranks


def ranks_for(shards: int | None, distributed: Ranks | None) -> Ranks | None:
    """The ranks that train, as ``fit`` takes them; None: batches are not split into shards."""
    if distributed is None:
        return None if shards is None else Ranks(shards)
    if not isinstance(distributed, Ranks):
        raise TypeError(f"distributed is {kind_of(distributed)}, expected an rf.distributed.MPI(shards=...)")
    if shards not in (None, distributed.shards):
        raise ValueError(f"shards is {shards}, but distributed has {distributed.shards}; give one of them")
    return distributed


def checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Of names and values, in their order."""
    check = 0
    for name, value in arrays.items():
        check = zlib.crc32(np.ascontiguousarray(value).data, zlib.crc32(name.encode(), check))
    return f"{check:08x}"


def share_of(count: int, index: int, of: int) -> range:
    """The numbers 0 to ``count`` - 1 in ``of`` contiguous groups; the group ``index``.

    >>> [list(share_of(5, i, 2)) for i in range(2)]
    [[0, 1], [2, 3, 4]]
    """
    return range(count * index // of, count * (index + 1) // of)


class TreeSum:
    """Adds buffers pairwise as they come, as the tree of :class:`Ranks` does: two sums of equally many are added together.

    At most log2(n) + 1 buffers exist at a time. :meth:`new` gives one to fill, :meth:`add` takes it back.
    """

    def __init__(self, size: int, round_: Callable[[Flat], None] | None = None) -> None:
        self._size, self._round = size, round_
        self._free: list[Flat] = []
        self._sums: list[tuple[int, Flat]] = []

    @property
    def empty(self) -> bool:
        """Whether nothing was added yet."""
        return not self._sums

    def new(self) -> Flat:
        """A buffer with any content, to fill and :meth:`add`."""
        return self._free.pop() if self._free else np.zeros(self._size, np.float32)

    def spare(self) -> Flat:
        """A buffer for another purpose, until the next :meth:`new`."""
        buffer = self.new()
        self._free.append(buffer)
        return buffer

    def add(self, buffer: Flat) -> None:
        """Adds the next buffer to the tree."""
        count = 1
        if self._round is not None:
            self._round(buffer)
        while self._sums and self._sums[-1][0] == count:
            _, left = self._sums.pop()
            np.add(left, buffer, out=left)
            if self._round is not None:
                self._round(left)
            self._free.append(buffer)
            buffer, count = left, 2 * count
        self._sums.append((count, buffer))

    def add_part(self, buffer: Flat, part: slice) -> Flat:
        """The sum of the tree in ``part``, if ``buffer`` is the last to be added; it overwrites the sums so far."""
        total = buffer[part]
        if self._round is not None:
            self._round(total)
        for _, left in reversed(self._sums):
            np.add(left[part], total, out=left[part])
            total = left[part]
            if self._round is not None:
                self._round(total)
        return total

    def end(self, buffer: Flat) -> None:
        """Takes the last buffer back, after all of its parts."""
        every = [*(left for _, left in self._sums), buffer]
        self._free += every[1:]
        self._sums = [(1, every[0])]

    def total(self) -> Flat:
        """The sum of a power of two of buffers; :meth:`new` may give its memory away."""
        (_, total), self._sums = self._sums[0], []
        self._free.append(total)
        return total


def tree_sum_(
    rows: Sequence[Flat] | NDArray[np.float32], round_: Callable[[Flat], None] | None = None, out: Flat | None = None
) -> Flat:
    """The sum of n rows (K,), n a power of two, in the tree; overwrites them. ``out``: where to put it, which may be one of them.

    >>> tree_sum_(np.array([[1e8], [-1e8], [1.0], [1.0]], np.float32))
    array([2.], dtype=float32)
    """
    while len(rows) > 1:
        half = len(rows) // 2
        for i in range(half):
            total = rows[i] if half > 1 or out is None else out
            np.add(rows[2 * i], rows[2 * i + 1], out=total)
            if round_ is not None:
                round_(total)
        rows = rows[:half]
    return rows[0] if out is None else out


def round_bf16_(x: Flat) -> None:
    """Rounds to the nearest bfloat16, ties to even; infinities and NaN stay."""
    bits = x.view(np.uint32)
    special = bits & 0x7F800000 == 0x7F800000
    kept = bits[special]
    bits += 0x7FFF + (bits >> 16 & 1)
    bits &= 0xFFFF0000
    bits[special] = kept
