"""What ``fit`` makes smaller: the perplexity of a text or of pairs, or a loss of a network's outputs."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from rnnfast._arrays import as_int32
from rnnfast._expect import kind_of, listed, offers
from rnnfast.distributed.ranks import Ranks
from rnnfast.evaluate import check_fits, evaluate
from rnnfast.models.examples import Rows, fingerprint_of, reading_of
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.network import Groups, Network
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.models.supervised import Metrics, Supervised, joined
from rnnfast.protocols import EpochReader, Sampling, Trainable
from rnnfast.text.corpus import reading
from rnnfast.train.checkpoint import fingerprint

VALIDATION_ROWS = 256  # of a network, evaluated together
_LONGEST = 500  # characters of a description of losses in a checkpoint


class Objective(Protocol):
    """A loss of batches, and what training records of it."""

    measure: ClassVar[str]  # its name in records
    unit: ClassVar[str]  # of what a batch predicts

    def loss(self, *batch: Any, zero_gradients: bool = False) -> tuple[float, object]:
        """The mean loss of a batch, and the state to continue with. ``zero_gradients``: the model's are zeros, and nobody reads them
        before :meth:`backward`, which then has less to add."""

    def backward(self) -> None:
        """Adds the gradients of the last loss to those of the model."""

    def rows(self, batch: Any) -> list[Any]:
        """Each row of a batch as a batch."""

    def no_groups(self) -> str:
        """Why :meth:`group_losses` cannot be called; empty if it can."""

    def group_losses(
        self, parts: Sequence[Any], state: Any, groups: Groups, predictions: Sequence[int] | None
    ) -> tuple[list[tuple[float, float]], Any]:
        """The loss and the weight of each of several batches of equally many rows, computed together with the bits of each alone, and
        the state to continue with. ``predictions``: of each; None: equally many, and the weights are 1. :meth:`backward` then adds
        the gradients of their sum, times the weights."""

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

    def loss(self, *batch: Any, zero_gradients: bool = False) -> tuple[float, object]:
        if type(self._model) is LanguageModel and "loss" not in vars(self._model):  # whose loss is no other
            return self._model._training_loss(*batch, zero_gradients=zero_gradients)
        return self._model.loss(*batch)

    def backward(self) -> None:
        self._model.backward()

    def rows(self, batch: Any) -> list[Any]:
        names = ("source", "source_lengths", "target") if isinstance(self._model, Seq2Seq) else ("x", "y")
        wanted = f"({', '.join(names)}), what model.loss takes"
        arrays = [as_int32(array, "batch") for array in listed(batch, "batch", wanted)]
        counts = [array.shape[-1] if array.ndim else 0 for array in arrays]
        if len(arrays) != len(names) or len(set(counts)) > 1 or not counts[0]:
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise ValueError(f"batch has arrays of shape {shapes}, expected {wanted}, of equally many rows")
        return [tuple(np.ascontiguousarray(array[..., n : n + 1]) for array in arrays) for n in range(counts[0])]

    def no_groups(self) -> str:
        if isinstance(self._model, Seq2Seq):
            return ""
        return self._model.no_groups if isinstance(self._model, LanguageModel) else "the model takes no groups"

    def group_losses(
        self, parts: Sequence[Any], state: Any, groups: Groups, predictions: Sequence[int] | None
    ) -> tuple[list[tuple[float, float]], Any]:
        weights = [1.0] * len(parts) if predictions is None else [float(count) for count in predictions]
        if isinstance(self._model, Seq2Seq):
            source, target = (joined([part[i] for part in parts], 1, 0, value) for i, value in ((0, 0), (2, -1)))
            lengths = np.concatenate([part[1] for part in parts])
            given = [] if groups.apart or predictions is None else weights
            return list(
                zip(
                    self._model._group_losses(source, lengths, target, groups.steps, given, apart=groups.apart), weights
                )
            ), None
        assert isinstance(self._model, LanguageModel)
        x, y = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
        losses, state = self._model._group_losses(x, y, state, groups.steps, groups.apart)
        return list(zip(losses, weights)), state

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

    def loss(self, *batch: Any, zero_gradients: bool = False) -> tuple[float, object]:
        return self._of.loss(*batch)

    def backward(self) -> None:
        self._of.backward()

    def rows(self, batch: Any) -> list[Any]:
        rows = Rows(self._of.network, self._of.losses, batch, "batch")
        return [rows.take(np.array([n])) for n in range(rows.count)]

    def no_groups(self) -> str:
        return self._of.network.no_groups

    def group_losses(
        self, parts: Sequence[Any], state: Any, groups: Groups, predictions: Sequence[int] | None
    ) -> tuple[list[tuple[float, float]], Any]:
        return self._of.group_losses(parts, groups), None

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
