"""Training over minibatches of a text or of sentence pairs, with checkpoints that resume to the bit."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Callable

import numpy as np

from rnnfast import _core
from rnnfast._arrays import positive
from rnnfast._expect import brief, kind_of, offers
from rnnfast.evaluate import check_fits, evaluate
from rnnfast.files import PathLike, sweep
from rnnfast.text.corpus import reading
from rnnfast.train.callbacks import Callback
from rnnfast.train.checkpoint import (
    as_json,
    checkpoint_run,
    differences,
    fingerprint,
    finite,
    model_differences,
    read_checkpoint,
)
from rnnfast.train.history import History
from rnnfast.train.optim import OPTIMIZERS, Optimizer, clip_grad_norm_, clip_grad_value_
from rnnfast.train.progress import Bar, tell
from rnnfast.train.schedules import Schedule, schedule_named

__all__ = ["Interrupted", "NonFiniteLoss", "checkpoint_run", "fit"]

LEARNING_RATE = 2e-3
_DIVERGED = 10.0  # times the perplexity of guessing: a first epoch of too many steps at a high rate stays below


class NonFiniteLoss(ArithmeticError):
    """Training diverged: the loss, a gradient or a weight became NaN or infinite. The weights are those before that step, or
    with ``keep_best`` those of the best epoch; ``history`` holds the epochs that were finished."""

    history = History()


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM, after the step at hand was finished and the checkpoint written.

    The weights are those of that step, or with ``keep_best`` those of the best epoch; ``history`` holds the epochs that were
    finished, ``number`` the signal, ``checkpoint`` the file to resume from or None.
    """

    history = History()

    def __init__(self, number: int, checkpoint: Path | None) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number, self.checkpoint = number, checkpoint


