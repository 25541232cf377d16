"""What ``fit`` makes smaller: the perplexity of a text or of pairs, or a loss of a network's outputs."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from rnnfast._expect import kind_of, offers
from rnnfast.distributed.ranks import Ranks
from rnnfast.evaluate import check_fits, evaluate
from rnnfast.models.examples import fingerprint_of, reading_of
from rnnfast.models.network import Network
from rnnfast.models.supervised import Metrics, Supervised
from rnnfast.protocols import EpochReader, Sampling, Trainable
from rnnfast.text.corpus import reading
from rnnfast.train.checkpoint import fingerprint

VALIDATION_ROWS = 256  # of a network, evaluated together
_LONGEST = 500  # characters of a description of losses in a checkpoint


class Objective(Protocol):
    """A loss of batches, and what training records of it."""

    measure: ClassVar[str]  # its name in records
    unit: ClassVar[str]  # of what a batch predicts

    def loss(self, *batch: Any) -> tuple[float, object]:
        """The mean loss of a batch, and the state to continue with."""

    def backward(self) -> None:
        """Adds the gradients of the last loss to those of the model."""

    def reading(
        self, train: Any, *, batch_size: int, num_steps: int | None, sampling: Sampling | None, seed: int
    ) -> EpochReader:
        """How the training data are read."""

    def check(self, data: Any) -> None:
        """Raises if the model cannot read ``data``."""

    def fingerprint(self, data: Any) -> str | None:
        """What distinguishes ``data`` from others; None without data."""

    def validate(self, data: Any, ranks: Ranks | None) -> dict[str, float]:
        """What a record keeps of the validation data."""

    def weight(self, predictions: int) -> float:
        """The weight of the last loss in a mean over several batches; ``predictions``: of its batch."""

    def terms(self, loss: float, predictions: int) -> Sequence[tuple[float, float]]:
        """The last loss as a sum of means, each with its Σ weights; ``predictions``: of its batch."""

    def recorded(self, loss: float) -> float:
        """The measure of a mean loss."""

    def guessing(self) -> int | None:
        """The perplexity of guessing; None for a loss."""

    def rules(self) -> dict[str, Any]:
        """The settings that must not change when a run is resumed."""


class Perplexity:
    """Of a language model on a text, or of a translator on pairs."""

    measure: ClassVar[str] = "perplexity"
    unit: ClassVar[str] = "tokens"

    def __init__(self, model: Trainable) -> None:
        self._model = model

    def loss(self, *batch: Any) -> tuple[float, object]:
        return self._model.loss(*batch)

    def backward(self) -> None:
        self._model.backward()

    def reading(
        self, train: Any, *, batch_size: int, num_steps: int | None, sampling: Sampling | None, seed: int
    ) -> EpochReader:
        return reading(train, batch_size=batch_size, num_steps=num_steps, sampling=sampling, seed=seed)

    def check(self, data: Any) -> None:
        check_fits(self._model, data)

    def fingerprint(self, data: Any) -> str | None:
        return fingerprint(data)

    def validate(self, data: Any, ranks: Ranks | None) -> dict[str, float]:
        return {"valid_perplexity": evaluate(self._model, data, distributed=ranks).perplexity}

    def weight(self, predictions: int) -> float:
        return float(predictions)

    def terms(self, loss: float, predictions: int) -> Sequence[tuple[float, float]]:
        return [(loss, float(predictions))]

    def recorded(self, loss: float) -> float:
        return math.exp(loss) if loss < 700 else math.inf

    def guessing(self) -> int | None:
        config = self._model.config
        return int(config.get("vocab_size") or config["target_vocab_size"])

    def rules(self) -> dict[str, Any]:
        return {}


class Losses:
    """Of the outputs of a network."""

    measure: ClassVar[str] = "loss"
    unit: ClassVar[str] = "predictions"

    def __init__(self, supervised: Supervised) -> None:
        self._of = supervised

    def loss(self, *batch: Any) -> tuple[float, object]:
        return self._of.loss(*batch)

    def backward(self) -> None:
        self._of.backward()

    def reading(
        self, train: Any, *, batch_size: int, num_steps: int | None, sampling: Sampling | None, seed: int
    ) -> EpochReader:
        if num_steps is not None:
            raise ValueError(f"num_steps is {num_steps}, but a network reads whole sequences; cut them before")
        of = self._of
        return reading_of(of.network, of.losses, train, batch_size=batch_size, seed=seed, sampling=sampling)

    def check(self, data: Any) -> None:
        reading_of(self._of.network, self._of.losses, data, batch_size=1, seed=0, sampling=None)

    def fingerprint(self, data: Any) -> str | None:
        return fingerprint_of(self._of.network, self._of.losses, data)

    def weight(self, predictions: int) -> float:
        return self._of.weight()

    def terms(self, loss: float, predictions: int) -> Sequence[tuple[float, float]]:
        return self._of.terms

    def validate(self, data: Any, ranks: Ranks | None) -> dict[str, float]:
        loss, _, metrics = self._of.evaluate(data, VALIDATION_ROWS, ranks)
        return {"valid_loss": loss, **{f"valid_{name}": value for name, value in metrics.items()}}

    def recorded(self, loss: float) -> float:
        return loss

    def guessing(self) -> int | None:
        return None

    def rules(self) -> dict[str, Any]:
        told = ", ".join(f"{name}: {loss!r}" for name, loss in self._of.losses.items())
        return {"loss": told if len(told) <= _LONGEST else f"{zlib.crc32(told.encode()):08x}"}


def objective_for(model: Any, loss: Any, metrics: Metrics) -> Objective:
    """The objective of a model, checked."""
    wanted = "a model, such as an rf.LanguageModel or an rf.Sequential"
    if isinstance(model, Network):
        if loss is None:
            raise ValueError('a network needs a loss: give loss="cross_entropy", "mse", ..., or a loss of rf.losses')
        return Losses(Supervised(model, loss, metrics))
    offers(model, "model", wanted, "loss", "backward", "frozen")
    if loss is not None or (isinstance(metrics, Mapping) or len(metrics)):
        raise ValueError(
            f"{kind_of(model)} has its own loss; loss and metrics are for networks such as an rf.Sequential"
        )
    return Perplexity(model)
