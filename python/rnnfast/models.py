"""Models: layers put together. The composition itself is compiled; here are shapes, configuration and files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import _core
from rnnfast._arrays import as_float32, as_int32, at_least, dropout_share, new_seed, positive, precision
from rnnfast._expect import brief, choice
from rnnfast.files import replacing
from rnnfast.nn import Array, Layer, State
from rnnfast.text import PathLike
from rnnfast.vocab import Vocab

FORMAT, FORMAT_VERSION = "rnnfast", "1"
SCALE = ".scale"  # ends the name of the tensor with an int8 matrix's scales
WEIGHTS = ("f32", "bf16", "int8")
VERSION_OF_ROUNDED = "2"  # of a file whose matrices are stored rounded


def rounded(parameters: Mapping[str, Array], weights: str, exact: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """Parameters as a file stores them: every matrix of bf16 as uint16, or of int8 beside ``NAME.scale``, one a row.

    Those named in ``exact`` stay as they are.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {brief(weights)}, expected one of {', '.join(WEIGHTS)}")
    stored: dict[str, NDArray[Any]] = dict(parameters)
    for name, value in parameters.items():
        if value.ndim != 2 or name in exact:
            continue
        if weights == "bf16":
            stored[name] = _core.bf16_rows(value)
        elif weights == "int8":
            stored[name], stored[name + SCALE] = _core.int8_rows(value)
    return stored


def restored(stored: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """The float32 numbers of what :func:`rounded` made: exact, so rounding them again changes nothing."""
    values = dict(stored)
    for name, value in stored.items():
        if value.dtype == np.int8 and name + SCALE in stored:
            scale = values.pop(name + SCALE)
            if scale.dtype != np.float32 or value.ndim != 2 or scale.shape != value.shape[:1]:
                raise ValueError(f"{name}{SCALE} has shape {scale.shape}, expected {value.shape[:1]}: one for each row")
            values[name] = value.astype(np.float32) * scale[:, None]
    return values


GATES = {"rnn": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}


def check_memory(numbers: int) -> None:
    """``MemoryError`` of one sentence if a model of about so many weights does not fit into this machine."""
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows; systems that do not tell
        installed = 1 << 46
    if 4 * numbers > installed:
        raise MemoryError(
            f"a model of {numbers:,} weights needs {4 * numbers / 1e9:,.1f} GB of memory, and {16 * numbers / 1e9:,.1f} GB to be "
            f"trained with Adam; this machine has {installed / 1e9:,.1f} GB: choose smaller sizes"
        )


def initialise(model: Any, scale: float, seed: int) -> None:
    """Makes every weight of ``model`` uniform in plus or minus ``scale``."""
    if not 0 < scale < float("inf"):
        raise ValueError(f"init_scale is {scale}, expected more than 0")
    random = np.random.default_rng(seed)
    model.load_state_dict({name: random.uniform(-scale, scale, w.shape) for name, w in model.parameters().items()})


def options_with(config: Mapping[str, Any], vocabularies: Mapping[str, Vocab | None]) -> dict[str, Any]:
    """The arguments that make a model: ``config`` with its vocabularies, or their sizes, by the names of the arguments."""
    options = dict(config)
    for name, vocab in vocabularies.items():
        size = options.pop(f"{name}_size")
        options[name] = size if vocab is None else vocab
    return options


def write_model(
    model: Any,
    path: PathLike,
    vocabularies: Mapping[str, Vocab | None],
    *,
    tensors: Mapping[str, Array] | None = None,
    metadata: Mapping[str, str] | None = None,
    weights: str = "f32",
) -> None:
    """``model``'s weights, configuration and vocabularies (by their names in the file) as one safetensors file."""
    stored = rounded(model.parameters(), weights, model.exact)
    config = {**model.config, **({} if weights == "f32" else {"weights": weights})}
    own = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION if weights == "f32" else VERSION_OF_ROUNDED,
        "kind": model.kind,
        "config": json.dumps(config),
    }
    for name, vocab in vocabularies.items():
        if vocab is not None:
            own[name] = json.dumps(vocab.description(), ensure_ascii=False)
    write_tensors(path, {**stored, **(tensors or {})}, {**own, **(metadata or {})})


def write_tensors(path: PathLike, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """A safetensors file that takes the place of what is at ``path`` when it is whole."""
    with replacing(path) as file:
        _core.write_safetensors_to(file.fileno(), os.fsdecode(path), dict(tensors), dict(metadata))


class LanguageModel(Layer):
    r"""P(x_t | x_1 … x_{t-1}) by a recurrent network.

    .. math:: H_t = \mathrm{cell}(E[x_t], H_{t-1}), \quad O_t = H_t W_{hq} + b_q, \quad P = \mathrm{softmax}(O_t)

    Parameters
    ----------
    vocab : Vocab, or the number of tokens for a model without text
    cell : ``"rnn"``, ``"rnn_relu"``, ``"gru"`` or ``"lstm"``
    embedding_size : 0 for one-hot input
    hidden_size, num_layers : of the recurrent stack
    dropout : on every connection that is not recurrent (Zaremba et al., arXiv:1409.2329), in training only
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
        cell: str = "rnn",
        embedding_size: int = 0,
        hidden_size: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        weights: str = "f32",
        variational: bool = False,
        tie_weights: bool = False,
        init_scale: float | None = None,
        seed: int | None = None,
    ) -> None:
        self.vocab = vocab if isinstance(vocab, Vocab) else None
        size = len(vocab) if isinstance(vocab, Vocab) else positive(vocab, "vocab")
        self._config: dict[str, Any] = {
            "cell": choice(cell, GATES, "cell"),
            "vocab_size": size,
            "embedding_size": at_least(embedding_size, 0, "embedding_size"),
            "hidden_size": positive(hidden_size, "hidden_size"),
            "num_layers": positive(num_layers, "num_layers"),
            "dropout": dropout_share(dropout),
            "weights": precision(weights),
            "seed": new_seed(seed),
        }
        # Options that came later stand in a file only where they are used, so that older readers read the others.
        self._config.update({n: True for n, on in (("variational", variational), ("tie_weights", tie_weights)) if on})
        c, gates = self._config, GATES.get(cell, 1)
        first = gates * c["hidden_size"] * ((c["embedding_size"] or size) + c["hidden_size"])
        later = gates * 2 * c["hidden_size"] ** 2 * (c["num_layers"] - 1)
        check_memory(size * (c["embedding_size"] + c["hidden_size"]) + first + later)
        self.steps = 0  # of training; with the seed it decides the dropout masks
        self._core = _core.LanguageModel(
            cell, size, self._config["embedding_size"], self._config["hidden_size"], self._config["num_layers"],
            self._config["dropout"], self._config["seed"], weights, bool(variational),
            bool(tie_weights),
        )  # fmt: skip

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
        weights: str = "f32",
    ) -> None:
        """Weights, configuration and vocabulary in one safetensors file; what was at ``path`` stays until the new file is whole.

        ``tensors`` and ``metadata`` join the file's own; a checkpoint keeps the optimiser there. ``weights``: how the
        matrices are stored, ``"f32"``, or rounded to ``"bf16"`` or ``"int8"`` for a file of half or a quarter the size
        that loads with those weights (docs/model-file.md).
        """
        write_model(self, path, {"vocabulary": self.vocab}, tensors=tensors, metadata=metadata, weights=weights)
