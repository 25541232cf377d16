"""Products and convolutions over steps that are held back: they are multiplied together before they become layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from rnnfast.interop.axes import Unconvertible
from rnnfast.interop.functions import same_padding
from rnnfast.models.network import LayerOrPart
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.layer import Layer
from rnnfast.nn.linear import Linear
from rnnfast.nn.parts import Scale
from rnnfast.nn.sequence import Conv1d

Numbers = NDArray[Any]
LARGEST = 1 << 26  # numbers of a matrix that stands for a scale, a selection or a product along another axis


@dataclass(frozen=True, eq=False)
class Affine:
    """y = W x + b on the numbers of each step, not yet a layer; ``light``: it selects, scales or shifts only."""

    weight: Numbers  # (outputs, inputs)
    bias: Numbers | None = None
    light: bool = False
    layer: Layer | None = None  # which computes just this

    def after(self, first: Affine) -> Affine:
        """Both in one."""
        weight = self.weight.astype(np.float64) @ first.weight
        bias = None if first.bias is None else self.weight.astype(np.float64) @ first.bias
        if self.bias is not None:
            bias = self.bias if bias is None else bias + self.bias
        return Affine(weight, bias, self.light and first.light)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution over steps, not yet a layer."""

    weight: Numbers  # (outputs, inputs / groups, k)
    bias: Numbers | None = None
    dilation: int = 1
    stride: int = 1
    groups: int = 1
    before: int = 0
    after: int = 0


@dataclass(frozen=True, eq=False)
class Lookup:
    """Rows of a table by token ids, not yet a layer."""

    table: Numbers  # (ids, outputs)


Pending = Union[Affine, Convolution, Lookup, None]


def selection(chosen: Numbers, inputs: int) -> Numbers:
    """The matrix that picks numbers by their places; -1 stands for zero.

    >>> selection(np.array([2, -1]), 3).tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    refuse_large(len(chosen), inputs)
    weight = np.zeros((len(chosen), inputs), np.float32)
    rows = np.flatnonzero(chosen >= 0)
    weight[rows, chosen[rows]] = 1
    return weight


def same_matrix(weight: Numbers, chosen: Numbers) -> bool:
    """Whether a matrix picks numbers by these places, and all of them.

    >>> same_matrix(np.eye(3)[[2, 0, 1]], np.array([2, 0, 1]))
    True
    """
    places = chosen.ravel()
    if weight.shape != (len(places), len(places)):
        return False
    return bool(np.all(weight[np.arange(len(places)), places] == 1) and np.count_nonzero(weight) == len(places))


def refuse_large(outputs: int, inputs: int) -> None:
    """Refuses to write a matrix for what is none in the foreign network, if it would fill the memory."""
    if outputs * inputs > LARGEST:
        raise Unconvertible(
            f"a matrix of {outputs:,} times {inputs:,} numbers would be needed; the most is {LARGEST:,} numbers"
        )


def layer_of(pending: Affine | Convolution | Lookup) -> LayerOrPart:
    layer: Linear | Conv1d | Embedding
    if isinstance(pending, Lookup):
        layer = Embedding(*pending.table.shape, seed=0)
        layer.load_state_dict({"weight": pending.table.astype(np.float32)})
        return layer
    if isinstance(pending, Affine):
        if pending.layer is not None:
            return pending.layer
        factor = _factor(pending)
        if factor is not None:
            return Scale(factor)
        outputs, inputs = pending.weight.shape
        layer = Linear(inputs, outputs, bias=pending.bias is not None, seed=0)
    else:
        layer = _convolution(pending)
    state = {"weight": pending.weight} if pending.bias is None else {"weight": pending.weight, "bias": pending.bias}
    layer.load_state_dict({name: value.astype(np.float32) for name, value in state.items()})
    return layer


def _factor(step: Affine) -> float | None:
    """The number that a step multiplies all numbers by; None if it does something else."""
    if not step.light or step.bias is not None or not _is_diagonal(step.weight):
        return None
    scales = np.diagonal(step.weight).astype(np.float32)
    return float(scales[0]) if len(scales) and np.all(scales == scales[0]) else None


def _convolution(pending: Convolution) -> Conv1d:
    outputs, inputs, taps = pending.weight.shape
    reach = pending.dilation * (taps - 1)
    sides = (pending.before, pending.after)
    padding: int | str | list[int] = sides[0] if sides[0] == sides[1] else list(sides)
    if pending.stride == 1 and sides[0] != sides[1]:
        padding = {(reach, 0): "causal", same_padding(reach): "same"}.get(sides, padding)
    return Conv1d(
        inputs * pending.groups, outputs, taps, stride=pending.stride, padding=padding, dilation=pending.dilation,
        groups=pending.groups, bias=pending.bias is not None, seed=0,
    )  # fmt: skip


def _is_diagonal(weight: Numbers) -> bool:
    square = weight.shape[0] == weight.shape[1]
    return square and bool(np.count_nonzero(weight) == np.count_nonzero(np.diagonal(weight)))


def block_diagonal(weight: Numbers, times: int) -> Numbers:
    return np.kron(np.eye(times, dtype=weight.dtype), weight)
