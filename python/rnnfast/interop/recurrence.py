"""Recurrent weights of other frameworks, in their gate orders, as layers of rnnfast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnnfast.nn.gates import reordered
from rnnfast.nn.recurrent import LAYERS, Recurrent
from rnnfast.protocols import Precision

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Direction:
    """The weights of one layer in one direction, with rnnfast's gate order."""

    weight_ih: Numbers
    weight_hh: Numbers
    bias_ih: Numbers | None = None
    bias_hh: Numbers | None = None
    weight_c: Numbers | None = None  # of peepholes

    def named(self, suffix: str) -> dict[str, Numbers]:
        """By PyTorch's names."""
        return {f"{name}_{suffix}": value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Recurrence:
    """One recurrent layer: a cell of ``rf.nn.LAYERS``, and its weights forward, backward or both."""

    cell: str
    forward: Direction | None
    backward: Direction | None = None

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self._any().weight_hh.shape[1])

    def _any(self) -> Direction:
        direction = self.forward or self.backward
        assert direction is not None
        return direction

    def layer(self, *, weights: Precision = "f32", batch_first: bool = False) -> Recurrent:
        """The layer of one or both directions. That of ``backward`` alone runs forward, over the reversed sequence."""
        one = self._any()
        bias = one.bias_ih is not None
        layer = LAYERS[self.cell](
            one.weight_ih.shape[1], self.hidden_size, bias=bias, bidirectional=bool(self.forward and self.backward),
            weights=weights, batch_first=batch_first, seed=0,
        )  # fmt: skip
        state = one.named("l0")
        if self.forward and self.backward:
            state.update(self.backward.named("l0_reverse"))
        layer.load_state_dict(state)
        return layer

    def in_both_directions(self) -> Recurrence:
        """The same with a forward half of zeros, for networks, which have no layer that runs backward alone."""
        assert self.backward is not None
        zeros = {name: np.zeros_like(value) for name, value in self.backward.named("x").items()}
        return Recurrence(self.cell, Direction(**{name[:-2]: value for name, value in zeros.items()}), self.backward)


def direction(matrices: Mapping[str, Numbers], order: Sequence[int]) -> Direction:
    """One direction from matrices (gates, inputs) by PyTorch's names, in another gate order."""
    return Direction(**{name: reordered(np.asarray(m, np.float32), order) for name, m in matrices.items()})
