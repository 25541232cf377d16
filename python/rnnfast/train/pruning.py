"""Gradual magnitude pruning of recurrent layers, in blocks that streams leave out (M. Zhu and S. Gupta, arXiv:1710.01878)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rnnfast._arrays import real
from rnnfast._expect import brief
from rnnfast.nn.layer import Array, Layer

UNITS = 16  # of one gate: a strip of the kernels' packed weights
BEGIN, END = 0.1, 0.5  # shares of the run between which sparsity grows
LEVELS = 100  # masks are updated so many times

_MATRIX = re.compile(r"(.*)weight_(hh|ih)((_l\d+)?(_reverse)?)")


@dataclass(frozen=True)
class Sparsity:
    r"""The share of zeros that recurrent matrices have at the end, and the shape of the blocks that become zero together.

    .. math:: s(t) = s \left(1 - \left(1 - \frac{t - 0.1}{0.4}\right)^3\right), \quad 0.1 \le t \le 0.5

    where t is the share of the run that is done.

    >>> half = Sparsity(0.5)
    >>> [half.at(share) for share in (0.1, 0.3, 0.5, 1.0)]
    [0.0, 0.4375, 0.5, 0.5]
    """

    share: float
    block: tuple[int, int] = (UNITS, 1)

    def level(self, done: float) -> int:
        """How many updates of the masks belong to a share of the run."""
        grown = min(max((done - BEGIN) / (END - BEGIN), 0.0), 1.0)
        return int(grown * LEVELS + 1e-9)

    def at_level(self, level: int) -> float:
        return self.share * (1 - (1 - level / LEVELS) ** 3)

    def at(self, done: float) -> float:
        """The sparsity when this share of the run is done."""
        return self.at_level(self.level(done))


def sparsity_of(share: float | None, block: tuple[int, int]) -> Sparsity | None:
    """``TypeError`` or ``ValueError`` for a sparsity or a block that cannot be."""
    if not isinstance(block, (tuple, list)) or len(block) != 2 or not all(type(n) is int for n in block):
        raise TypeError(f"block is {brief(block)}, expected two integers, such as (16, 1)")
    units, inputs = block
    if units < 1 or units % UNITS or inputs < 1:
        raise ValueError(
            f"block is {tuple(block)}, expected (units, inputs), units a multiple of {UNITS} and inputs at least 1, such as (16, 1)"
        )
    if share is None:
        return None
    value = real(share, "sparsity")
    if not 0 < value < 1:
        raise ValueError(f"sparsity is {value}, expected more than 0 and less than 1, or None")
    return Sparsity(value, (units, inputs))


class _Matrix:
    """A matrix of gates, [G*H, K], and which of its blocks are kept: (G, ceil(H / units), ceil(K / inputs))."""

    def __init__(self, shape: tuple[int, ...], hidden: int, block: tuple[int, int]) -> None:
        self.shape, self.hidden, self.block = shape, hidden, block
        (units, inputs), (rows, columns) = block, shape
        self.kept: NDArray[np.bool_] = np.ones((rows // hidden, -(-hidden // units), -(-columns // inputs)), bool)
        self._bits: NDArray[np.int32] | None = None
        self._masked = np.empty(shape, np.float32)

    def _split(self, values: NDArray[Any]) -> NDArray[Any]:
        """(G*H, K) as (G, blocks, units, blocks, inputs), zeros beyond the matrix."""
        (units, inputs), (gates, down, across) = self.block, self.kept.shape
        values = values.reshape(gates, self.hidden, -1)
        beyond = ((0, 0), (0, down * units - self.hidden), (0, across * inputs - self.shape[1]))
        if any(after for _, after in beyond):
            values = np.pad(values, beyond)
        return values.reshape(gates, down, units, across, inputs)

    def keep_largest(self, weight: Array, share: float) -> None:
        """Keeps all but a share of the blocks: those with the largest mean magnitude."""
        magnitude = self._split(np.abs(weight)).sum(axis=(2, 4))
        sizes = self._split(np.ones(self.shape, np.float32)).sum(axis=(2, 4))
        order = np.argsort((magnitude / sizes).ravel(), kind="stable")
        kept = np.ones(order.size, bool)
        kept[order[: round(share * order.size)]] = False
        self.keep(kept.reshape(self.kept.shape))

    def keep(self, kept: NDArray[np.bool_]) -> None:
        self.kept = kept
        units, inputs = self.block
        every = np.repeat(np.repeat(kept, units, axis=1)[:, : self.hidden], inputs, axis=2)[:, :, : self.shape[1]]
        self._bits = -every.reshape(self.shape).astype(np.int32)

    def masked(self, weight: Array) -> Array:
        """The weights with +0 in the blocks that are not kept, in memory of this object."""
        if self._bits is None:
            return weight
        np.bitwise_and(weight.view(np.int32), self._bits, out=self._masked.view(np.int32))
        return self._masked


class Pruning:
    """The masks of a model while it is trained.

    Every matrix by which a recurrent layer multiplies h or x in a stream is pruned by itself, but not the rows that one-hot input
    selects, nor frozen weights.
    """

    def __init__(self, model: Layer, sparsity: Sparsity) -> None:
        self.model, self.sparsity, self.level = model, sparsity, 0
        weights = model.parameters()
        self.matrices: dict[str, _Matrix] = {}
        for name, weight in weights.items():
            found = _MATRIX.fullmatch(name)
            recurrent = weights.get(f"{found[1]}weight_hh{found[3]}") if found else None
            if recurrent is None or weight.ndim != 2 or name in model.frozen or _reads_ids(model, name):
                continue
            self.matrices[name] = _Matrix(weight.shape, recurrent.shape[1], sparsity.block)
        if not self.matrices:
            raise ValueError(
                "sparsity: the model has no recurrent weights to prune; give a model with an RNN, GRU or LSTM that is not frozen"
            )

    @property
    def now(self) -> float:
        """The share of the blocks that are zero."""
        return self.sparsity.at_level(self.level)

    @property
    def finished(self) -> bool:
        return self.level == LEVELS

    def advance(self, done: float) -> bool:
        """Updates the masks if it is time; whether it was."""
        level = self.sparsity.level(done)
        if level <= self.level:
            return False
        self.level = level
        weights = self.model.parameters()
        for name, matrix in self.matrices.items():
            matrix.keep_largest(weights[name], self.now)
        return True

    def apply(self, mean: Mapping[str, Array] | None = None) -> None:
        """Sets the weights of all blocks that are not kept to zero, and those of their mean."""
        if not self.level:
            return
        weights = self.model.parameters()
        for name, matrix in self.matrices.items():
            self.model._core.set_parameter(name, matrix.masked(weights[name]))
            if mean is not None:
                mean[name][...] = matrix.masked(mean[name])

    def masks(self) -> dict[str, Array]:
        """For a checkpoint: 1 for every block that is kept."""
        return {name: matrix.kept.astype(np.float32) for name, matrix in self.matrices.items()} if self.level else {}

    def check(self, masks: Mapping[str, Array], level: int) -> None:
        """``ValueError`` for masks that are not of this run."""
        shapes = {name: matrix.kept.shape for name, matrix in self.matrices.items()} if level else {}
        fits = level <= LEVELS and {name: mask.shape for name, mask in masks.items()} == shapes
        if not fits or not all(np.isin(mask, (0.0, 1.0)).all() for mask in masks.values()):
            raise ValueError("the masks of pruned weights are missing, have another shape, or are not zeros and ones")

    def restore(self, masks: Mapping[str, Array], level: int) -> None:
        self.level = level
        for name, mask in masks.items():
            self.matrices[name].keep(mask.astype(bool))


def _reads_ids(model: Any, name: str) -> bool:
    """Whether the columns of a matrix belong to token ids, one of which is read at each step."""
    if not hasattr(model, "vocab") or ".weight_ih_l0" not in name:
        return False
    return cast("bool", model.config.get("embedding_size") == 0)
