"""Training over minibatches of a text or of sentence pairs, with checkpoints that resume to the bit."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Callable

import numpy as np

from rnnfast._arrays import positive
from rnnfast.callbacks import Callback
from rnnfast.data import reading
from rnnfast.evaluate import check_fits, evaluate
from rnnfast.files import sweep
from rnnfast.history import History
from rnnfast.io import read
from rnnfast.optim import OPTIMIZERS, Optimizer, clip_grad_norm_, clip_grad_value_
from rnnfast.schedules import Schedule, schedule_named
from rnnfast.text import PathLike


class NonFiniteLoss(ArithmeticError):
    """Training diverged: the loss or a gradient became NaN or infinite. The weights are those before that step."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM, after the step at hand was finished and the checkpoint written."""

    def __init__(self, number: int, checkpoint: Path | None) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number, self.checkpoint = number, checkpoint


class _Signals:
    """Turns SIGINT and SIGTERM into a flag that is looked at between steps, so no step is cut in half."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Bar:
    """A progress bar on a terminal, nothing elsewhere; the epoch's line is printed by ``on_epoch``."""

    def __init__(self, show: bool | None, total: int, done: int, epoch: int, epochs: int) -> None:
        self._bar: Any = None
        if show if show is not None else sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=done, unit="tok", unit_scale=True, leave=False, dynamic_ncols=True,
                desc=f"epoch {epoch + 1}/{epochs}",
            )  # fmt: skip

    def update(self, tokens: int, loss: float) -> None:
        if self._bar is not None:
            self._bar.set_postfix(perplexity=f"{math.exp(min(loss, 700)):.2f}", refresh=False)
            self._bar.update(tokens)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def fit(
    model: Any,
    train: Any,
    valid: Any = None,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    num_steps: int | None = None,
    optimizer: str | Optimizer = "adam",
    lr: float = 2e-3,
    schedule: str | Schedule = "constant",
    clip_norm: float | None = 1.0,
    clip_value: float | None = None,
    sampling: str | None = None,
    seed: int = 0,
    patience: int | None = None,
    keep_best: bool = False,
    checkpoint: PathLike | None = None,
    checkpoint_every: float = 20.0,
    resume: bool = False,
    run: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Trains ``model`` on ``train`` and returns the history: a language model on a text, a translator on pairs.

    Of a text with sequential sampling the state carries over from batch to batch within an epoch, as numbers: gradients stop at
    each batch's first step (truncated back-propagation through time).

    Parameters
    ----------
    train, valid : Corpus, ids or ParallelCorpus; ``valid`` is evaluated after every epoch
    epochs, batch_size, seed : as :func:`rnnfast.batches` or :meth:`rnnfast.ParallelCorpus.batches` read them
    num_steps, sampling : of a text, as :func:`rnnfast.batches` reads them; None: 35 and ``"sequential"``
    optimizer : ``"sgd"``, ``"adam"``, ``"adamw"``, or one made for this model
    lr : learning rate, unless ``optimizer`` brings its own
    schedule : of the learning rate, a :mod:`rnnfast.schedules` or its name: ``"step:decay=0.5,start=4"``, ``"cosine:warmup=1"``,
        ``"plateau:decay=0.5"``
    clip_norm, clip_value : largest global norm, and largest absolute value, of the gradients; None: no clipping
    patience : end after so many epochs in a row without a lower validation perplexity; None: never
    keep_best : leave the model with the weights of the epoch with the lowest validation perplexity
    checkpoint : file to save to every ``checkpoint_every`` seconds, after every epoch, and when interrupted
    resume : continue from ``checkpoint``; the result is the uninterrupted run's to the bit. What a callback stopped stays so
    run : anything JSON can hold, kept in the checkpoint
    progress : show a bar; None: on a terminal only
    on_epoch : called with each epoch's record
    callbacks : see :class:`rnnfast.callbacks.Callback`; ``TensorBoard(folder)`` is one

    Raises ``NonFiniteLoss`` when training diverges; the last good checkpoint stays.

    Source: R. J. Williams and J. Peng, Neural Computation 2 (1990), for truncated back-propagation through time.
    """
    positive(epochs, "epochs")
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {optimizer!r}: expected one of {', '.join(OPTIMIZERS)}")
        optimizer = OPTIMIZERS[optimizer](model, lr=lr)
    for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value), ("patience", patience)):
        if limit is not None and not limit > 0:
            raise ValueError(f"{name} is {limit}, expected more than 0, or None")
    plan = schedule_named(schedule)
    plan.check(epochs)
    if valid is None and (patience is not None or keep_best or plan.needs_validation):
        raise ValueError("patience, keep_best and the plateau schedule go by the validation text: give valid")
    read_as = reading(train, batch_size=batch_size, num_steps=num_steps, sampling=sampling, seed=seed)
    for epoch in range(min(epochs, 2)):  # whatever is wrong with the text shows before hours are spent
        read_as.epoch(epoch)
    for text in (train, valid):
        if text is not None:
            check_fits(model, text)
    file = None if checkpoint is None else Path(checkpoint)
    rules = {"schedule": repr(plan), "keep_best": keep_best}
    place = _Place(model, optimizer, read_as.settings, rules, run)
    if resume:
        if file is None:
            raise ValueError("resume needs a checkpoint to resume from")
        place.load(file)
    if file is not None:
        sweep(file)
    model.zero_grad()

    def train_epoch(signals: _Signals) -> None:
        source = read_as.epoch(place.epoch, start=place.batch)
        bar = _Bar(progress, source.tokens, place.tokens, place.epoch, epochs)
        try:
            for batch in source:
                position = place.epoch + place.batch / len(source)
                place.optimizer.lr = place.lr * plan.factor(position, epochs, place.perplexities())
                arguments = (*batch, place.state) if source.carries_state else tuple(batch)
                tokens = source.predictions(batch)
                record = place.step(arguments, tokens, clip_norm, clip_value, file)
                bar.update(tokens, place.nll / place.tokens)
                for callback in callbacks:
                    callback.on_step(record)
                if file and (signals.received or time.monotonic() - place.saved_at > checkpoint_every):
                    place.save(file)
                if signals.received:
                    raise Interrupted(signals.received, file)
        finally:
            bar.close()

    stopped = place.stopped or place.lost_patience(patience)
    try:
        with _Signals() as signals:
            while place.epoch < epochs and stopped is None:
                started, fresh = time.monotonic(), place.tokens
                train_epoch(signals)
                record = place.finish_epoch(place.tokens - fresh, time.monotonic() - started)
                if valid is not None:
                    record["valid_perplexity"] = evaluate(model, valid).perplexity
                if keep_best and History(place.history).best["epoch"] == record["epoch"]:
                    place.best = model.state_dict()
                for callback in callbacks:  # before saving: a run killed in between must not forget who stopped it
                    place.stopped = callback.on_epoch(record, model) or place.stopped
                if file:
                    place.save(file)
                if on_epoch is not None:
                    on_epoch(record)
                stopped = place.stopped or place.lost_patience(patience)
    finally:
        optimizer.lr = place.lr
        for callback in callbacks:
            callback.on_end()
    if place.best is not None:
        model.load_state_dict(place.best)
    return History(place.history, stopped=stopped)


class _Place:
    """Where training stands: everything a checkpoint must hold beside the weights."""

    def __init__(
        self, model: Any, optimizer: Optimizer, reading: Mapping[str, Any], rules: Mapping[str, Any], run: Any
    ) -> None:
        self.model, self.optimizer, self.reading, self.rules, self.run = model, optimizer, reading, rules, run
        self.lr = optimizer.lr  # before the schedule
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None
        self.stopped: str | None = None  # a callback's word
        self.epoch = 0
        self.saved_at = time.monotonic()
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.batch, self.tokens, self.clipped = 0, 0, 0
        self.nll = self.norms = 0.0
        self.state: Any = None

    def perplexities(self) -> list[float]:
        return History(self.history).column("valid_perplexity")

    def lost_patience(self, patience: int | None) -> str | None:
        perplexities = self.perplexities()
        if patience is None or not perplexities:
            return None
        best = perplexities.index(min(perplexities))
        if len(perplexities) - 1 - best < patience:
            return None
        return f"no lower validation perplexity for {patience} epochs after epoch {best + 1}"

    def step(
        self,
        arguments: tuple[Any, ...],
        tokens: int,
        clip_norm: float | None,
        clip_value: float | None,
        file: Path | None,
    ) -> dict[str, float]:
        loss, state = self.model.loss(*arguments)
        if not math.isfinite(loss):
            self._diverged("the loss", loss, file)
        self.model.backward()
        norm = clip_grad_norm_(self.model, math.inf if clip_norm is None else clip_norm)
        if not math.isfinite(norm):
            self._diverged("the gradient's norm", norm, file)
        clipped = clip_norm is not None and norm > clip_norm
        if clip_value is not None:
            largest = max(max(float(g.max()), -float(g.min())) for g in self.model.grads.values())
            clipped = clipped or largest > clip_value
            clip_grad_value_(self.model, clip_value)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state = state
        self.batch += 1
        self.tokens += tokens
        self.nll += loss * tokens
        self.norms += norm
        self.clipped += clipped
        return {"step": self.model.steps, "loss": loss, "lr": self.optimizer.lr, "grad_norm": norm}

    def _diverged(self, what: str, value: float, file: Path | None) -> None:
        kept = f"; the last good checkpoint is {file}" if file and file.exists() else ""
        raise NonFiniteLoss(
            f"{what} is {value} at step {self.batch + 1} of epoch {self.epoch + 1}{kept}; "
            "try a smaller lr or clip_norm"
        )

    def finish_epoch(self, tokens: int, seconds: float) -> dict[str, float]:
        record: dict[str, float] = {
            "epoch": self.epoch + 1,
            "train_perplexity": math.exp(min(self.nll / self.tokens, 700)),
            "lr": self.optimizer.lr,
            "grad_norm": self.norms / self.batch,
            "clipped": self.clipped / self.batch,
            "tokens": self.tokens,
            "tokens_per_second": tokens / max(seconds, 1e-9),
            "seconds": seconds,
        }
        self.history.append(record)
        self.epoch += 1
        self._start_epoch()
        return record

    def save(self, file: Path) -> None:
        place = {name: getattr(self, name) for name in _COUNTERS}
        place.update(
            steps=self.model.steps,
            lr=self.lr,
            stopped=self.stopped,
            optimizer=type(self.optimizer).__name__,
            reading=self.reading,
            rules=self.rules,
        )
        tensors = {f"optimizer.{name}": value for name, value in self.optimizer.state_dict().items()}
        parts = self.state if isinstance(self.state, tuple) else () if self.state is None else (self.state,)
        tensors.update((f"state.{i}", part) for i, part in enumerate(parts))
        tensors.update((f"best.{name}", value) for name, value in (self.best or {}).items())
        self.model.save(file, tensors=tensors, metadata={"checkpoint": json.dumps(place), "run": json.dumps(self.run)})
        self.saved_at = time.monotonic()

    def load(self, file: Path) -> None:
        model, tensors, metadata = read(file)
        try:
            place = json.loads(metadata["checkpoint"])
            steps, lr = int(place["steps"]), float(place["lr"])
            values = {name: place[name] for name in _COUNTERS}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file} is a model, not a checkpoint to resume from ({error})") from None
        if place.get("reading") != self.reading or place.get("optimizer") != type(self.optimizer).__name__:
            raise ValueError(
                f"{file} was made with {place.get('optimizer')} and {place.get('reading')}, "
                f"not with {type(self.optimizer).__name__} and {self.reading}; resume with the same settings"
            )
        rules = place.get("rules", {"schedule": "Constant()", "keep_best": False})
        if rules != self.rules:
            raise ValueError(f"{file} was made with {rules}, not with {self.rules}; resume with the same settings")
        if model.config != self.model.config:
            raise ValueError(f"{file} holds {model!r}, not {self.model!r}; resume the same model")

        def held(prefix: str) -> dict[str, Any]:
            return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

        self.optimizer.load_state_dict(held("optimizer."))
        self.best, self.stopped = held("best.") or None, place.get("stopped")
        self.model.load_state_dict(model.state_dict())
        self.model.steps, self.lr = steps, lr
        for name, value in values.items():
            setattr(self, name, value)
        parts = tuple(np.ascontiguousarray(tensors[n]) for n in sorted(tensors) if n.startswith("state."))
        self.state = None if not parts else parts[0] if len(parts) == 1 else parts


_COUNTERS = ("epoch", "batch", "tokens", "clipped", "nll", "norms", "history")


def checkpoint_run(file: PathLike) -> Any:
    """What ``fit`` was given as ``run`` when it wrote the checkpoint ``file``."""
    _, _, metadata = read(file)
    if "run" not in metadata:
        raise ValueError(f"{file} is a model, not a checkpoint to resume from")
    return json.loads(metadata["run"])