class _Signals:
    """Turns SIGINT and SIGTERM into a flag that is looked at between steps, so no step is cut in half.

    A second signal does what it does without us: Ctrl-C raises KeyboardInterrupt where the program stands, SIGTERM ends it. Signals
    that the program ignores stay ignored.
    """

    def __init__(self, checkpoint: Path | None) -> None:
        self.received = 0
        self._checkpoint = checkpoint
        self._before: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            self._restore()
            signal.raise_signal(number)
        self.received = number

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises ``Interrupted`` if a signal came."""
        if self.received:
            raise Interrupted(self.received, self._checkpoint)

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (None, signal.SIG_IGN):  # None: a handler that is not Python's
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if self.received and not isinstance(error, KeyboardInterrupt):
            raise Interrupted(self.received, self._checkpoint) from error


def fit(
    model: Any,
    train: Any,
    valid: Any = None,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    num_steps: int | None = None,
    optimizer: str | Optimizer = "adam",
    lr: float | None = None,
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

    A model that was trained before trains on from its weights, with whatever text and settings are given.

    Of a text with sequential sampling the state carries over from batch to batch within an epoch, as numbers: gradients stop at
    each batch's first step (truncated back-propagation through time).

    Parameters
    ----------
    train, valid : Corpus, ids or ParallelCorpus; ``valid`` is evaluated after every epoch
    epochs, batch_size, seed : as :func:`rnnfast.batches` or :meth:`rnnfast.ParallelCorpus.batches` read them
    num_steps, sampling : of a text, as :func:`rnnfast.batches` reads them; None: 35 and ``"sequential"``
    optimizer : ``"sgd"``, ``"adam"``, ``"adamw"``, or one made for this model, which brings its own learning rate
    lr : learning rate; None: 0.002, or when resuming the checkpoint's
    schedule : of the learning rate, a :mod:`rnnfast.schedules` or its name: ``"step:decay=0.5,start=4"``, ``"cosine:warmup=1"``,
        ``"plateau:decay=0.5"``
    clip_norm, clip_value : largest global norm, and largest absolute value, of the gradients; None: no clipping
    patience : end after so many epochs in a row without a lower validation perplexity; None: never
    keep_best : leave the model with the weights of the epoch with the lowest validation perplexity, however training ends
    checkpoint : file to save to every ``checkpoint_every`` seconds, after every epoch, and when interrupted
    resume : continue from ``checkpoint``; the result is the uninterrupted run's to the bit. What a callback stopped stays so.
        ``lr``, ``epochs`` and ``patience`` may be others than before, which is told and noted in ``history.notes``; ``ValueError``
        names what else differs: the texts, the vocabulary, and every setting that would make it another run
    run : anything JSON can hold, kept in the checkpoint
    progress : show a bar; None: on a terminal and in a notebook only
    on_epoch : called with each epoch's record, after the checkpoint is written
    callbacks : see :class:`rnnfast.Callback`; ``TensorBoard(folder)`` is one

    Raises ``NonFiniteLoss`` when a number is no longer finite, and warns when the perplexity is ten times that of guessing; the last
    good checkpoint stays. Raises ``Interrupted`` after SIGINT or SIGTERM, once the step or the epoch's end at hand is finished and
    the checkpoint written; a second Ctrl-C does not wait for that. Both carry the ``history``.

    Source: R. J. Williams and J. Peng, Neural Computation 2 (1990), for truncated back-propagation through time.
    """
    offers(model, "model", "a model, such as an rf.LanguageModel", "loss", "backward", "frozen")
    positive(epochs, "epochs")
    optimizer, own_lr = _optimizer_for(model, optimizer, lr)
    for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value), ("patience", patience)):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float, np.number))):
            raise TypeError(f"{name} is {brief(limit)}, expected a number, or None")
        if limit is not None and not limit > 0:
            raise ValueError(f"{name} is {limit}, expected more than 0, or None")
    patience = None if patience == math.inf else patience
    if not isinstance(checkpoint_every, (int, float)):
        raise TypeError(f"checkpoint_every is {brief(checkpoint_every)}, expected a number of seconds")
    if len(model.frozen) == len(model.parameters()):
        raise ValueError("every parameter of the model is frozen: free some with model.requires_grad_(True)")
    plan = schedule_named(schedule)
    plan.check(epochs)
    if valid is None and (patience is not None or keep_best or plan.needs_validation):
        raise ValueError("patience, keep_best and the plateau schedule go by the validation text: give valid")
    if resume and checkpoint is None:
        raise ValueError("resume needs a checkpoint to resume from")
    read_as = reading(train, batch_size=batch_size, num_steps=num_steps, sampling=sampling, seed=seed)
    for epoch in range(min(epochs, 2)):  # whatever is wrong with the text shows before hours are spent
        read_as.epoch(epoch)
    for text in (train, valid):
        if text is not None:
            check_fits(model, text)
    try:
        kept_run = json.dumps(run, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"run cannot be kept in a checkpoint, which is JSON: {error}") from None
    file = None if checkpoint is None else Path(checkpoint)
    rules: dict[str, Any] = {"schedule": repr(plan), "keep_best": keep_best}
    if file is not None:
        limits = {"clip_norm": clip_norm, "clip_value": clip_value}
        rules.update(
            (name, None if limit is None or limit == math.inf else float(limit)) for name, limit in limits.items()
        )
        rules.update(optimizer.options, frozen=sorted(model.frozen), train=fingerprint(train), valid=fingerprint(valid))
    place = _Place(model, optimizer, read_as.settings, rules, kept_run, epochs, patience)
    if resume and file is not None:
        place.load(file, own_lr, read_as)
        for note in place.notes:
            if progress is not False:
                tell(note)
    if file is not None:
        sweep(file)
    model.zero_grad()

    def train_epoch(signals: _Signals) -> None:
        source = read_as.epoch(place.epoch, start=place.batch)
        bar = Bar(progress, source.tokens, place.tokens, place.epoch, epochs)
        try:
            for batch in source:
                position = place.epoch + place.batch / len(source)
                place.optimizer.lr = place.lr * plan.factor(position, epochs, place.perplexities())
                arguments = (*batch, place.state) if source.carries_state else tuple(batch)
                tokens = source.predictions(batch)
                record = place.step(arguments, tokens, clip_norm, clip_value, file)
                bar.update(tokens, place.nll / place.tokens)
                if callbacks:
                    with place.kept(file):
                        for callback in callbacks:
                            callback.on_step(record)
                if file and (signals.received or time.monotonic() - place.saved_at > checkpoint_every):
                    place.save(file)
                signals.check()
        finally:
            bar.close()

    def end_epoch(fresh: int, seconds: float) -> None:
        place.check_weights(file)
        record = place.finish_epoch(place.tokens - fresh, seconds)
        if valid is not None:
            record["valid_perplexity"] = evaluate(model, valid).perplexity
        if keep_best and History(place.history).best["epoch"] == record["epoch"]:
            place.best = model.state_dict()
        with place.kept(file):
            for callback in callbacks:  # before saving: a run killed in between must not forget who stopped it
                place.stopped = callback.on_epoch(record, model) or place.stopped
        if file:
            place.save(file)
        if on_epoch is not None:
            on_epoch(record)
        place.warn_if_diverging(record)

    with ExitStack() as ending:
        for callback in reversed(callbacks):  # each is told, whatever another raises
            ending.callback(callback.on_end)
        try:
            with _Signals(file) as signals:
                try:
                    stopped = place.stopped or place.lost_patience(patience)
                    while place.epoch < epochs and stopped is None:
                        started, fresh = time.monotonic(), place.tokens
                        train_epoch(signals)
                        end_epoch(fresh, time.monotonic() - started)
                        stopped = place.stopped or place.lost_patience(patience)
                        signals.check()
                finally:
                    optimizer.lr = place.lr
                    if place.best is not None:
                        model.load_state_dict(place.best)
        except (Interrupted, NonFiniteLoss) as end:
            end.history = History(place.history, notes=place.notes, diverged=place.diverges)
            raise
    return History(place.history, stopped=stopped, notes=place.notes, diverged=place.diverges)


