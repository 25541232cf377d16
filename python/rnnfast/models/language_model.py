"""Models: layers put together. The composition itself is compiled; here are shapes, configuration and files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import _core
from rnnfast._arrays import as_float32, as_int32, at_least, dropout_share, new_seed, positive, precision
from rnnfast._expect import choice
from rnnfast.files import PathLike
from rnnfast.models.base import as_json, check_memory, initialise, options_with
from rnnfast.models.storage import write_model
from rnnfast.nn.layer import Array, Layer, State
from rnnfast.nn.recurrent import TABLE
from rnnfast.protocols import Cell, Precision
from rnnfast.text.vocab import Vocab


class LanguageModel(Layer):
    r"""P(x_t | x_1 … x_{t-1}) by a recurrent network.

    .. math:: H_t = \mathrm{cell}(E[x_t], H_{t-1}), \quad O_t = H_t W_{hq} + b_q, \quad P = \mathrm{softmax}(O_t)

    Parameters
    ----------
    vocab : Vocab, or the number of tokens for a model without text
    cell : a name in ``rf.nn.LAYERS``: ``"rnn"``, ``"gru"``, ``"lstm"``, ...
    embedding_size : 0 for one-hot input
    hidden_size, num_layers : of the recurrent stack
    dropout : on every connection that is not recurrent (Zaremba et al., arXiv:1409.2329), in training only
    embedding_dropout : of the embeddings, apart from the other connections; None: as ``dropout``. It needs an
        ``embedding_size``.
    weights : ``"f32"``, or ``"bf16"`` for products of numbers rounded to bfloat16 (all but the output layer's gradients), or
        ``"int8"`` for running only: products of whole numbers from -127 to 127, a scale for every row
    variational : the same dropout masks at every step of a sequence (Gal and Ghahramani, arXiv:1512.05287, on what is not
        recurrent)
    tie_weights : the output product uses the embedding's table, so ``embedding_size`` is ``hidden_size`` (Press and Wolf,
        arXiv:1608.05859; Inan et al., arXiv:1611.01462)
    init_scale : the first weights are uniform in plus or minus this; None: those PyTorch's layers begin with
    seed : of the initial weights and of dropout

    >>> model = LanguageModel(5, hidden_size=8, seed=0)
    >>> loss, state = model.loss([[0], [1]], [[1], [2]])
    >>> model.backward()
    """

    kind = "language_model"
    exact: tuple[str, ...] = ()  # matrices that a file never rounds

    def __init__(
        self,
        vocab: Vocab | int,
        *,
        cell: Cell = "rnn",
        embedding_size: int = 0,
        hidden_size: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        embedding_dropout: float | None = None,
        weights: Precision = "f32",
        variational: bool = False,
        tie_weights: bool = False,
        init_scale: float | None = None,
        seed: int | None = None,
    ) -> None:
        self.vocab = vocab if isinstance(vocab, Vocab) else None
        size = len(vocab) if isinstance(vocab, Vocab) else positive(vocab, "vocab")
        options: dict[str, Any] = {
            "cell": choice(cell, TABLE, "cell"),
            "vocab_size": size,
            "embedding_size": at_least(embedding_size, 0, "embedding_size"),
            "hidden_size": positive(hidden_size, "hidden_size"),
            "num_layers": positive(num_layers, "num_layers"),
            "dropout": dropout_share(dropout),
            "weights": precision(weights),
            "seed": new_seed(seed),
            "variational": bool(variational),
            "tie_weights": bool(tie_weights),
        }
        if embedding_dropout is not None:
            options["embedding_dropout"] = dropout_share(embedding_dropout, "embedding_dropout")
        first = (
            TABLE[cell].gates * options["hidden_size"] * ((options["embedding_size"] or size) + options["hidden_size"])
        )
        later = TABLE[cell].gates * 2 * options["hidden_size"] ** 2 * (options["num_layers"] - 1)
        check_memory(size * (options["embedding_size"] + options["hidden_size"]) + first + later)
        self.steps = 0  # of training; with the seed it decides the dropout masks
        self._core = _core.LanguageModel(as_json(options))
        self._config: dict[str, Any] = json.loads(self._core.config)
        if init_scale is not None:
            initialise(self, init_scale, self._config["seed"])

    def _options(self) -> dict[str, Any]:
        return options_with(self.config, {"vocab": self.vocab})

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.config.items() if name != "seed")
        return f"LanguageModel({shown})"

    @property
    def config(self) -> Mapping[str, Any]:
        """What the model was made with, read-only: it has been compiled in, so another value could not count."""
        return MappingProxyType(self._config)

    @property
    def num_parameters(self) -> int:
        """How many numbers training adjusts."""
        return sum(value.size for value in self.parameters().values())

    def loss(self, x: ArrayLike, y: ArrayLike, state: Any = None) -> tuple[float, State]:
        """Mean cross-entropy in nats of targets y (T, N) given inputs x (T, N), and the state to carry on with.

        For training: dropout acts, and :meth:`backward` may follow. A negative target counts for nothing. The
        returned state is plain numbers, so gradients stop there: truncated back-propagation through time.
        """
        self.steps += 1
        nll, state = self._loss(x, y, state, train=True)
        counted = int(np.count_nonzero(np.asarray(y) >= 0))
        return float(nll.sum() / max(counted, 1)), state

    def nll(self, x: ArrayLike, y: ArrayLike, state: Any = None) -> tuple[NDArray[np.float64], State]:
        """-log P of every target, (T, N) in nats, and the state; for evaluation: no dropout, no gradients."""
        return self._loss(x, y, state, train=False)

    def _loss(self, x: ArrayLike, y: ArrayLike, state: Any, *, train: bool) -> tuple[NDArray[np.float64], State]:
        h0, c0 = self._split(state)
        key = ((self._config["seed"] << 32) + self.steps) & (2**64 - 1)
        nll, h, c = self._core.loss(as_int32(x, "x"), as_int32(y, "y"), h0, c0, train, key)
        return nll, h if c is None else (h, c)

    def backward(self) -> None:
        """Adds the gradients of the last :meth:`loss` to ``grads``."""
        self._core.backward()

    def step(self, tokens: ArrayLike, state: Any = None) -> tuple[Array, State]:
        """Logits (N, V) of what follows one token (N,) for each row, and the state after it."""
        h0, c0 = self._split(state)
        logits, h, c = self._core.step(as_int32(tokens, "tokens"), h0, c0)
        return logits, h if c is None else (h, c)

    def _split(self, state: Any) -> tuple[Array | None, Array | None]:
        if state is None:
            return None, None
        if not self._core.has_c:
            return as_float32(state, "state"), None
        if not isinstance(state, (tuple, list)) or len(state) != 2:
            raise TypeError(f"state of an LSTM is the pair (h, c), got {type(state).__name__}")
        return as_float32(state[0], "h"), as_float32(state[1], "c")

    def save(
        self,
        path: PathLike,
        *,
        tensors: Mapping[str, Array] | None = None,
        metadata: Mapping[str, str] | None = None,
        weights: Precision = "f32",
    ) -> None:
        """Weights, configuration and vocabulary in one safetensors file; what was at ``path`` stays until the new file is whole.

        ``tensors`` and ``metadata`` join the file's own; a checkpoint keeps the optimiser there. ``weights``: how the
        matrices are stored, ``"f32"``, or rounded to ``"bf16"`` or ``"int8"`` for a file of half or a quarter the size
        that loads with those weights (docs/model-file.md).
        """
        write_model(self, path, {"vocabulary": self.vocab}, tensors=tensors, metadata=metadata, weights=weights)
