"""Learning-rate schedules: pure functions of the progress of training, so that a resumed run needs no state for them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from rnnfast._expect import described


class Schedule(ABC):
    """The base of schedules: a factor of the learning rate.

    >>> class Linear(Schedule):
    ...     def factor(self, position, epochs, perplexities):
    ...         return 1 - position / epochs
    >>> [Linear().factor(p, 4, ()) for p in (0, 1, 2.5)]
    [1.0, 0.75, 0.375]
    """

    needs_validation = False

    def check(self, epochs: float) -> None:  # noqa: B027 most schedules suit any number of epochs
        """``ValueError`` if the schedule needs more than ``epochs``."""

    @abstractmethod
    def factor(self, position: float, epochs: float, perplexities: Sequence[float]) -> float:
        """The factor at ``position`` (1.5: half of the second epoch is done) of ``epochs``, which may end within one.

        ``perplexities`` are the validation perplexities of the epochs so far.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """The same learning rate throughout.

    >>> Constant().factor(2.5, 4, ())
    1.0
    """

    def factor(self, position: float, epochs: float, perplexities: Sequence[float]) -> float:
        return 1.0


@dataclass(frozen=True)
class StepDecay(Schedule):
    """1 for the first ``start`` epochs, then multiplied by ``decay`` every ``every`` epochs.

    Source: W. Zaremba et al., arXiv:1409.2329: decay 1/2 from epoch 4 on (small), 1/1.2 from epoch 6 (medium).

    >>> [StepDecay(decay=0.5, start=2).factor(epoch, 5, ()) for epoch in range(5)]
    [1.0, 1.0, 0.5, 0.25, 0.125]
    """

    decay: float = 0.5
    start: int = 4
    every: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay}, expected more than 0 and at most 1")
        if not self.start >= 0 or not self.every >= 1:
            raise ValueError(f"start and every are {self.start} and {self.every}, expected at least 0 and 1")

    def factor(self, position: float, epochs: float, perplexities: Sequence[float]) -> float:
        past = math.floor(position) - self.start
        return float(self.decay ** max(0, past // self.every + 1))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Rises linearly from 0 during ``warmup`` epochs, then falls as half a cosine to ``end`` at the last step.

    Source: I. Loshchilov and F. Hutter, arXiv:1608.03983, without restarts.

    >>> [round(Cosine(warmup=1).factor(p, 3, ()), 3) for p in (0, 0.5, 1, 2, 3)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    warmup: float = 0.0
    end: float = 0.0

    def __post_init__(self) -> None:
        if not self.warmup >= 0 or not 0 <= self.end <= 1:
            raise ValueError(f"warmup and end are {self.warmup} and {self.end}, expected at least 0, and 0 to 1")

    def check(self, epochs: float) -> None:
        if self.warmup >= epochs:
            raise ValueError(
                f"the warm-up of {self.warmup} epochs does not end in {epochs}: give more epochs or less warm-up"
            )

    def factor(self, position: float, epochs: float, perplexities: Sequence[float]) -> float:
        if position < self.warmup:
            return position / self.warmup
        falling = min((position - self.warmup) / (epochs - self.warmup), 1.0)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * falling)) / 2


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rises as half a cosine from ``start`` to 1 during the share ``rise`` of all epochs, then falls as half a cosine to ``end``.

    Source: L. N. Smith and N. Topin, arXiv:1708.07120; ``torch.optim.lr_scheduler.OneCycleLR``, whose ``div_factor`` is 1 / start and
    whose ``final_div_factor`` is start / end.

    >>> [round(OneCycle(rise=0.25, start=0.1).factor(p, 4, ()), 3) for p in (0, 0.5, 1, 2.5, 4)]
    [0.1, 0.55, 1.0, 0.5, 0.0]
    """

    rise: float = 0.3
    start: float = 0.04
    end: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.rise < 1 or not 0 <= self.start <= 1 or not 0 <= self.end <= 1:
            raise ValueError(
                f"rise, start and end are {self.rise}, {self.start} and {self.end}, expected more than 0 and less than 1, and 0 to 1"
            )

    def factor(self, position: float, epochs: float, perplexities: Sequence[float]) -> float:
        done = min(position / epochs, 1.0)
        low, share = (
            (self.start, 1 - done / self.rise) if done < self.rise else (self.end, (done - self.rise) / (1 - self.rise))
        )
        return low + (1 - low) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """Multiplied by ``decay`` whenever the validation perplexity has not fallen below ``(1 - threshold) * best`` for more
    than ``patience`` epochs, but never below ``least``. ``best`` is the last perplexity that did, as in
    ``torch.optim.lr_scheduler.ReduceLROnPlateau``, so several small improvements add up.

    Source: T. Mikolov's rnnlm toolkit halves this way; ``threshold`` 0.003 is its minimal improvement.

    >>> ReduceOnPlateau(decay=0.5).factor(3, 9, [100, 90, 91])
    0.5
    """

    decay: float = 0.5
    patience: int = 0
    threshold: float = 0.0
    least: float = 0.0

    needs_validation = True

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ValueError(f"decay is {self.decay}, expected more than 0 and less than 1")
        if not self.patience >= 0 or not 0 <= self.threshold < 1 or not 0 <= self.least <= 1:
            raise ValueError(
                f"patience, threshold and least are {self.patience}, {self.threshold} and {self.least}, "
                "expected at least 0, and 0 to 1"
            )

    def factor(self, position: float, epochs: float, perplexities: Sequence[float]) -> float:
        factor, best, waited = 1.0, math.inf, 0
        for perplexity in perplexities:
            if perplexity < best * (1 - self.threshold):
                best, waited = perplexity, 0  # small improvements do not change the perplexity to beat
            else:
                waited += 1
            if waited > self.patience:
                factor, waited = factor * self.decay, 0
        return max(factor, self.least)


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": StepDecay,
    "cosine": Cosine,
    "onecycle": OneCycle,
    "plateau": ReduceOnPlateau,
}


def schedule_named(spec: str | Schedule) -> Schedule:
    """A schedule from ``"name"`` or ``"name:option=value,option=value"``.

    >>> schedule_named("step:decay=0.5,start=4")
    StepDecay(decay=0.5, start=4, every=1)
    """
    return described(spec, Schedule, SCHEDULES, "schedule")
