"""Training: truncated back-propagation through time over minibatches, with checkpoints that resume to the bit."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Callable

import numpy as np

from rnnfast._arrays import positive
from rnnfast.data import SAMPLINGS, batches
from rnnfast.evaluate import evaluate
from rnnfast.io import read
from rnnfast.optim import OPTIMIZERS, Optimizer, clip_grad_norm_
from rnnfast.plot import new_figure
from rnnfast.text import PathLike


class NonFiniteLoss(ArithmeticError):
    """Training diverged: the loss or a gradient became NaN or infinite. The weights are those before that step."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM, after the step at hand was finished and the checkpoint written."""

    def __init__(self, number: int, checkpoint: Path | None) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number, self.checkpoint = number, checkpoint


class History(Sequence[Mapping[str, float]]):
    """One record an epoch: train and validation perplexity, learning rate, gradient norm, tokens a second, ...

    >>> History([{"epoch": 1, "train_perplexity": 9.5}])[-1]["train_perplexity"]
    9.5
    """

    def __init__(self, records: Sequence[Mapping[str, float]] = ()) -> None:
        self.records = [dict(r) for r in records]

    def __getitem__(self, index: Any) -> Any:
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"History({self.records!r})"

    def plot(self, path: PathLike | None = None) -> Any:
        """Perplexity over epochs as a matplotlib figure, written to ``path`` if given (extra: ``plot``)."""
        figure, axes = new_figure()
        from matplotlib.ticker import MaxNLocator, ScalarFormatter

        for key in ("train_perplexity", "valid_perplexity"):
            points = [(r["epoch"], r[key]) for r in self.records if key in r]
            if points:
                axes.plot(*zip(*points), marker="o", markersize=3, label=key.replace("_", " "))
        axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
        axes.legend()
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure


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
    num_steps: int = 35,
    optimizer: str | Optimizer = "adam",
    lr: float = 2e-3,
    clip_norm: float | None = 1.0,
    sampling: str = "sequential",
    seed: int = 0,
    checkpoint: PathLike | None = None,
    checkpoint_every: float = 20.0,
    resume: bool = False,
    run: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
) -> History:
    """Trains ``model`` on ``train`` and returns the history.

    With sequential sampling the state carries over from batch to batch within an epoch, as numbers: gradients stop at
    each batch's first step (truncated back-propagation through time).

    Parameters
    ----------
    train, valid : Corpus or ids; ``valid`` is evaluated after every epoch
    epochs, batch_size, num_steps, sampling, seed : as :func:`rnnfast.batches` reads them
    optimizer : ``"sgd"``, ``"adam"``, ``"adamw"``, or one made for this model
    lr : learning rate, unless ``optimizer`` brings its own
    clip_norm : largest global norm of the gradients; None: no clipping
    checkpoint : file to save to every ``checkpoint_every`` seconds, after every epoch, and when interrupted
    resume : continue from ``checkpoint``; the result is the uninterrupted run's to the bit
    run : anything JSON can hold, kept in the checkpoint
    progress : show a bar; None: on a terminal only
    on_epoch : called with each epoch's record

    Raises ``NonFiniteLoss`` when training diverges; the last good checkpoint stays.

    Source: R. J. Williams and J. Peng, Neural Computation 2 (1990), for truncated back-propagation through time.
    """
    positive(epochs, "epochs")
    if sampling not in SAMPLINGS:
        raise ValueError(f"unknown sampling {sampling!r}: expected one of {', '.join(SAMPLINGS)}")
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {optimizer!r}: expected one of {', '.join(OPTIMIZERS)}")
        optimizer = OPTIMIZERS[optimizer](model, lr=lr)
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm is {clip_norm}, expected more than 0, or None")
    reading: dict[str, Any] = {"batch_size": batch_size, "num_steps": num_steps, "sampling": sampling, "seed": seed}
    for epoch in range(min(epochs, 2)):  # whatever is wrong with the text shows before hours are spent
        batches(train, **reading, epoch=epoch)
    file = None if checkpoint is None else Path(checkpoint)
    place = _Place(model, optimizer, reading, run)
    if resume:
        if file is None:
            raise ValueError("resume needs a checkpoint to resume from")
        place.load(file)
    if file is not None:
        _sweep(file)
    model.zero_grad()

    with _Signals() as signals:
        saved_at = time.monotonic()
        while place.epoch < epochs:
            started, fresh = time.monotonic(), place.tokens
            source = batches(train, **reading, epoch=place.epoch, start=place.batch)
            bar = _Bar(progress, source.tokens, place.tokens, place.epoch, epochs)
            try:
                for x, y in source:
                    place.step(x, y, clip_norm, source.carries_state, file)
                    bar.update(y.size, place.nll / place.tokens)
                    if file and (signals.received or time.monotonic() - saved_at > checkpoint_every):
                        place.save(file)
                        saved_at = time.monotonic()
                    if signals.received:
                        raise Interrupted(signals.received, file)
            finally:
                bar.close()
            seconds = time.monotonic() - started
            record = place.finish_epoch(optimizer.lr, place.tokens - fresh, seconds)
            if valid is not None:
                record["valid_perplexity"] = evaluate(model, valid).perplexity
            if file:
                place.save(file)
                saved_at = time.monotonic()
            if on_epoch is not None:
                on_epoch(record)
    return History(place.history)


