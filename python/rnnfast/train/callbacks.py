"""What may look on while ``fit`` trains."""

from __future__ import annotations

from collections.abc import Mapping

from rnnfast.files import PathLike
from rnnfast.protocols import Trainable
from rnnfast.train.tensorboard import EventWriter


class Callback:
    """Override what is wanted. Records are those of the history.

    Callbacks see training and may end it, but they must not change the weights: what a checkpoint does not hold, a
    resumed run cannot repeat.
    """

    def on_step(self, record: Mapping[str, float]) -> None:
        """After each step: ``step`` (counted from 1 over all epochs), ``loss``, ``lr``, ``grad_norm``."""

    def on_epoch(self, record: Mapping[str, float], model: Trainable) -> str | None:
        """After each epoch, before the checkpoint is written. A returned string ends training and is ``history.stopped``;
        the checkpoint remembers it, and resuming from there does not train on."""
        return None

    def on_end(self) -> None:
        """When ``fit`` ends, however it ends."""


class TensorBoard(Callback):
    """Curves for TensorBoard in ``folder``: each epoch's record, and each ``every``-th step's loss, rate and norm."""

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
