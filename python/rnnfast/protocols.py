"""The interfaces that functions of this package require of a model or a text.

Any object with the methods of a protocol is accepted: :func:`rnnfast.evaluate` takes any :class:`Predictor`,
:func:`rnnfast.generate` any :class:`Continuer`. The package's own models implement several of them.

x and y are token ids (T, N): T steps of N rows. A state is whatever the model returned with the previous step; None starts from
the initial state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Callable, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._names import Cell as Cell
from rnnfast.files import PathLike

if TYPE_CHECKING:
    from rnnfast.text.vocab import Vocab

# The names that options take.
Precision = Literal["f32", "bf16", "int8"]
Norm = Literal["rms", "layer"]
Output = Literal["softmax", "adaptive", "sampled"]
Sampling = Literal["sequential", "random"]
OptimizerName = Literal["sgd", "adam", "adamw"]
Smoothing = Literal["none", "laplace", "kneser_ney"]
DecoderName = Literal["context_as_state", "context_as_input", "context_and_previous", "previous", "d2l"]
Context = Literal["last", "mean", "max"]
InitialState = Literal["context", "learned", "zero"]
Attention = Literal["none", "additive", "dot", "general"]
Readout = Literal["state", "all"]
Read = Literal["context", "previous"]

Array = NDArray[np.float32]
State = TypeVar("State")
Batch = TypeVar("Batch", bound="tuple[NDArray[Any], ...]")


class Predictor(Protocol[State]):
    """A model of text: an ``rf.LanguageModel``, an ``rf.NGram``."""

    @property
    def vocab(self) -> Vocab | None:
        """The tokens of its ids; None for a model of plain ids."""

    def nll(self, x: ArrayLike, y: ArrayLike, state: State | None = None) -> tuple[NDArray[np.float64], State]:
        """-log P of every target in nats, (T, N), zero where y is negative, and the state after the last step."""


class Continuer(Protocol[State]):
    """A model of text that continues a prompt: an ``rf.LanguageModel``, an ``rf.NGram``."""

    @property
    def vocab(self) -> Vocab | None:
        """The tokens of its ids."""

    def step(self, tokens: ArrayLike, state: State | None = None) -> tuple[Array, State]:
        """Logits (N, V) of what follows one token (N,) for each row, and the state after it."""


@runtime_checkable
class PairPredictor(Protocol):
    """A model of translations: an ``rf.Seq2Seq``. Lengths are (N,), the target begins with ``<bos>``."""

    @property
    def source_vocab(self) -> Vocab | None:
        """The tokens of the ids that it reads."""

    @property
    def target_vocab(self) -> Vocab | None:
        """The tokens of the ids that it writes."""

    def nll(self, source: ArrayLike, source_lengths: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
        """-log P of every target token after the first in nats, (T, N); zero at padding."""

    def predictions(self, source: ArrayLike, source_lengths: ArrayLike, target: ArrayLike) -> NDArray[np.int32]:
        """The most probable token at every position of the target after the first, (T, N)."""


class Trainable(Protocol):
    """A model that :func:`rnnfast.fit` trains. Its parameters are those of an rnnfast layer, which optimizers need."""

    steps: int  # of training

    @property
    def config(self) -> Mapping[str, Any]:
        """The options that the model was made with, of types that JSON has."""

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of the parameters that optimizers leave unchanged."""

    @property
    def grads(self) -> Mapping[str, Array]:
        """The gradients by the parameters' names."""

    @property
    def loss(self) -> Callable[..., tuple[float, object]]:
        """The mean loss of a batch, and the state to continue with; takes a batch's parts, and the state if the text carries one."""

    @property
    def nll(self) -> Callable[..., object]:
        """The loss of every target of a batch, without dropout and gradients."""

    def backward(self) -> None:
        """Adds the gradients of the last loss to ``grads``."""

    def zero_grad(self) -> None:
        """Sets every gradient to zero."""

    def parameters(self) -> Mapping[str, Array]:
        """The weights by name, read-only."""

    def state_dict(self) -> dict[str, Array]:
        """A copy of the weights by name."""

    def load_state_dict(self, state_dict: Mapping[str, ArrayLike]) -> None:
        """Copies weights in."""

    def save(
        self, path: PathLike, *, tensors: Mapping[str, Array] | None = None, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Writes a model file that also holds ``tensors`` and ``metadata``."""


class Shards(NamedTuple):
    """Some of the groups that the rows of a minibatch are split into: a batch for each, None for a group without rows, and the
    ``tokens`` that the whole minibatch predicts. ``even``: all groups have as many rows, and predict as many tokens."""

    parts: list[Any]
    tokens: int
    even: bool = False


class Minibatches(Protocol[Batch]):
    """The minibatches of one epoch."""

    tokens: int  # predictions in all

    @property
    def carries_state(self) -> bool:
        """Whether a batch continues the text of the one before it."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def predictions(self, batch: Batch) -> int:
        """How many tokens a batch predicts."""

    def shards(self, own: range, count: int) -> Iterator[Shards]:
        """The same minibatches, of whose ``count`` groups of rows only those with the numbers ``own`` are read."""


class EpochReader(Protocol):
    """How a text is read: the ``settings`` that a checkpoint stores, and the minibatches of every epoch."""

    settings: dict[str, Any]

    def epoch(self, number: int, start: int = 0) -> Minibatches[Any]:
        """The minibatches of an epoch, from batch ``start`` on."""


@runtime_checkable
class ReadableText(Protocol):
    """Training data that define how they are read: an ``rf.ParallelCorpus``."""

    def reading(self, *, batch_size: int, seed: int, num_steps: int | None, sampling: Sampling | None) -> EpochReader:
        """How :func:`rnnfast.fit` reads it."""
