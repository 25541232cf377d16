"""A training step whose gradients are sums over shards, on one rank or several."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from rnnfast.distributed.ranks import Numbers, Ranks, TreeSum
from rnnfast.models.language_model import LanguageModel
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
        self._table = _embedding_of(model) if _embedding_of(model) in self._moving else None
        if self._table is not None:  # last, so that what ranks exchange is a beginning of the buffer
            self._moving.remove(self._table)
            self._moving.append(self._table)
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

    def gradients(self, batch: Shards, source: Minibatches[Any], *notes: float) -> tuple[float, float, Numbers]:
        """Sets ``grads`` to those of the mean loss of the whole batch; returns that loss, its Σ weights, and the ``notes`` of every rank
        (ranks, K).

        If the loss is not finite, the gradients are zero.
        """
        ranks, model, step = self.ranks, self.model, self.model.steps
        together = self._can_run_together(batch)
        losses = self._together(batch, source) if together else self._one_by_one(batch, source)
        model.steps = step + 1
        every = ranks.gather(np.array([*notes, *(number for both in losses for number in both)]))
        pairs = every[:, len(notes) :].reshape(-1, 2).tolist()
        weight = sum(own for _, own in pairs)
        loss = sum(each * own for each, own in pairs) / max(weight, 1e-300)
        share = 1.0 / weight if weight > 0 else 0.0
        counted = float(batch.tokens) if batch.even else weight
        if together and ranks.size == 1:  # the gradients are where they belong
            if math.isfinite(loss):
                cast("LanguageModel", model)._core.scale_grads(share)
            else:
                model.zero_grad()
            return loss, counted, every[:, : len(notes)]
        flat = self._sum.total()
        if math.isfinite(loss):
            self._exchange(flat, batch)
            self._give(flat, share)
        return loss, counted, every[:, : len(notes)]

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

    def _can_run_together(self, batch: Shards) -> bool:
        """Whether the core can compute the shards of this rank at a time, with the same bits: it adds them in the tree itself."""
        if not isinstance(self.model, LanguageModel) or {"tie_weights", "norm", "output"} & set(self.model.config):
            return False
        return batch.even and len(batch.parts) > 1 and self.ranks.round_ is None

    def _together(self, batch: Shards, source: Minibatches[Any]) -> list[tuple[float, float]]:
        """The same as :meth:`_one_by_one`, for shards of equal size."""
        model, own = cast("LanguageModel", self.model), self.ranks.own
        x, y = (np.concatenate([part[i] for part in batch.parts], axis=1) for i in (0, 1))
        steps = [model.steps * self.ranks.shards + shard + 1 for shard in own]
        losses, state = model.group_losses(x, y, _joined(self.states), steps)
        model.backward()
        if source.carries_state:
            rows = x.shape[1] // len(own)
            self.states = [_rows(state, slice(rows * i, rows * (i + 1))) for i in range(len(own))]
        if self.ranks.size > 1:
            buffer = self._sum.new()
            self._take(buffer, 1.0)
            self._sum.add(buffer)
        return [(loss, 1.0) for loss in losses]

    def _exchange(self, flat: Array, batch: Shards) -> None:
        """Adds ``flat`` over ranks; of an embedding's table, only the rows that any rank has read, if they are less than half."""
        ranks = self.ranks
        if ranks.size == 1 or self._table is None:
            return ranks.add_(flat)
        rows, width = self.model.grads[self._table].shape
        read = np.concatenate([np.ravel(part[0]) for part in batch.parts])
        ids = np.unique(np.concatenate(ranks.all(np.unique(read))))
        if 2 * len(ids) > rows:
            return ranks.add_(flat)
        first = self._size - rows * width
        table, end = flat[first : self._size].reshape(rows, width), first + len(ids) * width
        sums = table[ids]
        flat[first:end] = sums.ravel()
        flat[end : ranks.padded(end)] = 0.0
        ranks.add_(flat[: ranks.padded(end)])
        sums[:] = flat[first:end].reshape(sums.shape)
        table[: len(ids)] = 0.0
        table[ids] = sums
        return None

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


def _embedding_of(model: Trainable | Network) -> str | None:
    """The table of a language model whose gradient is zero in rows that a batch does not read."""
    if isinstance(model, LanguageModel) and model.config["embedding_size"] and "tie_weights" not in model.config:
        return "embedding.weight"
    return None


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