class _Place:
    """Where training stands: everything a checkpoint must hold beside the weights."""

    def __init__(self, model: Any, optimizer: Optimizer, reading: Mapping[str, Any], run: Any) -> None:
        self.model, self.optimizer, self.reading, self.run = model, optimizer, dict(reading), run
        self.history: list[dict[str, float]] = []
        self.epoch = 0
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.batch, self.tokens, self.clipped = 0, 0, 0
        self.nll = self.norms = 0.0
        self.state: Any = None

    def step(self, x: Any, y: Any, clip_norm: float | None, carry: bool, file: Path | None) -> None:
        loss, state = self.model.loss(x, y, self.state if carry else None)
        if not math.isfinite(loss):
            self._diverged("the loss", loss, file)
        self.model.backward()
        norm = clip_grad_norm_(self.model, math.inf if clip_norm is None else clip_norm)
        if not math.isfinite(norm):
            self._diverged("the gradient's norm", norm, file)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state = state
        self.batch += 1
        self.tokens += y.size
        self.nll += loss * y.size
        self.norms += norm
        self.clipped += clip_norm is not None and norm > clip_norm

    def _diverged(self, what: str, value: float, file: Path | None) -> None:
        kept = f"; the last good checkpoint is {file}" if file and file.exists() else ""
        raise NonFiniteLoss(
            f"{what} is {value} at step {self.batch + 1} of epoch {self.epoch + 1}{kept}; "
            "try a smaller lr or clip_norm"
        )

    def finish_epoch(self, lr: float, tokens: int, seconds: float) -> dict[str, float]:
        record: dict[str, float] = {
            "epoch": self.epoch + 1,
            "train_perplexity": math.exp(min(self.nll / self.tokens, 700)),
            "lr": lr,
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
            lr=self.optimizer.lr,
            optimizer=type(self.optimizer).__name__,
            reading=self.reading,
        )
        tensors = {f"optimizer.{name}": value for name, value in self.optimizer.state_dict().items()}
        parts = self.state if isinstance(self.state, tuple) else () if self.state is None else (self.state,)
        tensors.update((f"state.{i}", part) for i, part in enumerate(parts))
        self.model.save(file, tensors=tensors, metadata={"checkpoint": json.dumps(place), "run": json.dumps(self.run)})

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
        if model.config != self.model.config:
            raise ValueError(f"{file} holds {model!r}, not {self.model!r}; resume the same model")
        prefix = "optimizer."
        self.optimizer.load_state_dict({n[len(prefix) :]: v for n, v in tensors.items() if n.startswith(prefix)})
        self.model.load_state_dict(model.state_dict())
        self.model.steps, self.optimizer.lr = steps, lr
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


def _sweep(file: Path) -> None:
    """Removes what writers that were killed left beside ``file``."""
    for stale in file.parent.glob(f"{file.name}.tmp-*"):
        owner = stale.name.rpartition("-")[2]
        if not owner.isdigit() or _is_alive(int(owner)):
            continue
        with suppress(FileNotFoundError):
            stale.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
