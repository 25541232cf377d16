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
_NAP_SECONDS = 1e-4


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
    the ``rows`` that any rank has read are exchanged; None: all.
    """

    def __init__(self, model: Trainable | Network, ranks: Ranks, table: str | None) -> None:
        self.model, self.ranks, self.table = model, ranks, table
        self.rows: NDArray[np.integer[Any]] | None = None
        self._groups = self._cut([name for name in model.grads if name not in model.frozen])
        self._tree = TreeSum(self._groups[-1].end, ranks.round_)
        self._sums: Array | None = None  # of `rows`
        self._core: Any = cast("Any", model)._core
        self._alongside = ranks.overlaps and len(self._groups) > 1 and hasattr(self._core, "unfinished")
        self._complete, self._failed = threading.Event(), False  # backward has ended, or raised
        self._complete.set()

    def _cut(self, names: Sequence[str]) -> list[Group]:
        place = {name: at for at, name in enumerate(self.model.parameters())}
        grads, groups, waiting, size = self.model.grads, list[Group](), list[str](), 0
        backwards = list(reversed(names))
        for name, following in zip(backwards, [*backwards[1:], None]):
            waiting.append(name)
            size += grads[name].size
            if following is None or size >= SMALLEST or self.table in (name, following):
                begin, first = groups[-1].end if groups else 0, min(place[each] for each in waiting)
                groups.append(Group(tuple(waiting), first, begin, size, begin + self.ranks.padded(size)))
                waiting, size = [], 0
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

    def finish(self, backward: Callable[[], None] | None, weight: float) -> None:
        """The last shard of this rank: its ``backward``, and the sum over ranks. None: it has no rows."""
        buffer, grads = self._tree.new(), None if backward is None else self.model.grads
        started = self.ranks.seconds
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
        flat, grads, factor = self._tree.total(), self.model.grads, np.float32(share)
        for group in self._groups:
            if self._sums is not None and group.names == (self.table,):  # this rank's other rows are zeros
                grads[group.names[0]][self.rows] = self._sums * factor
                continue
            at = group.begin
            for name in group.names:
                gradient = grads[name]
                np.multiply(flat[at : at + gradient.size].reshape(gradient.shape), factor, out=gradient)
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
        self._sums = None
        for group in self._groups:
            while not self._completed(group):
                time.sleep(_NAP_SECONDS)
            if self._failed:
                return
            if grads is None:
                buffer[group.begin : group.end] = 0.0
            else:
                self._fill(buffer, group, grads, weight)
            total = self._tree.add_part(buffer, slice(group.begin, group.end))
            if self.rows is None or group.names != (self.table,):
                self.ranks.add_(total)
                continue
            shape = self.model.grads[group.names[0]].shape
            read = total[: group.size].reshape(shape)[self.rows]
            some = np.zeros(self.ranks.padded(read.size), np.float32)
            some[: read.size] = read.ravel()
            self.ranks.add_(some)
            self._sums = some[: read.size].reshape(read.shape)

    def _completed(self, group: Group) -> bool:
        return not self._alongside or self._complete.is_set() or self._core.unfinished <= group.first

    def _run_alongside(self, backward: Callable[[], None], add: Callable[[], None]) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                add()
            except BaseException as error:
                failures.append(error)

        self._failed = False
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
            self._complete.set()
        started = time.monotonic()
        thread.join()
        self.ranks.waited += time.monotonic() - started
        if failures:
            raise failures[0]
