"""Losses of a network's outputs: their value, and its gradient with respect to the outputs.

A loss is a mean over predictions. An output is (T, N, K): T steps, N rows, K numbers for each prediction; or (N, K) with one prediction
for each row. A loss is computed on one thread, and its sums run in a fixed order: its bits do not depend on the number of threads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import as_float32, between, own, real
from rnnfast._expect import brief, choice, kind_of, listed
from rnnfast.nn.ctc import CTCLoss, ctc_decode
from rnnfast.nn.loss import Loss, Terms, ids_of_targets, numbers_of_targets
from rnnfast.protocols import Array

__all__ = [
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "QuantileLoss",
    "ctc_decode",
]
LossName = Literal["cross_entropy", "mse", "mae", "huber", "quantile", "binary", "ctc"]
LossLike = Union[Loss, LossName]
LOSSES: Mapping[str, type[Loss]]


class CrossEntropyLoss(Loss):
    r"""−log softmax(y)[target], of logits y and the ids of the true classes, as ``torch.nn.CrossEntropyLoss``.

    Targets are ids (T, N) or (N,) from 0 to K − 1. Negative ids do not count, nor does ``ignore_index``, such as the id of padding.

    Parameters
    ----------
    class_weights : (K,) weight of each class; the mean is weighted by those of the true classes
    label_smoothing : ε from 0 to below 1: the true class has probability 1 − ε, and ε is shared by all K classes
    ignore_index : an id that does not count

    Source: C. Szegedy et al., arXiv:1512.00567, for label smoothing.

    >>> round(CrossEntropyLoss()([[0.0, 0.0], [5.0, 5.0]], [0, 1]), 4)
    0.6931
    >>> CrossEntropyLoss().forward([[0.0, 0.0]], [1])[1].tolist()
    [[0.5, -0.5]]
    """

    targets = "ids"

    def __init__(
        self,
        *,
        class_weights: ArrayLike | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
    ) -> None:
        self.class_weights = None if class_weights is None else _nonnegative(class_weights, "class_weights")
        self.label_smoothing = real(label_smoothing, "label_smoothing")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}, expected at least 0 and less than 1")
        self.ignore_index = None if ignore_index is None else between(ignore_index, -(2**31), 2**31 - 1, "ignore_index")

    def _terms(self, y: Array, target: Any, counted: Array | None, gradient: bool) -> Terms:
        shape, classes = y.shape[:-1], y.shape[-1]
        ids = ids_of_targets(target, shape, classes, self.ignore_index, counted).ravel()
        of_class = self._weights(classes)
        known = np.flatnonzero(ids >= 0)
        true = ids[known]
        shifted = y.reshape(-1, classes)[known]
        shifted = shifted - shifted.max(1, keepdims=True)
        powers = np.exp(shifted)
        total = powers.sum(1, dtype=np.float64)
        log_total = np.log(total)
        rows, smooth = np.arange(len(known)), self.label_smoothing
        own = of_class[true]
        losses = own * (log_total - shifted[rows, true])
        if smooth:
            spread = (of_class * (log_total[:, None] - shifted)).sum(1) / classes
            losses = (1 - smooth) * losses + smooth * spread
        each = Terms(_placed(losses, known, shape), _placed(own, known, shape), None)
        if not gradient:
            return each
        mass = (1 - smooth) * own + smooth * of_class.sum() / classes
        slope = powers * (mass / total)[:, None].astype(np.float32)
        slope[rows, true] -= ((1 - smooth) * own).astype(np.float32)
        if smooth:
            slope -= (smooth / classes * of_class).astype(np.float32)
        dy = np.zeros((ids.size, classes), np.float32)
        dy[known] = slope
        return each._replace(gradient=dy.reshape(y.shape))

    def _weights(self, classes: int) -> NDArray[np.float64]:
        if self.class_weights is None:
            return np.ones(classes)
        if len(self.class_weights) != classes:
            raise ValueError(f"class_weights has {len(self.class_weights)} numbers, expected {classes}: one per class")
        return self.class_weights.astype(np.float64)


def _placed(values: NDArray[Any], at: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """``values`` at the flat positions ``at`` of an array of zeros."""
    whole = np.zeros(int(np.prod(shape)))
    whole[at] = values
    return whole.reshape(shape)


def _nonnegative(value: ArrayLike, name: str) -> Array:
    array = as_float32(value, name)
    if array.ndim != 1 or not len(array) or not (array >= 0).all() or not np.isfinite(array).all():
        raise ValueError(f"{name} is {brief(value)}, expected a list of finite numbers of at least 0")
    return own(array, value)


class _Elementwise(Loss):
    """The mean over K numbers of a loss of each; targets are numbers in the shape of the output, or without a last axis of 1."""

    targets = "numbers"

    def _terms(self, y: Array, target: Any, counted: Array | None, gradient: bool) -> Terms:
        t = self._read(target, y.shape)
        with np.errstate(invalid="ignore", over="ignore"):  # of targets that do not count
            losses, slope = self._each(y, t, gradient)
        each = losses.mean(-1, dtype=np.float64)
        return Terms(each, np.ones(each.shape), None if slope is None else slope * np.float32(1 / losses.shape[-1]))

    def _read(self, target: Any, shape: tuple[int, ...]) -> Array:
        return numbers_of_targets(target, shape)

    @abstractmethod
    def _each(self, y: Array, t: Array, gradient: bool) -> tuple[Array, Array | None]:
        """The loss of each number, and its derivative with respect to y if it is wanted."""


class MSELoss(_Elementwise):
    """(y − target)², as ``torch.nn.MSELoss``.

    >>> MSELoss()([[1.0], [3.0]], [1.0, 1.0])
    2.0
    """

    def _each(self, y: Array, t: Array, gradient: bool) -> tuple[Array, Array | None]:
        d = y - t
        return d * d, 2 * d if gradient else None


class L1Loss(_Elementwise):
    """``|y − target|``, as ``torch.nn.L1Loss``; the gradient is 0 where they are equal.

    >>> L1Loss()([[1.0], [3.0]], [1.0, 1.0])
    1.0
    """

    def _each(self, y: Array, t: Array, gradient: bool) -> tuple[Array, Array | None]:
        d = y - t
        return np.abs(d), np.sign(d) if gradient else None


class HuberLoss(_Elementwise):
    """d² / 2 for ``|d| ≤ δ``, else ``δ (|d| − δ / 2)``, where d = y − target, as ``torch.nn.HuberLoss``.

    Source: P. J. Huber, Annals of Mathematical Statistics 35 (1964).

    >>> HuberLoss(delta=1.0)([[0.5], [3.0]], [0.0, 0.0])
    1.3125
    """

    def __init__(self, *, delta: float = 1.0) -> None:
        self.delta = real(delta, "delta")
        if not 0 < self.delta < float("inf"):
            raise ValueError(f"delta is {delta}, expected more than 0 and finite")

    def _each(self, y: Array, t: Array, gradient: bool) -> tuple[Array, Array | None]:
        d, delta = y - t, np.float32(self.delta)
        size = np.abs(d)
        losses = np.where(size <= delta, d * d / 2, delta * (size - delta / 2))
        return losses, np.clip(d, -delta, delta) if gradient else None


class QuantileLoss(_Elementwise):
    """max(q d, (q − 1) d), where d = target − y: the loss whose least mean is at the quantile q.

    The output has one number for each quantile: (T, N, K · Q) for targets (T, N, K), in the order of (K, Q); K may be 1 and have no axis.

    Source: R. Koenker and G. Bassett, Econometrica 46 (1978).

    >>> round(QuantileLoss([0.1, 0.5, 0.9])([[0.0, 0.0, 0.0]], [1.0]), 6)
    0.5
    """

    def __init__(self, quantiles: Sequence[float] = (0.1, 0.5, 0.9)) -> None:
        self.quantiles = [real(q, "a quantile") for q in listed(quantiles, "quantiles", "a list of numbers")]
        if not self.quantiles or not all(0 < q < 1 for q in self.quantiles):
            raise ValueError(f"quantiles is {brief(quantiles)}, expected numbers between 0 and 1")

    def _read(self, target: Any, shape: tuple[int, ...]) -> Array:
        count = len(self.quantiles)
        if shape[-1] % count:
            raise ValueError(f"output has {shape[-1]} numbers a prediction, expected a multiple of {count} quantiles")
        return np.repeat(numbers_of_targets(target, (*shape[:-1], shape[-1] // count)), count, axis=-1)

    def _each(self, y: Array, t: Array, gradient: bool) -> tuple[Array, Array | None]:
        d, q = t - y, np.tile(np.array(self.quantiles, np.float32), y.shape[-1] // len(self.quantiles))
        losses = np.maximum(q * d, (q - 1) * d)
        return losses, np.where(d > 0, -q, np.where(d < 0, 1 - q, np.float32(0))) if gradient else None


class BCEWithLogitsLoss(_Elementwise):
    """−t log σ(y) − (1 − t) log(1 − σ(y)), of logits y and targets t from 0 to 1, as ``torch.nn.BCEWithLogitsLoss``.

    ``pos_weight`` (K,) multiplies the first term, to make up for rare positives.

    >>> round(BCEWithLogitsLoss()([[0.0], [0.0]], [1, 0]), 4)
    0.6931
    """

    def __init__(self, *, pos_weight: ArrayLike | None = None) -> None:
        self.pos_weight = None if pos_weight is None else _nonnegative(np.atleast_1d(pos_weight), "pos_weight")

    def _each(self, y: Array, t: Array, gradient: bool) -> tuple[Array, Array | None]:
        if self.pos_weight is not None and len(self.pos_weight) not in (1, y.shape[-1]):
            raise ValueError(f"pos_weight has {len(self.pos_weight)} numbers, expected {y.shape[-1]}: one per output")
        positive = t if self.pos_weight is None else t * self.pos_weight
        small = np.exp(-np.abs(y))
        rest = np.log1p(small)  # softplus(y) is this plus max(y, 0)
        losses = positive * (rest + np.maximum(-y, 0)) + (1 - t) * (rest + np.maximum(y, 0))
        if not gradient:
            return losses, None
        sigmoid = np.where(y >= 0, np.float32(1), small) / (1 + small)
        return losses, (positive + 1 - t) * sigmoid - positive


LOSSES = {
    "cross_entropy": CrossEntropyLoss, "mse": MSELoss, "mae": L1Loss, "huber": HuberLoss, "quantile": QuantileLoss,
    "binary": BCEWithLogitsLoss, "ctc": CTCLoss,
}  # fmt: skip


def loss_named(given: Any, name: str = "loss") -> Loss:
    """The loss of a name with its default options, or ``given`` if it is a loss."""
    if isinstance(given, Loss):
        return given
    if isinstance(given, type) or not isinstance(given, str):
        hint = f"; write {given.__name__}()" if isinstance(given, type) and issubclass(given, Loss) else ""
        raise TypeError(f"{name} is {kind_of(given)}, expected a loss of rf.losses or its name{hint}")
    return LOSSES[choice(given, LOSSES, name)]()
