"""Training for a given time: how many epochs fit into it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

PARTS = 50  # of the time: after each, the plan is corrected if the pace has changed
MEASURED = 5.0  # seconds, or a part of the time, that are measured before the first plan
TOLERATED = 0.01  # of the time: a smaller correction is left out

now = time.monotonic


class Plan:
    """The number of epochs of a run of ``minutes``, with evaluations: planned from the pace of the first seconds, without the first
    step, and corrected later where the pace changes. ``numbers`` is all that a checkpoint needs to continue it."""

    def __init__(self, minutes: float) -> None:
        self.total = 60.0 * minutes
        self.epochs = 0.0  # 0: not planned yet
        self.spent = self.evaluating = self.pace = 0.0  # seconds; of an evaluation; of an epoch's training
        # Seconds and epochs from which the pace is measured; negative: from the end of the first step.
        self._mark = (-1.0, 0.0)
        self._parts = 0
        self._last = 0.0

    @property
    def numbers(self) -> list[float]:
        """The state of the plan."""
        return [self.epochs, self.spent, self.evaluating, self.pace, *self._mark, float(self._parts)]

    def restore(self, numbers: Sequence[float]) -> None:
        """Takes back what ``numbers`` was."""
        self.epochs, self.spent, self.evaluating, self.pace, seconds, epochs, parts = numbers
        self._mark, self._parts = (seconds, epochs), int(parts)

    def start(self) -> None:
        """Time counts from here on."""
        self._last = now()

    def length(self, position: float) -> float:
        """The planned epochs; before the plan is made, those of the pace so far. ``position``: epochs that are done."""
        if self.epochs:
            return self.epochs
        return max(position, position * self.total / self.spent) if position and self.spent else math.inf

    def ends(self, position: float) -> bool:
        """Whether the plan is fulfilled."""
        return self.epochs > 0 and position >= self.epochs

    def step_done(self, position: float) -> bool:
        """Counts a step, and corrects the plan when it is time; True if it was made for the first time."""
        self._count()
        if self._mark[0] < 0:
            self._mark = (self.spent, position)
            return False
        if not self.epochs:
            if self.spent - self._mark[0] < min(MEASURED, self.total / PARTS):
                return False
            self._correct(position)
            return True
        if int(self.spent / self.total * PARTS) > self._parts:
            self._correct(position)
        return False

    def evaluated(self) -> None:
        """Counts what was done since the last step as the work of an epoch's end."""
        before = self.spent
        self._count()
        self.evaluating = self.spent - before
        self._mark = (self._mark[0] + self.evaluating, self._mark[1])

    def _count(self) -> None:
        last, self._last = self._last, now()
        self.spent += self._last - last

    def _correct(self, position: float) -> None:
        measured = (self.spent - self._mark[0]) / max(position - self._mark[1], 1e-9)
        self.pace = (self.pace + measured) / 2 if self.pace else measured
        self._mark, self._parts = (self.spent, position), int(self.spent / self.total * PARTS)
        left = max(self.total - self.spent - self.evaluating, 0.0)
        epochs = position + left / max(self.pace + self.evaluating, 1e-9)
        if not self.epochs or abs(epochs - self.epochs) * self.pace > TOLERATED * self.total:
            self.epochs = epochs