def _optimizer_for(model: Any, optimizer: Any, lr: float | None) -> tuple[Optimizer, float | None]:
    """The optimizer, and the learning rate that the caller chose if there is one."""
    if isinstance(optimizer, type):
        raise TypeError(f"optimizer is the class {optimizer.__name__}; give {optimizer.__name__}(model) or its name")
    if not isinstance(optimizer, (str, Optimizer)):
        raise TypeError(f"optimizer is {kind_of(optimizer)}, expected a name, or an optimizer made for this model")
    if not isinstance(optimizer, str):
        if lr is not None and lr != optimizer.lr:
            raise ValueError(f"lr is {lr}, but the optimizer brings its own, {optimizer.lr}; give one of them")
        if not optimizer.covers(model):
            raise ValueError(
                "the optimizer was made for another model and would leave this one as it is; make it for this one"
            )
        return optimizer, optimizer.lr
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {brief(optimizer)}: expected one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer](model, lr=LEARNING_RATE if lr is None else lr), lr


class _Place:
    """Where training stands: everything a checkpoint must hold beside the weights."""

    def __init__(
        self,
        model: Any,
        optimizer: Optimizer,
        reading: Mapping[str, Any],
        rules: Mapping[str, Any],
        run: str,
        epochs: int,
        patience: int | None,
    ) -> None:
        self.model, self.optimizer, self.reading, self.rules, self.run = model, optimizer, reading, rules, run
        self.epochs, self.patience = epochs, patience
        self.notes: list[str] = []
        self.warned = False
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

    @contextmanager
    def kept(self, file: Path | None) -> Iterator[None]:
        """If a callback raises, the work up to here is saved first."""
        try:
            yield
        except Exception:
            if file:
                self.save(file)
            raise

    @property
    def diverges(self) -> bool:
        """Whether the last epoch was worse than guessing, by far."""
        return bool(self.history) and self.history[-1]["train_perplexity"] > _DIVERGED * self._choices

    @property
    def _choices(self) -> int:
        config = self.model.config
        return int(config.get("vocab_size") or config["target_vocab_size"])

    def warn_if_diverging(self, record: Mapping[str, float]) -> None:
        if self.diverges and not self.warned:
            self.warned = True
            warnings.warn(
                f"training diverges: the perplexity of epoch {record['epoch']} is {record['train_perplexity']:.3g}, guessing "
                f"among {self._choices} tokens has {self._choices}; try a smaller lr or clip_norm",
                stacklevel=4,
            )

    def check_weights(self, file: Path | None) -> None:
        """``NonFiniteLoss`` if the last step has left a weight, or what the optimizer remembers, that no file may hold."""
        for of, held in (("weight", self.model.parameters()), ("optimizer's", self.optimizer.state_dict())):
            if (bad := finite(held.items())) is not None:
                self._diverged(f"the {of} {bad}", math.inf, file)

    def _moving(self) -> list[Any]:
        """The gradients of the parameters that are not frozen."""
        return [g for name, g in self.model.grads.items() if name not in self.model.frozen]

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
            largest = max(max(float(g.max()), -float(g.min())) for g in self._moving())
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
            "train_perplexity": _exp(self.nll / self.tokens),
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
        self.check_weights(file)
        place = {name: getattr(self, name) for name in _KEPT}
        place.update(steps=self.model.steps, optimizer=type(self.optimizer).__name__)
        tensors = {f"optimizer.{name}": value for name, value in self.optimizer.state_dict().items()}
        parts = self.state if isinstance(self.state, tuple) else () if self.state is None else (self.state,)
        tensors.update((f"state.{i}", part) for i, part in enumerate(parts))
        tensors.update((f"best.{name}", value) for name, value in (self.best or {}).items())
        self.model.save(file, tensors=tensors, metadata={"checkpoint": as_json(place), "run": self.run})
        self.saved_at = time.monotonic()

    def load(self, file: Path, lr: float | None, read_as: Any) -> None:
        """Takes everything from a checkpoint, or nothing: whatever does not fit is found first."""
        found = read_checkpoint(file)
        place = found.place
        told = model_differences(self.model, found.model)
        if told:
            raise ValueError(f"{file} cannot be resumed: {'; '.join(told)}; resume the same model")
        given = {"optimizer": type(self.optimizer).__name__, **self.reading, **self.rules}
        told = differences(given, found.settings)
        if told:
            raise ValueError(f"{file} cannot be resumed: {'; '.join(told)}; resume with the same settings")
        if place["epoch"] + (place["batch"] > 0) > self.epochs:
            raise ValueError(
                f"{file} is in epoch {place['epoch'] + (place['batch'] > 0)}, but epochs is {self.epochs}; give at least as many"
            )
        source = read_as.epoch(place["epoch"])
        if place["batch"] > len(source) or place["tokens"] > source.tokens:
            raise _core.Error(f"{file} is damaged: it is further in epoch {place['epoch'] + 1} than that has batches")
        self.optimizer.load_state_dict(found.held("optimizer."))
        self.model.load_state_dict(found.model.state_dict())
        self.model.steps = place["steps"]
        self.best, self.state = found.held("best.") or None, found.state
        for name in ("epoch", "batch", "tokens", "clipped", "nll", "norms", "history"):
            setattr(self, name, place[name])
        self.stopped, notes = place.get("stopped"), []
        for name, now, before in (
            ("lr", place["lr"] if lr is None else lr, place["lr"]),
            ("epochs", self.epochs, place.get("epochs", self.epochs)),
            ("patience", self.patience, place.get("patience", self.patience)),
        ):
            setattr(self, name, now)
            if now != before:
                notes.append(f"{name} {now} ({before} before)")
        self.notes = [
            *place.get("notes", []),
            *([f"resumed in epoch {self.epoch + 1} with {', '.join(notes)}"] * bool(notes)),
        ]


_KEPT = (
    "epoch", "batch", "tokens", "clipped", "nll", "norms", "history", "lr", "stopped", "reading", "rules", "epochs", "patience",
    "notes",
)  # fmt: skip


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf
