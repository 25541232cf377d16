"""A training step whose gradients are sums over shards, on one rank or several."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rnnfast.distributed.ranks import Numbers, Ranks, TreeSum
from rnnfast.models.network import Network
from rnnfast.protocols import Array, Minibatches, Shards, Trainable
from rnnfast.train.objective import Objective

State = Any  # of the rows of a shard: None, an array (layers, rows, H), or a tuple of them


class ShardedSteps:
    """Losses and gradients of a model, shard by shard; ``states`` are those that the shards of this rank continue with.

    Each shard runs alone, and chance in it depends on the step and the number of the shard, so its gradient is the same on every
    rank. Gradients are in one flat buffer, in the order of ``grads``, without those of frozen parameters. The gradient of a shard's
    mean loss is multiplied by its weight, and the sum divided by that of the weights.
    """

    def __init__(self, model: Trainable | Network, objective: Objective, ranks: Ranks) -> None:
        self.model, self.objective, self.ranks = model, objective, ranks
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
        return _joined([state for states in self.ranks.all(self.states) for state in states])

    @property
    def alone(self) -> bool:
        """Whether this rank can save without the others."""
        return self.ranks.size == 1 or self.states[0] is None

    def gradients(self, batch: Shards, source: Minibatches[Any], *notes: float) -> tuple[float, Numbers]:
        """Sets ``grads`` to those of the mean loss of the whole batch; returns that loss, and the ``notes`` of every rank (ranks, K).

        If the loss is not finite, the gradients are zero.
        """
        ranks, model, step = self.ranks, self.model, self.model.steps
        losses = self._one_by_one(batch, source)
        model.steps = step + 1
        every = ranks.gather(np.array([*notes, *(number for both in losses for number in both)]))
        pairs = every[:, len(notes) :].reshape(-1, 2).tolist()
        weight = sum(own for _, own in pairs)
        loss = sum(each * own for each, own in pairs) / max(weight, 1e-300)
        share = 1.0 / weight if weight > 0 else 0.0
        flat = self._sum.total()
        if math.isfinite(loss):
            ranks.add_(flat)
            self._give(flat, share)
        return loss, every[:, : len(notes)]

    def _one_by_one(self, batch: Shards, source: Minibatches[Any]) -> list[tuple[float, float]]:
        """Adds the gradients of each shard to the tree; their losses and weights."""
        model, step, losses = self.model, self.model.steps, [(0.0, 0.0)] * len(batch.parts)
        for i, (shard, part) in enumerate(zip(self.ranks.own, batch.parts)):
            buffer = self._sum.new()
            if part is None:
                buffer[:] = 0.0
            else:
                model.steps = step * self.ranks.shards + shard
                arguments = (*part, self.states[i]) if source.carries_state else tuple(part)
                loss, state = self.objective.loss(*arguments)
                self.objective.backward()
                self.states[i] = state if source.carries_state else None
                weight = 1.0 if batch.even else self.objective.weight(source.predictions(part))
                losses[i] = loss, weight
                self._take(buffer, weight)
            self._sum.add(buffer)
        return losses

    def _take(self, flat: Array, weight: float) -> None:
        """Moves the gradients, times ``weight``, to ``flat``."""
        at, grads = 0, self.model.grads
        for name in self._moving:
            gradient = grads[name]
            np.multiply(gradient.ravel(), np.float32(weight), out=flat[at : at + gradient.size])
            at += gradient.size
        flat[at:] = 0.0
        self.model.zero_grad()

    def _give(self, flat: Array, share: float) -> None:
        """The inverse."""
        at, grads = 0, self.model.grads
        for name in self._moving:
            gradient = grads[name]
            np.multiply(flat[at : at + gradient.size].reshape(gradient.shape), np.float32(share), out=gradient)
            at += gradient.size


def _joined(states: list[State]) -> State:
    """The states of several shards as one."""
    if states[0] is None:
        return None
    if isinstance(states[0], tuple):
        return tuple(np.concatenate(parts, axis=1) for parts in zip(*states))
    return np.concatenate(states, axis=1)


def _rows(state: State, rows: slice) -> State:
    if state is None:
        return None
    if isinstance(state, tuple):
        return tuple(np.ascontiguousarray(part[:, rows]) for part in state)
    return np.ascontiguousarray(state[:, rows])
