"""Inputs and targets that a network learns from: arrays, lists of sequences of any lengths, or batches."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import as_float32, as_int32, at_least, positive, row_lengths
from rnnfast._expect import brief, kind_of, offers
from rnnfast.models.network import Network
from rnnfast.nn.loss import Loss
from rnnfast.protocols import Sampling, Shards
from rnnfast.text.corpus import Reading

UNKNOWN = 2**53  # predictions of batches that have not been read


@dataclass(frozen=True)
class Examples:
    """Inputs x, targets y, and what else belongs to N rows; ``(x, y)`` and ``(x, y, lengths)`` stand for it too.

    Parameters
    ----------
    x : what the network reads, in its layout: (T, N, D) or ids (T, N); (N, T, ...) with ``batch_first``. Or a list of N sequences
        (T_i, D) or (T_i,) of any lengths. For a network with several inputs, a mapping from their names
    y : the targets. For an output with steps, (T, N) or (T, N, K) in the same layout, or a list of N sequences; for an output without
        steps, behind a ``Pool``, (N,) or (N, K); for CTC a list of N sequences of labels, or an array (N, S) with negative ids behind
        a row's end. For a network with several outputs, a mapping from their names
    lengths : (N,) steps of each row of arrays; later steps do not count
    weights : the weight of each row (N,), or of each prediction in the shape of y without K

    >>> Examples([[1.0, 2.0], [3.0]], [0, 1]).y
    [0, 1]
    """

    x: Any
    y: Any
    lengths: ArrayLike | None = None
    weights: ArrayLike | None = None


Batches = Iterable[Any]  # of Examples, or of tuples of arrays
Data = Union[Examples, tuple[Any, Any], tuple[Any, Any, Any], Batches]


class Batch(NamedTuple):
    """Rows of a network, checked, in its layout."""

    inputs: tuple[NDArray[Any], ...]
    targets: dict[str, Any]  # by output
    lengths: NDArray[np.int32] | None
    weights: NDArray[np.float32] | None  # of rows (N,), or of predictions
    predictions: int


def reading_of(
    network: Network, losses: Mapping[str, Loss], data: Any, *, batch_size: int, seed: int, sampling: Sampling | None
) -> Reading:
    """How ``fit`` reads data for a network whose outputs have these losses."""
    if isinstance(data, (tuple, Examples)):
        rows = Rows(network, losses, data)
        return Reading(
            rows.batches, batch_size=positive(batch_size, "batch_size"), sampling=sampling or "random", seed=seed
        )
    if sampling is not None:
        raise ValueError(f"sampling is {brief(sampling)}, but the data are batches, which are read in their order")
    return Reading(Given(network, losses, data).batches)


def batches_of(network: Network, losses: Mapping[str, Loss], data: Any, batch_size: int) -> Iterator[Batch]:
    """All rows in their order."""
    if isinstance(data, (tuple, Examples)):
        return iter(Rows(network, losses, data).batches(batch_size=batch_size, sampling="sequential", seed=0))
    return iter(Given(network, losses, data).batches())


# Rows that are cut into batches ---------------------------------------------------------------------------------------


class Rows:
    """Examples in memory, from which batches of rows are taken."""

    def __init__(self, network: Network, losses: Mapping[str, Loss], data: Any, name: str = "the data") -> None:
        given = _examples(data, name)
        self._axis = 0 if network.batch_first else 1  # of the rows, in arrays with steps
        x = _by_name(given.x, [n for n, *_ in network._inputs], "x")
        y = _by_name(given.y, list(losses), "y")
        self._ids = [size == 0 for _, size, _ in network._inputs]
        self._x = [self._input(n, size, x[n]) for n, size, _ in network._inputs]
        self._y = {n: self._target(network, n, losses[n], y[n]) for n in losses}
        counts = {f"x of {n!r}": c.rows for (n, *_), c in zip(network._inputs, self._x)}
        counts.update((f"y of {n!r}", c.rows) for n, c in self._y.items())
        self.count = self._x[0].rows
        if len(set(counts.values())) > 1 or not self.count:
            raise ValueError(
                f"{name} has {', '.join(f'{count} rows in {n}' for n, count in counts.items())}; expected equal numbers, at least 1"
            )
        self._lengths = self._row_lengths(given.lengths)
        self._weights = None if given.weights is None else _column(given.weights, self._axis, "weights")

    def _input(self, name: str, size: int, x: Any) -> _Column:
        column = _column(x, self._axis, f"input {name!r}")
        axes = 2 + (size > 0)
        if isinstance(column, _Array) and (column.array.ndim != axes or (size and column.array.shape[-1] != size)):
            steps, last = ("T, N" if self._axis else "N, T"), f", {size}" if size else ""
            raise ValueError(
                f"input {name!r} has shape {column.array.shape}, expected ({steps}{last}), or a list of sequences (T{last or ','})"
            )
        return column

    def _target(self, network: Network, name: str, loss: Loss, y: Any) -> _Column:
        per_row = name in network._pooled
        if loss.targets == "labels":
            if per_row:
                raise ValueError(f"output {name!r} has no steps, and CTC needs one output for each step")
            return _Ragged(y, "y", labels=True) if isinstance(y, (list, tuple)) else _Array(np.asarray(y), 0, "y")
        return _column(y, 0 if per_row else self._axis, "y", per_row=per_row, ids=loss.targets == "ids")

    def _row_lengths(self, lengths: ArrayLike | None) -> NDArray[np.int64] | None:
        own = [column.lengths for column in self._x if isinstance(column, _Ragged)]
        if own:
            if lengths is not None:
                raise ValueError("lengths are given, but x is a list of sequences, which have their own")
            if any((other != own[0]).any() for other in own[1:]):
                raise ValueError("the inputs of a row have different lengths")
            for column in self._y.values():
                if isinstance(column, _Ragged) and not column.labels and (column.lengths != own[0]).any():
                    n = int((column.lengths != own[0]).argmax())
                    raise ValueError(
                        f"sequence {n} has {own[0][n]} steps in x, and {column.lengths[n]} in y; expected equal numbers"
                    )
            return own[0]
        first = self._x[0]
        assert isinstance(first, _Array)
        return (
            None if lengths is None else np.array(row_lengths(lengths, self.count, first.array.shape[1 - self._axis]))
        )

    def fingerprint(self) -> int:
        """A checksum of all numbers."""
        check = 0
        columns = [*self._x, *self._y.values(), *([] if self._weights is None else [self._weights])]
        pieces = [piece for column in columns for piece in column.pieces()]
        for piece in [*pieces, *([] if self._lengths is None else [self._lengths])]:
            check = zlib.crc32(np.ascontiguousarray(piece).tobytes(), check)
        return check

    def batches(self, *, batch_size: int, sampling: Sampling, seed: int, epoch: int = 0, start: int = 0) -> RowBatches:
        """The batches of an epoch: rows in random order, or in theirs with ``sampling="sequential"``."""
        if sampling not in ("random", "sequential"):
            raise ValueError(f"unknown sampling {brief(sampling)}: expected one of random, sequential")
        at_least(seed, 0, "seed")
        order = (
            np.arange(self.count)
            if sampling == "sequential"
            else np.random.default_rng([seed, epoch]).permutation(self.count)
        )
        return RowBatches(self, [order[i : i + batch_size] for i in range(0, self.count, batch_size)], start)

    def take(self, chosen: NDArray[Any]) -> Batch:
        """The chosen rows, padded to the longest."""
        lengths = None if self._lengths is None else self._lengths[chosen].astype(np.int32)
        steps = max(1, int(lengths.max())) if lengths is not None else None
        inputs = tuple(
            (as_int32 if ids else as_float32)(column.take(chosen, steps, self._axis), "x")
            for ids, column in zip(self._ids, self._x)
        )
        targets = {name: column.take(chosen, steps, self._axis) for name, column in self._y.items()}
        weights = (
            None if self._weights is None else as_float32(self._weights.take(chosen, steps, self._axis), "weights")
        )
        return Batch(inputs, targets, lengths, weights, self.predictions(chosen))

    def predictions(self, chosen: NDArray[Any]) -> int:
        """About how many predictions the chosen rows have; masks and weights do not count."""
        per_row = all(column.per_row for column in self._y.values())
        if per_row:
            return len(chosen)
        if self._lengths is not None:
            return max(1, int(self._lengths[chosen].sum()))
        first = self._x[0]
        assert isinstance(first, _Array)
        return len(chosen) * int(first.array.shape[1 - self._axis])


def _shards(rows: Rows, chosen: NDArray[Any], own: range, count: int) -> Shards:
    """The groups ``own`` of the chosen rows, of which there are ``count``."""
    groups = [chosen[len(chosen) * shard // count : len(chosen) * (shard + 1) // count] for shard in own]
    return Shards([rows.take(group) if len(group) else None for group in groups], rows.predictions(chosen))


class RowBatches:
    """The result of :meth:`Rows.batches`."""

    carries_state = False

    def __init__(self, rows: Rows, chosen: Sequence[NDArray[Any]], first: int) -> None:
        self._rows, self._chosen, self._first = rows, chosen, first
        self.tokens = rows.predictions(np.arange(rows.count))

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Batch]:
        return (self._rows.take(chosen) for chosen in self._chosen[self._first :])

    def shards(self, own: range, count: int) -> Iterator[Shards]:
        """The same batches, of whose ``count`` groups of rows only those with the numbers ``own`` are read."""
        return (_shards(self._rows, chosen, own, count) for chosen in self._chosen[self._first :])

    @staticmethod
    def predictions(batch: Batch) -> int:
        """The number of predictions."""
        return batch.predictions


class _Array:
    """An array whose axis ``axis`` counts the rows."""

    def __init__(self, array: NDArray[Any], axis: int, name: str, *, per_row: bool = False) -> None:
        if array.ndim <= axis or array.dtype.kind not in "fiub":
            raise ValueError(
                f"{name} has shape {array.shape} and dtype {array.dtype}, expected an array of numbers"
                + (" with steps and rows; a list of sequences may have any lengths" if axis else "")
            )
        self.array, self.axis, self.per_row, self.rows = array, axis, per_row, array.shape[axis]

    def take(self, chosen: NDArray[Any], steps: int | None, axis: int) -> NDArray[Any]:
        found = self.array.take(chosen, self.axis)
        if steps is None or self.per_row or found.ndim < 2 or steps >= found.shape[1 - axis]:
            return found
        return found[:steps] if axis else found[:, :steps]

    def pieces(self) -> Iterator[NDArray[Any]]:
        yield self.array


class _Ragged:
    """A list with a sequence for each row."""

    per_row = False

    def __init__(self, values: Sequence[Any], name: str, *, labels: bool = False) -> None:
        self.labels = labels
        self.values = [np.asarray(value) for value in values]
        for n, value in enumerate(self.values):
            if value.size == 0 and labels:
                self.values[n] = value.astype(np.int32)
            elif (
                value.ndim not in (1, 2)
                or value.dtype.kind not in "fiub"
                or value.shape[1:] != self.values[0].shape[1:]
            ):
                raise ValueError(
                    f"sequence {n} of {name} has shape {value.shape} and dtype {value.dtype}, expected numbers (T,) or (T, D), with the "
                    "same D in all; a list holds one sequence for each row"
                )
        self.rows = len(self.values)
        self.lengths = np.array([len(value) for value in self.values], np.int64)

    def take(self, chosen: NDArray[Any], steps: int | None, axis: int) -> Any:
        if self.labels:
            return [self.values[n] for n in chosen]
        assert steps is not None
        kind = np.result_type(*{self.values[n].dtype for n in chosen})
        padded = np.zeros((steps, len(chosen), *self.values[0].shape[1:]), kind)
        for row, n in enumerate(chosen):
            padded[: self.lengths[n], row] = self.values[n]
        return padded if axis else np.ascontiguousarray(padded.swapaxes(0, 1))

    def pieces(self) -> Iterator[NDArray[Any]]:
        yield self.lengths
        yield from self.values


_Column = Any  # _Array or _Ragged


def _column(value: Any, axis: int, name: str, *, per_row: bool = False, ids: bool = False) -> _Column:
    """A list, unless it has one number or one class for each row, is a list of sequences; anything else is an array."""
    if isinstance(value, (list, tuple)) and not (per_row or (value and np.ndim(value[0]) == 0)):
        return _Ragged(value, name)
    array = np.asarray(value.detach() if getattr(value, "requires_grad", False) else value)
    if ids and array.dtype.kind == "f":
        raise TypeError(f"{name} has dtype {array.dtype}, expected integers: the ids of classes")
    per_row = per_row or array.ndim == 1
    return _Array(array, 0 if per_row else axis, name, per_row=per_row)


def _examples(data: Any, name: str) -> Examples:
    if isinstance(data, Examples):
        return data
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        size = f" of {len(data)}" if isinstance(data, (tuple, list)) else ""
        raise TypeError(f"{name} is {kind_of(data)}{size}, expected (x, y), (x, y, lengths) or rf.Examples")
    return Examples(*data)


def _by_name(value: Any, names: Sequence[str], what: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        if set(value) != set(names):
            raise ValueError(f"{what} has {', '.join(map(str, value))}, expected {', '.join(names)}")
        return value
    if len(names) > 1:
        raise TypeError(f"{what} is {kind_of(value)}, expected a mapping from the names {', '.join(names)}")
    return {names[0]: value}


# Batches that are given -----------------------------------------------------------------------------------------------


class Given:
    """Batches as they were given: a list of ``(x, y)``, a ``torch.utils.data.DataLoader``, ..."""

    def __init__(self, network: Network, losses: Mapping[str, Loss], data: Any) -> None:
        wanted = "(x, y), (x, y, lengths), rf.Examples, or a list or loader of such batches"
        offers(data, "the data", wanted, "__iter__")
        if isinstance(data, (str, bytes, Mapping)) or hasattr(data, "ndim"):
            raise TypeError(f"the data are {kind_of(data)}, expected {wanted}")
        if not hasattr(data, "__len__") or iter(data) is data:
            raise TypeError(
                f"the batches are {kind_of(data)}, which can be read only once; give a list of batches, or a loader"
            )
        if not len(data):
            raise ValueError("there are 0 batches, expected at least 1")
        self._network, self._losses, self.data = network, losses, data

    def batches(self, *, epoch: int = 0, start: int = 0) -> GivenBatches:
        """The batches of an epoch."""
        return GivenBatches(self, start)

    def read(self, given: Any, number: int) -> Rows:
        """A batch, checked."""
        if isinstance(given, list):  # what a DataLoader makes of tuples
            given = tuple(given)
        return Rows(self._network, self._losses, given, f"batch {number}")


class GivenBatches:
    """The result of :meth:`Given.batches`."""

    carries_state = False
    tokens = UNKNOWN

    def __init__(self, given: Given, first: int) -> None:
        self._given, self._first = given, first

    def __len__(self) -> int:
        return len(self._given.data)

    def __iter__(self) -> Iterator[Batch]:
        return (rows.take(np.arange(rows.count)) for rows in self._each())

    def shards(self, own: range, count: int) -> Iterator[Shards]:
        """Groups of the rows of every batch."""
        return (_shards(rows, np.arange(rows.count), own, count) for rows in self._each())

    def _each(self) -> Iterator[Rows]:
        for number, batch in enumerate(self._given.data):
            if number >= self._first:
                yield self._given.read(batch, number)

    @staticmethod
    def predictions(batch: Batch) -> int:
        """The number of predictions."""
        return batch.predictions


def fingerprint_of(network: Network, losses: Mapping[str, Loss], data: Any) -> str | None:
    """The number of rows and the checksum of data in memory; None without data."""
    if data is None:
        return None
    if not isinstance(data, (tuple, Examples)):
        return "batches"
    rows = Rows(network, losses, data)
    return f"{rows.count} rows, {rows.fingerprint():08x}"
