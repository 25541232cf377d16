"""A training step whose gradients are sums over shards, on one rank or several."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.distributed.ranks import Numbers, Ranks, TreeSum
from rnnfast.protocols import Array, Minibatches, Shards, Trainable

State = Any  # of the rows of a shard: None, an array (layers, rows, H), or a tuple of them


class ShardedSteps:
    """Losses and gradients of a model, shard by shard; ``states`` are those that the shards of this rank continue with.

    Each shard runs alone, and chance in it depends on the step and the number of the shard, so its gradient is the same on every
    rank. Gradients are in one flat buffer, in the order of ``grads``, without those of frozen parameters.
    """

    def __init__(self, model: Trainable, ranks: Ranks) -> None:
        self.model, self.ranks = model, ranks
        self.states: list[State] = [None] * len(ranks.own)
        self._moving = [name for name in model.grads if name not in model.frozen]
        self._size = sum(model.grads[name].size for name in self._moving)
        self._sum = TreeSum(ranks.padded(self._size), ranks.round_)

    def forget(self) -> None:
        """Starts from initial states again."""
        self.states = [None] * len(self.ranks.own)

    def split(self, state: State, rows: int) -> None:
        """Continues from the ``state`` of all rows."""
        count, own = self.ranks.shards, self.ranks.own
        self.states = [_rows(state, slice(rows * shard // count, rows * (shard + 1) // count)) for shard in own]

    def whole(self) -> State:
        """The state of all rows; every rank must ask for it."""
        if self.states[0] is None:
            return None
        every = [state for states in self.ranks.all(self.states) for state in states]
        if isinstance(every[0], tuple):
            return tuple(np.concatenate(parts, axis=1) for parts in zip(*every))
        return np.concatenate(every, axis=1)

    @property
    def alone(self) -> bool:
        """Whether this rank can save without the others."""
        return self.ranks.size == 1 or self.states[0] is None

    def gradients(self, batch: Shards, source: Minibatches[Any], *notes: float) -> tuple[float, Numbers]:
        """Sets ``grads`` to those of the mean loss of the whole batch; returns that loss, and the ``notes`` of every rank (ranks, K).

        If the loss is not finite, the gradients are zero.
        """
        model, ranks, carries = self.model, self.ranks, source.carries_state
        losses, step = [0.0] * len(batch.parts), model.steps
        for i, (shard, part) in enumerate(zip(ranks.own, batch.parts)):
            buffer = self._sum.new()
            if part is None:
                buffer[:] = 0.0
            else:
                model.steps = step * ranks.shards + shard
                loss, state = model.loss(*part, self.states[i]) if carries else model.loss(*part)
                model.backward()
                self.states[i] = state if carries else None
                share = source.predictions(part) / batch.tokens
                losses[i] = loss * share
                self._take(buffer, share)
            self._sum.add(buffer)
        model.steps = step + 1
        every = ranks.gather(np.array([*notes, *losses]))
        loss = float(sum(every[:, len(notes) :].ravel().tolist()))
        flat = self._sum.total()
        if np.isfinite(loss):
            ranks.add_(flat)
            self._give(flat)
        return loss, every[:, : len(notes)]

    def _take(self, flat: Array, share: float) -> None:
        """Moves the gradients, times ``share``, to ``flat``."""
        at, grads = 0, self.model.grads
        for name in self._moving:
            gradient = grads[name]
            np.multiply(gradient.ravel(), np.float32(share), out=flat[at : at + gradient.size])
            at += gradient.size
        flat[at:] = 0.0
        self.model.zero_grad()

    def _give(self, flat: Array) -> None:
        at, grads = 0, self.model.grads
        for name in self._moving:
            gradient = grads[name]
            gradient[...] = flat[at : at + gradient.size].reshape(gradient.shape)
            at += gradient.size


def _rows(state: State, rows: slice) -> State:
    if state is None:
        return None
    if isinstance(state, tuple):
        return tuple(np.ascontiguousarray(part[:, rows]) for part in state)
    return np.ascontiguousarray(state[:, rows])
