"""The sum of gradients over ranks, while backward still computes the rest of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, cast

import numpy as np
from numpy.typing import NDArray

from rnnfast.distributed.ranks import Flat, Ranks, TreeSum
from rnnfast.models.network import Network
from rnnfast.protocols import Array, Trainable

SMALLEST = 1 << 18  # numbers of a group: every exchange has its latency
_NAP_SECONDS = 1e-3  # a layer takes longer, and waking up costs the thread that computes some of its time


@dataclass(frozen=True)
class Group:
    """Parameters whose gradients are exchanged together; they lie side by side in the flat buffer."""

    names: tuple[str, ...]
    first: int  # the least of their positions among the model's parameters
    begin: int
    size: int  # of their gradients; zeros follow, up to equal slices for all ranks
    end: int


class Exchange:
    """Moves the gradients of a model through one flat buffer, in which all ranks add theirs.

    The buffer begins with the last parameter, since backward completes the gradients in that order, and is cut into groups. While
    backward computes the last shard of this rank, a thread adds each completed group over the ranks. Of the gradient ``table``, only
    the rows that any rank has read are exchanged, which ``rows_read`` gives on every rank when it is the table's turn; None: all. Of the only shard of this rank, a parameter that is a group by itself
    is exchanged where its gradient lies.
    """

    def __init__(self, model: Trainable | Network, ranks: Ranks, table: str | None) -> None:
        self.model, self.ranks, self.table = model, ranks, table
        self.rows_read: Callable[[], NDArray[np.integer[Any]] | None] = lambda: None
        self._rows: NDArray[np.integer[Any]] | None = None
        self._some: Flat = np.zeros(0, np.float32)  # the table's rows
        self._groups = self._cut([name for name in model.grads if name not in model.frozen])
        self._tree = TreeSum(self._groups[-1].end, ranks.round_)
        self._factor = 1.0
        self._totals: list[Flat] = []  # of each group, once it is exchanged
        self._core: Any = cast("Any", model)._core
        self._alongside = ranks.overlaps and len(self._groups) > 1 and hasattr(self._core, "unfinished")
        self._complete, self._failed = threading.Event(), False  # backward has ended, or raised
        self._complete.set()

    def _cut(self, names: Sequence[str]) -> list[Group]:
        """The table and each large parameter by itself, the small ones together."""
        place = {name: at for at, name in enumerate(self.model.parameters())}
        grads, groups, waiting = self.model.grads, list[Group](), list[str]()

        def close(some: Sequence[str]) -> None:
            begin, size = groups[-1].end if groups else 0, sum(grads[name].size for name in some)
            groups.append(
                Group(tuple(some), min(place[name] for name in some), begin, size, begin + self.ranks.padded(size))
            )

        for name in reversed(names):
            if name != self.table and grads[name].size < SMALLEST:
                waiting.append(name)
            if waiting and (name == self.table or sum(grads[each].size for each in waiting) >= SMALLEST):
                close(waiting)
                waiting = []
            if name == self.table or grads[name].size >= SMALLEST:
                close([name])
        if waiting:
            close(waiting)
        return groups

    def take(self, weight: float) -> None:
        """Adds the gradients of a shard, times ``weight``, to the tree of this rank."""
        buffer = self._tree.new()
        for group in self._groups:
            self._fill(buffer, group, self.model.grads, weight)
        self._tree.add(buffer)
        self.model.zero_grad()

    def skip(self) -> None:
        """Adds zeros in place of a shard without rows."""
        buffer = self._tree.new()
        buffer[:] = 0.0
        self._tree.add(buffer)

    def finish(self, backward: Callable[[], None] | None, weight: float, share: float | None = None) -> None:
        """The last shard of this rank: its ``backward``, and the sum over ranks. None: it has no rows. ``share``: that of :meth:`give`,
        if it is known before."""
        buffer, grads = self._tree.new(), None if backward is None else self.model.grads
        started, self._factor = self.ranks.seconds, 1.0 if share is None else share
        if backward is not None and self._alongside:
            self._run_alongside(backward, lambda: self._add_groups(buffer, grads, weight))
        else:
            if backward is not None:
                backward()
            self._add_groups(buffer, grads, weight)
            self.ranks.waited += self.ranks.seconds - started
        self._tree.end(buffer)

    def give(self, share: float) -> None:
        """Replaces the gradients by their sum over all ranks, times ``share``."""
        grads, factor = self.model.grads, np.float32(share / self._factor)  # 1, if `finish` has multiplied
        self._tree.total()
        for group, total in zip(self._groups, self._totals):
            if self._is_rows(group):  # this rank's other rows are zeros
                table = grads[group.names[0]]
                assert self._rows is not None
                read = total[: len(self._rows) * table.shape[1]].reshape(-1, table.shape[1])
                table[self._rows] = read if factor == 1.0 else read * factor
                continue
            at = 0
            for name in group.names:
                gradient = grads[name]
                own = total[at : at + gradient.size].reshape(gradient.shape)
                if factor != 1.0 or not np.may_share_memory(own, gradient):
                    np.multiply(own, factor, out=gradient)
                at += gradient.size

    def drop(self) -> None:
        """Sets the gradients to zero in place of :meth:`give`."""
        self._tree.total()
        self.model.zero_grad()

    def spare(self, size: int) -> Flat:
        """Memory for ``size`` numbers, until the next step: the buffer's, if no parameter is frozen."""
        buffer = self._tree.spare()
        return buffer[:size] if len(buffer) >= size else np.zeros(size, np.float32)

    def _fill(self, buffer: Flat, group: Group, grads: Mapping[str, Array], weight: float) -> None:
        at = group.begin
        for name in group.names:
            gradient = grads[name]
            np.multiply(gradient.ravel(), np.float32(weight), out=buffer[at : at + gradient.size])
            at += gradient.size
        buffer[at : group.end] = 0.0

    def _add_groups(self, buffer: Flat, grads: Mapping[str, Array] | None, weight: float) -> None:
        """Adds the groups of the last shard, in which ``grads`` None stands for zeros, to the others of this rank and of all ranks."""
        only = self._tree.empty and self.ranks.round_ is None  # a sum over one shard is the shard
        self._totals = []
        for group in self._groups:
            while not self._completed(group):
                self._complete.wait(_NAP_SECONDS)
            if self._failed:
                return
            if group.names == (self.table,):
                self._rows = self.rows_read()
            if self._is_rows(group):
                total = self._rows_of(buffer, group, grads, weight, only)
            elif (
                only
                and grads is not None
                and weight == 1.0
                and len(group.names) == 1
                and group.begin + group.size == group.end
            ):
                total = grads[group.names[0]].reshape(-1)
            else:
                total = self._sum_here(buffer, group, grads, weight)
            self.ranks.add_(total, self._factor)
            self._totals.append(total)

    def _sum_here(self, buffer: Flat, group: Group, grads: Mapping[str, Array] | None, weight: float) -> Flat:
        """The sum over the shards of this rank."""
        if grads is None:
            buffer[group.begin : group.end] = 0.0
        else:
            self._fill(buffer, group, grads, weight)
        return self._tree.add_part(buffer, slice(group.begin, group.end))

    def _is_rows(self, group: Group) -> bool:
        return self._rows is not None and group.names == (self.table,)

    def _rows_of(
        self, buffer: Flat, group: Group, grads: Mapping[str, Array] | None, weight: float, only: bool
    ) -> Flat:
        """The sum over the shards of this rank, in the ``rows`` of the table."""
        assert self._rows is not None
        table = self.model.grads[group.names[0]]
        size = len(self._rows) * table.shape[1]
        if len(self._some) < self.ranks.padded(size):
            self._some = np.zeros(self.ranks.padded(size), np.float32)
        some = self._some[: self.ranks.padded(size)]
        some[size:] = 0.0
        read = some[:size].reshape(-1, table.shape[1])
        if not only:
            table = self._sum_here(buffer, group, grads, weight)[: group.size].reshape(table.shape)
        if grads is None and only:
            read[...] = 0.0
        else:
            np.take(table, self._rows, axis=0, out=read, mode="clip")  # in other modes, NumPy buffers the output
        if only and weight != 1.0:
            read *= np.float32(weight)
        return some

    def _completed(self, group: Group) -> bool:
        return not self._alongside or self._complete.is_set() or self._core.unfinished <= group.first

    def _run_alongside(self, backward: Callable[[], None], add: Callable[[], None]) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                add()
            except BaseException as error:
                failures.append(error)

        self._failed, self.ranks.computing = False, True
        self._complete.clear()
        # A daemon: where backward raises, the end of the process does not wait for other ranks.
        thread = threading.Thread(target=work, name="rnnfast-exchange", daemon=True)
        thread.start()
        try:
            backward()
        except BaseException:
            self._failed = True
            raise
        finally:
            self.ranks.computing = False
            self._complete.set()
        started = time.monotonic()
        thread.join()
        self.ranks.waited += time.monotonic() - started
        if failures:
            raise failures[0]
