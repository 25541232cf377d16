"""A training step whose gradients are sums over shards, on one rank or several."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rnnfast.distributed.ranks import Numbers, Ranks
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.network import Groups, Network
from rnnfast.protocols import Minibatches, Shards, Trainable
from rnnfast.train.exchange import Exchange
from rnnfast.train.objective import Objective

State = Any  # of the rows of a shard: None, an array (layers, rows, H), or a tuple of them


class ShardedSteps:
    """Losses and gradients of a model, shard by shard; ``states`` are those that the shards of this rank continue with.

    Chance in a shard depends on the step and the number of the shard, so its gradient is the same on every rank. The gradient of a
    shard's mean loss is multiplied by its weight, and the sum divided by that of the weights. Gradients of frozen parameters are left
    out.
    """

    def __init__(self, model: Trainable | Network, objective: Objective, ranks: Ranks) -> None:
        self.model, self.objective, self.ranks = model, objective, ranks
        self.states: list[State] = [None] * len(ranks.own)
        table = _embedding_of(model)
        self._exchange = Exchange(model, ranks, None if table in model.frozen else table)
        self.spare = self._exchange.spare

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
        in_place = together and ranks.size == 1  # the gradients are where they belong
        self._exchange.rows_read = lambda: self._rows_read(batch)
        losses = self._together(batch, source) if together else self._one_by_one(batch, source)
        model.steps = step + 1
        every = ranks.gather(np.array([*notes, *(number for both in losses for number in both)]))
        pairs = every[:, len(notes) :].reshape(-1, 2).tolist()
        weight = sum(own for _, own in pairs)
        loss = sum(each * own for each, own in pairs) / max(weight, 1e-300)
        share = 1.0 / weight if weight > 0 else 0.0
        if in_place and math.isfinite(loss):
            cast("Any", model)._core.scale_grads(share)
        elif in_place:
            model.zero_grad()
        elif math.isfinite(loss):
            self._exchange.give(share)
        else:
            self._exchange.drop()
        counted = float(batch.tokens) if batch.even else weight
        return loss, counted, every[:, : len(notes)]

    def _one_by_one(self, batch: Shards, source: Minibatches[Any]) -> list[tuple[float, float]]:
        """Adds the gradients of each shard to the tree; their losses and weights."""
        model, step, losses = self.model, self.model.steps, [(0.0, 0.0)] * len(batch.parts)
        for i, (shard, part) in enumerate(zip(self.ranks.own, batch.parts)):
            last = i + 1 == len(batch.parts)
            if part is None:
                if last:
                    self._exchange.finish(None, 0.0)
                else:
                    self._exchange.skip()
                continue
            model.steps = step * self.ranks.shards + shard
            arguments = (*part, self.states[i]) if source.carries_state else tuple(part)
            loss, state = self.objective.loss(*arguments, zero_gradients=True)
            weight = 1.0 if batch.even else self.objective.weight(source.predictions(part))
            if last:
                self._exchange.finish(self.objective.backward, weight, self._share(batch))
            else:
                self.objective.backward()
                self._exchange.take(weight)
            self.states[i] = state if source.carries_state else None
            losses[i] = loss, weight
        return losses

    def _share(self, batch: Shards) -> float | None:
        """What the sum of all gradients is multiplied by, if that does not depend on the other ranks."""
        return 1.0 / self.ranks.shards if batch.even else None

    def _can_run_together(self, batch: Shards) -> bool:
        """Whether the core can compute the shards of this rank at a time, with the same bits: it adds them in the tree itself."""
        if len(batch.parts) < 2 or self.ranks.round_ is not None or self.objective.no_groups():
            return False
        counts = {_count_rows(part, self.model) for part in batch.parts}
        return len(counts) == 1 and None not in counts

    def _together(self, batch: Shards, source: Minibatches[Any]) -> list[tuple[float, float]]:
        """The same as :meth:`_one_by_one`, for shards of equal size."""
        own, objective = self.ranks.own, self.objective
        groups = Groups([self.model.steps * self.ranks.shards + shard + 1 for shard in own])
        counts = None if batch.even else [source.predictions(part) for part in batch.parts]
        losses, state = objective.group_losses(batch.parts, _joined(self.states), groups, counts)
        if self.ranks.size > 1:
            self._exchange.finish(objective.backward, 1.0, self._share(batch))
        else:
            objective.backward()
        if source.carries_state:
            rows = batch.parts[0][0].shape[1]
            self.states = [_rows(state, slice(rows * i, rows * (i + 1))) for i in range(len(own))]
        return losses

    def _rows_read(self, batch: Shards) -> NDArray[np.integer[Any]] | None:
        """The rows of the embedding's table that any rank reads, if they are at most half of it. All ranks call this together."""
        table = self._exchange.table
        if self.ranks.size == 1 or table is None:
            return None
        read = np.zeros(-(-len(self.model.grads[table]) // 64) * 64, np.bool_)
        read[np.concatenate([np.ravel(part[0]) for part in batch.parts])] = True
        bits = self.ranks.gather(np.packbits(read).view(np.float64)).view(np.uint8)  # one a row of the table
        rows = np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(bits)))
        return rows if 2 * len(rows) <= len(self.model.grads[table]) else None


def _count_rows(part: Any, model: Trainable | Network) -> int | None:
    if part is None:
        return None
    if isinstance(model, Network):
        return int(part.inputs[0].shape[0 if model.batch_first else 1])
    return int(part[0].shape[1])


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
