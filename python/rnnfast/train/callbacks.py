"""Callbacks of ``fit``."""

from __future__ import annotations

from collections.abc import Mapping

from rnnfast.files import PathLike
from rnnfast.protocols import Trainable
from rnnfast.train.tensorboard import EventWriter


class Callback:
    """The base of callbacks; override any of its methods. The records are those of the history.

    Callbacks may observe training and end it, but must not change the weights: a resumed run could not repeat a change that
    is not in the checkpoint.

    >>> import rnnfast as rf
    >>> class Losses(Callback):
    ...     def __init__(self):
    ...         self.losses = []
    ...     def on_step(self, record):
    ...         self.losses.append(record["loss"])
    >>> losses, ids = Losses(), np.arange(101) % 5
    >>> history = rf.fit(rf.LanguageModel(5, hidden_size=4, seed=0), ids, epochs=2, batch_size=2, num_steps=10, callbacks=[losses])
    >>> len(losses.losses)
    10
    """

    def on_step(self, record: Mapping[str, float]) -> None:
        """After each step: ``step`` (counted from 1 over all epochs), ``loss``, ``lr``, ``grad_norm``."""

    def on_epoch(self, record: Mapping[str, float], model: Trainable) -> str | None:
        """After each epoch, before the checkpoint is written. A returned string ends training and becomes ``history.stopped``.
        The checkpoint stores it, and resuming from it does not continue training."""
        return None

    def on_end(self) -> None:
        """When ``fit`` ends, however it ends."""


class TensorBoard(Callback):
    """Curves for TensorBoard in ``folder``: the record of each epoch, and loss, rate and norm of every ``every``-th step.

    >>> import os, tempfile
    >>> import rnnfast as rf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     board, ids = TensorBoard(folder, every=5), np.arange(101) % 5
    ...     history = rf.fit(rf.LanguageModel(5, hidden_size=4, seed=0), ids, epochs=1, batch_size=2, num_steps=10, callbacks=[board])
    ...     len(os.listdir(folder))
    1
    """

    def __init__(self, folder: PathLike, *, every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"every is {every}, expected at least 1")
        self._writer, self._every, self._step = EventWriter(folder), every, 0

    def on_step(self, record: Mapping[str, float]) -> None:
        self._step = int(record["step"])
        if self._step % self._every == 0:
            self._writer.scalars({f"step/{name}": v for name, v in record.items() if name != "step"}, self._step)

    def on_epoch(self, record: Mapping[str, float], model: Trainable) -> str | None:
        values = {f"epoch/{name}": float(value) for name, value in record.items() if name != "epoch"}
        self._writer.scalars(values, int(record["epoch"]))
        return None

    def on_end(self) -> None:
        self._writer.close()
