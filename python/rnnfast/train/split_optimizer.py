"""An optimizer whose state is split over ranks: each holds a share of it."""

from __future__ import annotations

from typing import Callable

import numpy as np

from rnnfast.distributed.ranks import Flat, Ranks
from rnnfast.protocols import Array
from rnnfast.train.optim import Optimizer


class SplitOptimizer:
    """Each rank moves its share of the weights, counted over all parameters of the model, and sends them to the others.

    Source: S. Rajbhandari et al., arXiv:1910.02054, stage 1.
    """

    def __init__(self, optimizer: Optimizer, ranks: Ranks, spare: Callable[[int], Flat]) -> None:
        self._optimizer, self.ranks, self._spare = optimizer, ranks, spare
        self._layer, (self._core,) = optimizer.layers[0], optimizer.param_groups[0]._cores
        self._size = sum(weight.size for weight in self._layer.parameters().values())
        slice_size = ranks.padded(self._size) // ranks.size
        self._begin, self._end = (min(self._size, slice_size * rank) for rank in (ranks.rank, ranks.rank + 1))
        self._core.keep(self._begin, self._end)

    def step_and_zero_grad(self) -> None:
        """Updates every weight that is not frozen, and sets every gradient to zero."""
        self._optimizer.step_and_zero_grad()
        flat, at = self._spare(self.ranks.padded(self._size)), 0
        for weight in self._layer.parameters().values():
            begin, end = max(at, self._begin), min(at + weight.size, self._end)
            if begin < end:
                flat[begin:end] = weight.ravel()[begin - at : end - at]
            at += weight.size
        self.ranks.spread_(flat)
        at = 0
        for name, weight in self._layer.parameters().items():
            self._layer._core.set_parameter(name, flat[at : at + weight.size].reshape(weight.shape))
            at += weight.size

    def state_dict(self) -> dict[str, Array]:
        """The state of all ranks as that of one optimizer; every rank must ask for it."""
        own = self._optimizer.state_dict()
        parts = self.ranks.all({name: value for name, value in own.items() if name.startswith(("first.", "second."))})
        state: dict[str, Array] = {}
        for parameter, weight in self._layer.parameters().items():
            for name in (f"first.{parameter}", f"second.{parameter}"):
                pieces = [part[name].ravel() for part in parts if name in part]
                if pieces:
                    state[name] = np.concatenate(pieces).reshape(weight.shape)
        return {**state, **{name: value for name, value in own.items() if name not in parts[self.ranks.rank]}}

    def join(self) -> None:
        """Gives the optimizer its whole state back; every rank must call this."""
        state = self.state_dict()
        self._core.keep(0, self._size)
        self._optimizer.load_state_dict(state)
