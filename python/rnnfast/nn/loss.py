"""The base of the losses of a network's outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import as_float32, as_int32, row_lengths
from rnnfast.protocols import Array

Targets = Literal["ids", "numbers", "labels"]


class Terms(NamedTuple):
    """The parts of a mean: Σ losses / Σ weights."""

    losses: NDArray[Any]  # of each prediction, times its weight
    weights: NDArray[Any]  # of each prediction
    gradient: Array | None  # of the losses, with respect to the outputs


class Loss(ABC):
    """The base of the losses.

    ``loss(output, target)`` is the value, ``loss.forward(output, target)`` the value and its gradient.

    Parameters
    ----------
    output : (T, N, K) or (N, K), float32
    target : as the loss says
    weights : (T, N) or (N,), as the output without its last axis; the mean is weighted by them, and predictions of weight 0 may have
        any target. None: 1
    lengths : (N,) steps of each row of an output (T, N, K); later steps do not count. None: all T

    >>> import rnnfast as rf
    >>> output, target = [[[1.0], [3.0]], [[9.0], [4.0]]], [[[0.0], [0.0]], [[0.0], [0.0]]]  # T = 2, N = 2
    >>> rf.losses.L1Loss()(output, target), rf.losses.L1Loss()(output, target, lengths=[1, 2])
    (4.25, 2.6666666666666665)
    """

    targets: ClassVar[Targets]  # ids, numbers, or for each row a sequence of labels

    def __call__(
        self, output: ArrayLike, target: Any, *, weights: ArrayLike | None = None, lengths: ArrayLike | None = None
    ) -> float:
        """The value."""
        terms = self.terms(output, target, weights=weights, lengths=lengths)
        total = float(terms.weights.sum(dtype=np.float64))
        return float(terms.losses.sum(dtype=np.float64)) / total if total > 0 else 0.0

    def forward(
        self, output: ArrayLike, target: Any, *, weights: ArrayLike | None = None, lengths: ArrayLike | None = None
    ) -> tuple[float, Array]:
        """The value, and its gradient in the shape of the output; both are zero if every weight is."""
        return self.weighted(output, target, weights=weights, lengths=lengths)[:2]

    def weighted(
        self, output: ArrayLike, target: Any, *, weights: ArrayLike | None = None, lengths: ArrayLike | None = None
    ) -> tuple[float, Array, float]:
        """:meth:`forward`, and Σ weights: that of the value in a mean over several batches."""
        terms = self.terms(output, target, weights=weights, lengths=lengths, gradient=True)
        assert terms.gradient is not None
        total = float(terms.weights.sum(dtype=np.float64))
        if not total > 0:
            return 0.0, np.zeros_like(terms.gradient), 0.0
        return float(terms.losses.sum(dtype=np.float64)) / total, terms.gradient * np.float32(1 / total), total

    def terms(
        self,
        output: ArrayLike,
        target: Any,
        *,
        weights: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        gradient: bool = False,
    ) -> Terms:
        """What value and gradient are made of, for means over several batches."""
        y = as_float32(output, "output")
        if y.ndim not in (2, 3):
            raise ValueError(f"output has shape {y.shape}, expected (T, N, K) or (N, K)")
        own = _counted(y.shape[:-1], weights, lengths)
        found = self._terms(y, target, own, gradient)
        if own is None:
            return found
        counts = own > 0  # so that no NaN of a prediction that does not count gets into the sums
        scaled = None if found.gradient is None else np.where(counts[..., None], found.gradient * own[..., None], 0)
        return Terms(np.where(counts, found.losses * own, 0), np.where(counts, found.weights * own, 0), scaled)

    @abstractmethod
    def _terms(self, y: Array, target: Any, counted: Array | None, gradient: bool) -> Terms:
        """The terms without ``counted``, the weights of the predictions; predictions of weight 0 may have any target."""

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={_plain(value)!r}" for name, value in vars(self).items() if value is not None)
        return f"{type(self).__name__}({options})"


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _counted(shape: tuple[int, ...], weights: ArrayLike | None, lengths: ArrayLike | None) -> Array | None:
    """The weights of the predictions, zero from the lengths on; None if all are 1."""
    own = None
    if weights is not None:
        own = as_float32(weights, "weights")
        if own.shape != shape:
            raise ValueError(f"weights has shape {own.shape}, expected {shape}: one for each prediction")
        if not (own >= 0).all() or not np.isfinite(own).all():
            raise ValueError("weights holds a number that is negative or not finite, expected at least 0")
    if lengths is None:
        return own
    if len(shape) != 2:
        raise ValueError("lengths are for an output (T, N, K), and this one is (N, K): it has no steps")
    within = np.arange(shape[0])[:, None] < np.asarray(row_lengths(lengths, shape[1], shape[0]))
    return within.astype(np.float32) if own is None else own * within


def ids_of_targets(target: Any, shape: tuple[int, ...], classes: int, ignore: int | None, counted: Any) -> NDArray[Any]:
    """Target ids in ``shape``, with -1 where they do not count: negative ones, ``ignore``, and those of weight 0."""
    ids = as_int32(target, "target")
    if ids.shape != shape:
        raise ValueError(f"target has shape {ids.shape}, expected {shape}: the id of a class for each prediction")
    ignored = ids < 0 if ignore is None else (ids < 0) | (ids == ignore)
    if counted is not None:
        ignored = ignored | (counted == 0)
    ids = np.where(ignored, -1, ids)
    if ids.size and ids.max() >= classes:
        raise IndexError(f"target holds {ids.max()}, expected ids below {classes}, the width of the output")
    return ids


def numbers_of_targets(target: Any, shape: tuple[int, ...]) -> Array:
    """Targets in ``shape``; its last axis may be missing if it is 1."""
    t = as_float32(target, "target")
    if t.shape == shape[:-1] and shape[-1] == 1:
        t = t[..., None]
    if t.shape != shape:
        raise ValueError(f"target has shape {t.shape}, expected {shape}, that of the output")
    return t
