"""Averages of the weights over the steps of training, which predict better than the last weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rnnfast._expect import described
from rnnfast.nn.layer import Array

__all__ = ["ASGD", "EMA", "Average"]


class Average(ABC):
    """The base of averages: a <- a + share (w - a) after every step, once it has begun.

    >>> EMA(decay=0.9).begins(1, [])
    True
    """

    needs_validation = False

    @abstractmethod
    def begins(self, epoch: int, perplexities: Sequence[float]) -> bool:
        """Whether averaging begins with this ``epoch``, counted from 1, after those ``perplexities`` of the validation data."""

    @abstractmethod
    def share(self, count: int) -> float:
        """The share of the weights of step ``count`` of averaging, counted from 1."""


@dataclass(frozen=True)
class EMA(Average):
    r"""The exponential moving average a <- decay a + (1 - decay) w, from the first step on. At first it forgets faster, with
    decay n / (n + 9) in step n, so that the initial weights do not linger.

    >>> [round(EMA(decay=0.999).share(n), 3) for n in (1, 11, 1_000_000)]
    [0.9, 0.45, 0.001]
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ValueError(f"decay is {self.decay}, expected more than 0 and less than 1")

    def begins(self, epoch: int, perplexities: Sequence[float]) -> bool:
        return True

    def share(self, count: int) -> float:
        return 1 - min(self.decay, count / (count + 9))


@dataclass(frozen=True)
class ASGD(Average):
    """Averaged SGD: the mean of the weights of all steps from epoch ``start`` on, counted from 1; with ``start`` 0, from the epoch on
    after which the validation perplexity is not below that of any epoch but the last ``trigger``.

    Source: B. T. Polyak and A. B. Juditsky, SIAM J. Control Optim. 30 (1992); S. Merity et al., arXiv:1708.02182, for the trigger.

    >>> ASGD(trigger=2).begins(5, [9, 7, 8, 7.5]), ASGD(trigger=2).begins(5, [9, 7, 6, 5])
    (True, False)
    """

    start: int = 0
    trigger: int = 5

    def __post_init__(self) -> None:
        if not self.start >= 0 or not self.trigger >= 1:
            raise ValueError(f"start and trigger are {self.start} and {self.trigger}, expected at least 0 and 1")

    @property
    def needs_validation(self) -> bool:  # type: ignore[override]
        return self.start == 0

    def begins(self, epoch: int, perplexities: Sequence[float]) -> bool:
        if self.start:
            return epoch >= self.start
        before = perplexities[: -self.trigger]
        return len(before) > 0 and perplexities[-1] > min(before)

    def share(self, count: int) -> float:
        return 1 / count


AVERAGES: dict[str, type[Average]] = {"ema": EMA, "asgd": ASGD}


def average_named(spec: str | Average | None) -> Average | None:
    """An average from ``"name"`` or ``"name:option=value,option=value"``.

    >>> average_named("ema:decay=0.99")
    EMA(decay=0.99)
    """
    return None if spec is None else described(spec, Average, AVERAGES, "average")


def include(mean: dict[str, Array], weights: Mapping[str, Array], share: float) -> None:
    """mean += share (weights - mean), in place."""
    for name, value in mean.items():
        difference = weights[name] - value
        difference *= np.float32(share)
        value += difference
