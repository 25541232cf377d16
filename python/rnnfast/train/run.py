"""A training run: its progress, one step of it, and its checkpoints."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, cast

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._expect import brief
from rnnfast.distributed.ranks import Ranks
from rnnfast.models.network import Network
from rnnfast.nn.layer import Layer
from rnnfast.protocols import Array, EpochReader, Minibatches, Shards, Trainable
from rnnfast.train.averaging import Average, include
from rnnfast.train.callbacks import Callback
from rnnfast.train.checkpoint import Checkpoint, as_json, differences, finite, model_differences, read_checkpoint
from rnnfast.train.history import History
from rnnfast.train.minutes import Plan
from rnnfast.train.objective import Objective
from rnnfast.train.optim import Optimizer, clip_grad_norm_, clip_grad_value_, clip_on_ranks_
from rnnfast.train.pruning import Pruning, Sparsity
from rnnfast.train.schedules import Schedule
from rnnfast.train.sharded import ShardedSteps
from rnnfast.train.split_optimizer import SplitOptimizer

_DIVERGED = 10.0  # times the perplexity of guessing: a first epoch of too many steps at a high rate stays below


class NonFiniteLoss(ArithmeticError):
    """Training diverged: the loss, a gradient or a weight became NaN or infinite. The weights are those before that step, or
    with ``keep_best`` those of the best epoch; ``history`` has the finished epochs.

    >>> import rnnfast as rf
    >>> try:
    ...     x = np.ones((1, 8, 2))
    ...     rf.fit(rf.Sequential(rf.Linear(2, 2, seed=0)), (x, x), loss="mse", batch_size=2, optimizer="sgd", lr=1e30)
    ... except rf.NonFiniteLoss as error:
    ...     print(len(error.history))
    0
    """

    history = History()


@dataclass(frozen=True)
class Settings:
    """The arguments of ``fit`` except the model and the texts."""

    epochs: int
    schedule: Schedule
    clip_norm: float | None
    clip_value: float | None
    patience: float | None
    keep_best: bool
    checkpoint: Path | None
    checkpoint_every: float
    run: str  # JSON
    progress: bool | None
    on_epoch: Callable[[Mapping[str, float]], None] | None
    callbacks: Sequence[Callback]
    ranks: Ranks | None  # None: batches are not split into shards
    average: Average | None = None
    minutes: float | None = None  # instead of epochs
    sparsity: Sparsity | None = None

    def check(self, *, validates: bool) -> None:
        """``TypeError`` or ``ValueError`` names a setting that is wrong or requires another one."""
        for name in ("clip_norm", "clip_value", "patience", "minutes"):
            limit = getattr(self, name)
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float, np.number))):
                raise TypeError(f"{name} is {brief(limit)}, expected a number, or None")
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} is {limit}, expected more than 0, or None")
        if not isinstance(self.checkpoint_every, (int, float)):
            raise TypeError(f"checkpoint_every is {brief(self.checkpoint_every)}, expected a number of seconds")
        if self.minutes is None:
            self.schedule.check(self.epochs)
        elif self.ranks is not None and self.ranks.size > 1:
            raise ValueError("minutes and several ranks: each has its own clock; give epochs")
        average = self.average is not None and self.average.needs_validation
        if not validates and (self.patience is not None or self.keep_best or self.schedule.needs_validation or average):
            raise ValueError(
                "patience, keep_best, the plateau schedule and the average asgd without start need validation data: give valid"
            )

    def rules(self, optimizer: Optimizer) -> dict[str, Any]:
        """The settings that must not change when the run is resumed; the checkpoint stores them."""
        limits = {"clip_norm": self.clip_norm, "clip_value": self.clip_value}
        finite = {name: None if limit is None or limit == math.inf else float(limit) for name, limit in limits.items()}
        shards = {"shards": self.ranks and self.ranks.shards, "compress": self.ranks and self.ranks.compress}
        own: dict[str, Any] = {
            "average": self.average and repr(self.average),
            "minutes": self.minutes,
            **shards,
            **finite,
        }
        own["sparsity"] = self.sparsity and self.sparsity.share
        if self.sparsity is not None:
            own["block"] = list(self.sparsity.block)
        return {"schedule": repr(self.schedule), "keep_best": self.keep_best, **own, **optimizer.options}

    @property
    def leads(self) -> bool:
        """Whether this process writes files, shows progress and calls callbacks."""
        return self.ranks is None or self.ranks.leads


class Run:
    """The progress of training: everything that a checkpoint stores besides the weights."""

    def __init__(
        self, model: Trainable | Network, objective: Objective, optimizer: Optimizer, settings: Settings, reading: EpochReader,
        rules: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.model, self.objective, self.optimizer, self.settings = model, objective, optimizer, settings
        self.sharded = None if settings.ranks is None else ShardedSteps(model, objective, settings.ranks)
        self.reading, self.rules, self.run = reading.settings, rules, settings.run
        self.epochs, self.patience = settings.epochs, settings.patience
        self.notes: list[str] = []
        self.warned = False
        self.lr = optimizer.lr  # before the schedule
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Array] | None = None
        self.split: SplitOptimizer | None = None
        self.mean: dict[str, Array] | None = None  # of the weights, once averaging has begun
        self.averaged = 0  # steps
        self.clock = None if settings.minutes is None else Plan(settings.minutes)
        self.pruning = None if settings.sparsity is None else Pruning(cast("Layer", model), settings.sparsity)
        self.stopped: str | None = None  # the reason that a callback gave
        self.epoch = 0
        self.saved_at = time.monotonic()
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.batch, self.tokens, self.clipped = 0, 0, 0
        self.sums: list[list[float]] = []  # Σ loss × weight and Σ weight of each mean that the loss is a sum of
        self.norms = 0.0
        self.state: object = None
        if self.sharded is not None:
            self.sharded.forget()

    @property
    def nll(self) -> float:
        """Σ loss × weight."""
        return sum((total for total, _ in self.sums), 0.0)

    def mean_loss(self) -> float:
        """Of the epoch so far."""
        return sum((total / weight for total, weight in self.sums if weight > 0), 0.0)

    def split_optimizer(self) -> None:
        """Gives each rank its share of the optimizer's state, if that was asked for."""
        ranks = self.settings.ranks
        if self.sharded is not None and ranks is not None and ranks.splits_optimizer:
            self.split = SplitOptimizer(self.optimizer, ranks, self.sharded.spare)

    def join_optimizer(self) -> None:
        """Gives every rank the whole state again; all ranks call this together."""
        if self.split is not None:
            self.split.join()
            self.split = None

    @property
    def plan(self) -> list[float] | None:
        """The state of the clock, for a checkpoint."""
        return None if self.clock is None else self.clock.numbers

    def length(self, position: float) -> float:
        """How many epochs the run has. ``position``: those that are done."""
        return self.epochs if self.clock is None else self.clock.length(position)

    def finished(self, position: float) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.epochs if self.clock is None else self.clock.ends(position)

    def count_time(self, position: float) -> None:
        """Counts the time of a step in the plan of its minutes, and notes the plan when it is made."""
        if self.clock is not None and self.clock.step_done(position):
            self.settings.schedule.check(self.clock.epochs)
            self.notes.append(f"planned {self.clock.epochs:.2f} epochs for {self.settings.minutes:g} minutes")

    @property
    def pruned(self) -> int:
        """How often the masks were updated."""
        return 0 if self.pruning is None else self.pruning.level

    def prune(self, position: float) -> None:
        """Sets more weights to zero, if it is time. ``position``: epochs that are done."""
        if self.pruning is not None and self.pruning.advance(position / self.length(position)):
            self.pruning.apply(self.mean)

    def counted(self) -> list[dict[str, float]]:
        """The records of the epochs among which the best one is: those of the whole sparsity."""
        whole = self.settings.sparsity
        return [r for r in self.history if whole is None or r.get("sparsity") == whole.share]

    def is_best(self, record: Mapping[str, float]) -> bool:
        """Whether the epoch of ``record``, the last one, is the best so far."""
        counted = self.counted()
        return bool(counted) and History(counted).best["epoch"] == record["epoch"]

    def begin_average(self) -> None:
        """Begins to average the weights, if it is time; at the begin of an epoch."""
        average = self.settings.average
        if average is not None and self.mean is None and average.begins(self.epoch + 1, self.measured()):
            self.mean = self.model.state_dict()

    @contextmanager
    def with_average(self) -> Iterator[None]:
        """The model has the averaged weights meanwhile, if there are any."""
        if self.mean is None:
            yield
            return
        last = self.model.state_dict()
        self.model.load_state_dict(self.mean)
        try:
            yield
        finally:
            self.model.load_state_dict(last)

    def measured(self) -> list[float]:
        """The validation perplexity or loss of each epoch."""
        return History(self.history).column(f"valid_{self.objective.measure}")

    def ended(self) -> str | None:
        """Why training ends before its last epoch, if it does: a callback's reason, or exhausted patience."""
        counted, patience = self.counted(), self.settings.patience
        measured = History(counted).column(f"valid_{self.objective.measure}")
        if self.stopped is not None or patience is None or not measured:
            return self.stopped
        best = measured.index(min(measured))
        if len(measured) - 1 - best < patience:
            return None
        return (
            f"no lower validation {self.objective.measure} for {patience} epochs after epoch {counted[best]['epoch']}"
        )

    def result(self, stopped: str | None = None) -> History:
        return History(self.history, stopped=stopped, notes=self.notes, diverged=self.diverges)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """If a callback raises, saves the work so far first."""
        try:
            yield
        except Exception:
            # The other ranks are elsewhere, and cannot be asked for their states.
            if self.split is None and (self.sharded is None or self.sharded.alone):
                with suppress(NonFiniteLoss):  # the last good checkpoint stays, and the callback's error is reported
                    self.save(confirm=False)
            raise

    @property
    def diverges(self) -> bool:
        """Whether the last epoch was much worse than guessing."""
        guessing = self.objective.guessing()
        return (
            guessing is not None and bool(self.history) and self.history[-1]["train_perplexity"] > _DIVERGED * guessing
        )

    def warn_if_diverging(self, record: Mapping[str, float]) -> None:
        if self.diverges and not self.warned:
            self.warned = True
            warnings.warn(
                f"training diverges: the perplexity of epoch {record['epoch']} is {record['train_perplexity']:.3g}, guessing "
                f"among {self.objective.guessing()} tokens has {self.objective.guessing()}; try a smaller lr or clip_norm",
                stacklevel=5,
            )

    def check_weights(self) -> None:
        """``NonFiniteLoss`` if a weight or the optimizer's state is not finite, so that it cannot be saved."""
        for of, held in (("weight", self.model.parameters()), ("optimizer's", self.optimizer.state_dict())):
            bad = finite(held.items())
            if self.split is not None:  # a part of the state that another rank holds
                bad = next((each for each in self.split.ranks.all(bad) if each is not None), None)
            if bad is not None:
                self._diverged(f"the {of} {bad}", math.inf)

    def _moving(self) -> list[Any]:
        """The gradients of the parameters that are not frozen."""
        return [g for name, g in self.model.grads.items() if name not in self.model.frozen]

    def step(self, arguments: tuple[Any, ...], tokens: int) -> dict[str, float]:
        """One step along the gradients of a batch; its record."""
        loss, state = self.objective.loss(*arguments, zero_gradients=True)
        if not math.isfinite(loss):
            self._diverged("the loss", loss)
        self.objective.backward()
        record = self._move(loss, self.objective.terms(loss, tokens), tokens)
        self.state = state
        return record

    def step_shards(
        self, batch: Shards, source: Minibatches[Any], *notes: float
    ) -> tuple[dict[str, float], NDArray[np.float64]]:
        """One step along the gradients of a batch that is split into shards: its record, and the notes of every rank (ranks, K)."""
        assert self.sharded is not None
        loss, weight, noted = self.sharded.gradients(batch, source, *notes)
        if not math.isfinite(loss):
            self._diverged("the loss", loss)
        return self._move(loss, [(loss, weight)], batch.tokens), noted

    def _move(self, loss: float, terms: Sequence[tuple[float, float]], tokens: int) -> dict[str, float]:
        """Changes the weights along the gradients, which are then zero; the record of the step."""
        norm, clipped = self._clip()
        (self.split or self.optimizer).step_and_zero_grad()
        if self.mean is not None and self.settings.average is not None:
            self.averaged += 1
            include(self.mean, self.model.parameters(), self.settings.average.share(self.averaged))
        if self.pruning is not None:
            self.pruning.apply(self.mean)
        self.batch += 1
        self.tokens += tokens
        self.sums.extend([0.0, 0.0] for _ in terms[len(self.sums) :])
        for sums, (mean, weight) in zip(self.sums, terms):
            sums[0] += mean * weight
            sums[1] += weight
        self.norms += norm
        self.clipped += clipped
        return {"step": self.model.steps, "loss": loss, "lr": self.optimizer.lr, "grad_norm": norm}

    def _clip(self) -> tuple[float, bool]:
        """The norm of the gradients before clipping, and whether clipping changed them."""
        limit, value = self.settings.clip_norm, self.settings.clip_value
        largest_norm, ranks = math.inf if limit is None else limit, self.settings.ranks
        if ranks is not None and ranks.near:
            norm = clip_on_ranks_(self.optimizer.layers, largest_norm, ranks)
        else:
            norm = clip_grad_norm_(self.optimizer.layers, largest_norm)
        if not math.isfinite(norm):
            self._diverged("the gradient's norm", norm)
        clipped = limit is not None and norm > limit
        if value is not None:
            largest = max(max(float(g.max()), -float(g.min())) for g in self._moving())
            clipped = clipped or largest > value
            clip_grad_value_(self.optimizer.layers, value)
        return norm, clipped

    def _diverged(self, what: str, value: float) -> None:
        file = self.settings.checkpoint
        kept = f"; the last good checkpoint is {file}" if file and file.exists() else ""
        raise NonFiniteLoss(
            f"{what} is {value} at step {self.batch + 1} of epoch {self.epoch + 1}{kept}; "
            "try a smaller lr or clip_norm"
        )

    def finish_epoch(self, tokens: int, seconds: float) -> dict[str, float]:
        unit = self.objective.unit
        record: dict[str, float] = {
            "epoch": self.epoch + 1,
            f"train_{self.objective.measure}": self.objective.recorded(self.mean_loss()),
            "lr": self.optimizer.lr,
            "grad_norm": self.norms / self.batch,
            "clipped": self.clipped / self.batch,
            unit: self.tokens,
            f"{unit}_per_second": tokens / max(seconds, 1e-9),
            "seconds": seconds,
        }
        if self.pruning is not None:
            record["sparsity"] = self.pruning.now
        self.history.append(record)
        self.epoch += 1
        self._start_epoch()
        return record

    def save(self, *, confirm: bool = True) -> None:
        """Writes the checkpoint, if one was asked for. All ranks call this together, unless ``confirm`` is False; rank 0 writes."""
        file = self.settings.checkpoint
        if file is None:
            return
        state = self.state if self.sharded is None else self.sharded.whole()
        self.check_weights()  # on every rank, so that all raise together
        optimizer = (self.split or self.optimizer).state_dict()
        if self.settings.leads:
            self._write(file, state, optimizer)
        self.saved_at = time.monotonic()
        if confirm and self.settings.ranks is not None:
            self.settings.ranks.gather(np.zeros(1))  # rank 0 has written: if it could not, every rank stops here

    def _write(self, file: Path, state: object, optimizer: Mapping[str, Array]) -> None:
        place = {name: getattr(self, name) for name in _KEPT}
        place.update(steps=self.model.steps, optimizer=type(self.optimizer).__name__)
        tensors = {f"optimizer.{name}": value for name, value in optimizer.items()}
        parts = state if isinstance(state, tuple) else () if state is None else (state,)
        tensors.update((f"state.{i}", part) for i, part in enumerate(parts))
        tensors.update((f"best.{name}", value) for name, value in (self.best or {}).items())
        tensors.update((f"average.{name}", value) for name, value in (self.mean or {}).items())
        tensors.update((f"mask.{name}", mask) for name, mask in (self.pruning.masks() if self.pruning else {}).items())
        self.model.save(file, tensors=tensors, metadata={"checkpoint": as_json(place), "run": self.run})

    def load(self, file: Path, lr: float | None, reading: EpochReader) -> None:
        """Restores a checkpoint; if anything does not fit, raises before anything is changed."""
        found = read_checkpoint(file)
        place = found.place
        self._check_fits(file, found, reading)
        self.optimizer.load_state_dict(found.held("optimizer."))
        self.model.load_state_dict(found.model.state_dict())
        self.model.steps = place["steps"]
        self.best, self.state = found.held("best.") or None, found.state
        self.mean, self.averaged = found.held("average.") or None, place.get("averaged", 0)
        if self.pruning is not None:
            self.pruning.restore(found.held("mask."), place.get("pruned", 0))
        if self.clock is not None:
            self.clock.restore(place["plan"])
        if self.sharded is not None and found.state is not None:
            self.sharded.split(found.state, self.reading["batch_size"])
        for name in ("epoch", "batch", "tokens", "clipped", "norms", "history"):
            setattr(self, name, place[name])
        self.sums = place.get("sums", [[place["nll"], float(place["tokens"])]] if place["batch"] else [])
        self.stopped = place.get("stopped")
        self._note_changes(place, lr)

    def _check_fits(self, file: Path, found: Checkpoint, reading: EpochReader) -> None:
        place = found.place
        told = model_differences(self.model, found.model)
        if told:
            raise ValueError(f"{file} cannot be resumed: {'; '.join(told)}; resume the same model")
        given = {"optimizer": type(self.optimizer).__name__, **self.reading, **self.rules}
        told = differences(given, found.settings)
        if told:
            raise ValueError(f"{file} cannot be resumed: {'; '.join(told)}; resume with the same settings")
        if self.pruning is not None:
            try:
                self.pruning.check(found.held("mask."), place.get("pruned", 0))
            except ValueError as error:
                raise _core.Error(f"{file} is damaged: {error}") from None
        begun = place["epoch"] + (place["batch"] > 0)
        if begun > self.epochs and self.clock is None:
            raise ValueError(f"{file} is in epoch {begun}, but epochs is {self.epochs}; give at least as many")
        source = reading.epoch(place["epoch"])
        if place["batch"] > len(source) or place["tokens"] > source.tokens:
            raise _core.Error(f"{file} is damaged: it is beyond the last batch of epoch {place['epoch'] + 1}")

    def _note_changes(self, place: Mapping[str, Any], lr: float | None) -> None:
        """Applies the settings that may change when a run is resumed, and notes the changes."""
        changes = []
        for name, now, before in (
            ("lr", place["lr"] if lr is None else lr, place["lr"]),
            ("epochs", self.epochs, place.get("epochs", self.epochs)),
            ("patience", self.patience, place.get("patience", self.patience)),
        ):
            setattr(self, name, now)
            if now != before:
                changes.append(f"{name} {now} ({before} before)")
        self.notes = [
            *place.get("notes", []),
            *([f"resumed in epoch {self.epoch + 1} with {', '.join(changes)}"] * bool(changes)),
        ]


_KEPT = (
    "epoch", "batch", "tokens", "clipped", "nll", "sums", "norms", "history", "lr", "stopped", "reading", "rules", "epochs", "patience",
    "notes", "averaged", "plan", "pruned",
)  # fmt: skip
