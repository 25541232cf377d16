"""Language models: an embedding, recurrent layers, softmax. The composition is compiled; here are options and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import _core
from rnnfast._arrays import as_float32, as_int32, at_least, dropout_share, new_seed, positive, precision, real
from rnnfast._expect import choice, listed
from rnnfast.files import PathLike
from rnnfast.models.base import LossModel, check_memory
from rnnfast.models.onnx_write import Writer, writer
from rnnfast.nn.layer import Array, State, StateLike, dropout_key, joined, named_parts
from rnnfast.nn.recurrent import TABLE
from rnnfast.protocols import Cell, Norm, Output, Precision
from rnnfast.text.vocab import Vocab

NORMS: tuple[Norm, ...] = ("rms", "layer")
OUTPUTS: tuple[Output, ...] = ("softmax", "adaptive", "sampled")


def _output_options(
    output: Output, cutoffs: Sequence[int], div_value: float | None, num_sampled: int | None
) -> dict[str, Any]:
    """The options of an output layer other than the usual one; the core checks that they fit together."""
    options: dict[str, Any] = {}
    if choice(output, OUTPUTS, "output") != "softmax":
        options["output"] = output
    if len(starts := listed(cutoffs, "cutoffs", "a list of token ids")):
        options["cutoffs"] = [positive(start, "cutoffs") for start in starts]
    if div_value is not None:
        options["div_value"] = real(div_value, "div_value")
    if num_sampled is not None:
        options["num_sampled"] = positive(num_sampled, "num_sampled")
    return options


class LanguageModel(LossModel):
    r"""P(x_t | x_1 … x_{t-1}) by a recurrent network.

    .. math:: H_t = \mathrm{cell}(E[x_t], H_{t-1}), \quad O_t = H_t W_{hq} + b_q, \quad P = \mathrm{softmax}(O_t)

    Parameters
    ----------
    vocab : Vocab, or the number of tokens for a model without text
    cell : a name in ``rf.nn.LAYERS``: ``"rnn"``, ``"gru"``, ``"lstm"``, ...
    embedding_size : 0 for one-hot input
    hidden_size, num_layers : of the recurrent stack
    dropout : on every connection that is not recurrent (Zaremba et al., arXiv:1409.2329), in training only
    embedding_dropout : on the embeddings, instead of ``dropout``; None: as ``dropout``. It needs an ``embedding_size``.
    output_dropout : before the output layer, instead of ``dropout``, which is then between the layers; None: as ``dropout``
    weight_drop : on the recurrent weights, one mask for all steps of a batch (Merity et al., arXiv:1708.02182), in training only
    weights : precision of products: ``"f32"``; ``"bf16"`` for products of numbers rounded to bfloat16 (all but the gradients of an
        output layer of fewer than 1,024 classes); or, for inference only, ``"int8"`` for products of integers from -127 to 127 with
        a scale per row
    variational : the same dropout masks at every step of a sequence (Gal and Ghahramani, arXiv:1512.05287, on what is not
        recurrent)
    tie_weights : the output product uses the embedding's table E (Press and Wolf, arXiv:1608.05859; Inan et al., arXiv:1611.01462).
        With another ``embedding_size`` than ``hidden_size``, it reads a projection of the last hidden state, with the weight P and
        the bias p of a :class:`rf.Linear`: O_t = (H_t Pᵀ + p) Eᵀ + b_q
    residual : every recurrent layer adds to what it reads, so that deep stacks train well; it needs ``embedding_size`` equal to
        ``hidden_size``
    norm : normalizes what each recurrent layer and the output layer read: ``"rms"`` (:class:`rf.RMSNorm`) or ``"layer"``
        (:class:`rf.LayerNorm`); None: no normalization. With ``residual``, layer l is the pre-norm block
        H <- H + cell(norm(H)) (Xiong et al., arXiv:2002.04745). It needs an ``embedding_size``.
    output : ``"softmax"`` over the whole vocabulary. For large ones, ``"adaptive"``: frequent tokens, which have low ids, in one
        softmax, rare tokens in clusters that are computed where a target needs them (Grave et al., arXiv:1609.04309;
        ``torch.nn.AdaptiveLogSoftmaxWithLoss`` with ``head_bias=True``); or ``"sampled"``: in training, over the targets and a
        log-uniform sample of the other tokens, with logits corrected by their expected counts (Jean et al., arXiv:1412.2007),
        and over the whole vocabulary otherwise
    cutoffs, div_value : of ``"adaptive"``: the ids where each cluster begins, and the factor by which each reads fewer numbers than
        the one before it, ``hidden_size / div_value`` for the first; None: 4
    num_sampled : of ``"sampled"``: how many tokens are drawn in each training step, for all its targets
    window : of ``cell="qrnn"``: the steps of input that its gates read, 1, or 2 for x_t and x_{t-1}, as in :class:`rf.QRNN`; 2 needs an
        ``embedding_size``, and the state is then (h, c, x)
    init_scale : initial weights are uniform in plus or minus this, but the scales of ``norm`` stay 1; None: PyTorch's
        initialization
    seed : of the initial weights and of dropout

    Token ids are (T, N), each state is (num_layers, N, hidden_size), and logits are (N, V) at each step; losses are in nats. Train with :meth:`loss`
    and :meth:`backward`, or with :func:`rnnfast.fit`; predict with :meth:`nll` and :meth:`step`. With ``window=2``, x of a state is (1, N, W): what
    the recurrent layers read in the last step. W is ``embedding_size``, since layers above the first read the h below them; with ``residual`` or
    ``norm``, the inputs of all layers follow one another, so that W is ``embedding_size + (num_layers - 1) * hidden_size``.

    Raises ``ValueError`` for options that do not fit together, ``MemoryError`` for a model that does not fit into this machine's
    memory, and, in its methods, ``IndexError`` for an id outside the vocabulary.

    >>> model = LanguageModel(5, hidden_size=8, seed=0)
    >>> loss, state = model.loss([[0], [1]], [[1], [2]])
    >>> model.backward()
    """

    kind = "language_model"
    vocabularies: ClassVar = {"vocab": "vocabulary"}

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
        output_dropout: float | None = None,
        weight_drop: float = 0.0,
        weights: Precision = "f32",
        variational: bool = False,
        tie_weights: bool = False,
        residual: bool = False,
        norm: Norm | None = None,
        output: Output = "softmax",
        cutoffs: Sequence[int] = (),
        div_value: float | None = None,
        num_sampled: int | None = None,
        window: int = 1,
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
            "residual": bool(residual),
        }
        if norm is not None:
            options["norm"] = choice(norm, NORMS, "norm")
        shares = {
            "embedding_dropout": embedding_dropout,
            "output_dropout": output_dropout,
            "weight_drop": weight_drop or None,
        }
        options.update((name, dropout_share(share, name)) for name, share in shares.items() if share is not None)
        options.update(_output_options(output, cutoffs, div_value, num_sampled))
        if positive(window, "window") != 1:
            options["window"] = window
        hidden = options["hidden_size"]
        gate_rows, recurrent = TABLE[cell].gates * hidden, TABLE[cell].recurrent * hidden
        first = gate_rows * (window * (options["embedding_size"] or size) + recurrent)
        later = gate_rows * (window * hidden + recurrent) * (options["num_layers"] - 1)
        check_memory(size * (options["embedding_size"] + options["hidden_size"]) + first + later)
        self._compile(_core.LanguageModel, options, init_scale)
        self._parts = tuple(self._core.state_parts)  # of a state: h, c, x

    def _exact(self) -> tuple[str, ...]:
        # A norm, a sum or a window reads the embedding itself; elsewhere only its product with the first layer's weights is read.
        return ("embedding.weight",) if any(self.config.get(name) for name in ("residual", "norm", "window")) else ()

    def loss(self, x: ArrayLike, y: ArrayLike, state: StateLike | None = None) -> tuple[float, State]:
        """Mean cross-entropy in nats of targets y (T, N) given inputs x (T, N), and the state to continue with.

        For training: dropout acts, and :meth:`backward` may follow. A negative target is ignored. The returned state is
        plain numbers, so gradients stop there: truncated back-propagation through time. With ``output="sampled"`` the loss is that
        of the sample.
        """
        return self._training_loss(x, y, state)

    def _training_loss(
        self, x: ArrayLike, y: ArrayLike, state: StateLike | None = None, *, zero_gradients: bool = False
    ) -> tuple[float, State]:
        """``zero_gradients``: all gradients are zeros, and nobody reads them before :meth:`backward`."""
        self.steps += 1
        nll, after = self._loss(x, y, state, train=True, zero_gradients=zero_gradients)
        counted = int(np.count_nonzero(np.asarray(y) >= 0))
        return float(nll.sum() / max(counted, 1)), after

    def nll(self, x: ArrayLike, y: ArrayLike, state: StateLike | None = None) -> tuple[NDArray[np.float64], State]:
        """-log P of every target, (T, N) in nats, and the state; for evaluation: no dropout, no gradients."""
        return self._loss(x, y, state, train=False)

    def _loss(
        self, x: ArrayLike, y: ArrayLike, state: StateLike | None, *, train: bool, zero_gradients: bool = False
    ) -> tuple[NDArray[np.float64], State]:
        ids, targets, start = as_int32(x, "x"), as_int32(y, "y"), self._split(state)
        nll, after = self._core.loss(ids, targets, start, train, self._key(), zero_gradients)
        return nll, joined(after)

    def to_onnx(self, path: PathLike) -> None:
        """Writes the model as an ONNX file (operator set 20): ids ``"tokens"`` (T, N) to ``"logits"`` (T, N, V).

        The state is ``"rnn.h"`` and, of an LSTM, ``"rnn.c"`` (num_layers, N, hidden_size); ``"rnn.h_last"`` and ``"rnn.c_last"`` are
        those after the last step. With ``residual`` or ``norm``, each layer has its own: ``"layers.0.rnn.h"``, ... Weights are float32;
        the vocabulary is not part of the file.

        Raises ``ValueError`` for a cell that ONNX has no operator for, and ``ImportError`` without the onnx package.
        """
        config, parameters = self._config, self.state_dict()
        if config.get("tie_weights"):
            parameters["output.weight"] = parameters["embedding.weight"]
        graph = writer(parameters)
        graph.states = True
        value = graph.input("tokens", ("T", "N"), integers=True)
        graph.ids[value] = config["vocab_size"]
        if config["embedding_size"]:
            value = graph.layer({"name": "embedding", "type": "embedding"}, value)
        rnn = {"type": "recurrent", "bias": True, "bidirectional": False, **config}
        norm = {"type": "layer_norm", "eps": 1e-5, "weight": True, "bias": config.get("norm") == "layer"}
        norm["centered"] = norm["bias"]
        if not config.get("residual") and not config.get("norm"):
            value = graph.layer({**rnn, "name": "rnn"}, value)
        else:
            for i in range(config["num_layers"]):
                read = graph.layer({**norm, "name": f"layers.{i}.norm"}, value) if config.get("norm") else value
                given = graph.layer({**rnn, "name": f"layers.{i}.rnn", "num_layers": 1}, read)
                residual = config.get("residual")
                value = graph.layer({"name": f"layers.{i}", "type": "add"}, value, given) if residual else given
            value = graph.layer({**norm, "name": "norm"}, value) if config.get("norm") else value
        if "projection.weight" in parameters:
            value = graph.layer({"name": "projection", "type": "linear", "bias": True}, value)
        head = {"name": "output.head" if config.get("cutoffs") else "output", "type": "linear", "bias": True}
        value = graph.layer(head, value) if not config.get("cutoffs") else self._clusters(graph, head, value)
        graph.output("logits", value, ("T", "N", config["vocab_size"]))
        graph.write(path)

    def group_losses(
        self, x: ArrayLike, y: ArrayLike, state: StateLike | None, steps: Sequence[int]
    ) -> tuple[list[float], State]:
        """The :meth:`loss` of each of ``len(steps)`` groups of rows, a power of two that divides N, as if each was computed alone at its
        number of training ``steps``, and the state of all rows. :meth:`backward` then adds the gradients of their sum. Not for models
        with tied weights, ``weight_drop``, or an adaptive or sampled softmax (:attr:`no_groups`)."""
        return self._group_losses(x, y, state, steps, False)

    def _group_losses(
        self, x: ArrayLike, y: ArrayLike, state: StateLike | None, steps: Sequence[int], apart: bool
    ) -> tuple[list[float], State]:
        """``apart``: :meth:`backward` keeps the gradients of each group."""
        given = listed(steps, "steps", "a list of integers")
        keys = [dropout_key(self._config["seed"], at_least(step, 0, "steps")) for step in given]
        start = self._split(state)
        nll, after = self._core.loss(as_int32(x, "x"), as_int32(y, "y"), start, True, (keys, [], apart))
        groups = [np.ascontiguousarray(group) for group in np.split(nll, len(keys), axis=1)]
        counts = [int(np.count_nonzero(group >= 0)) for group in np.split(np.asarray(y), len(keys), axis=1)]
        losses = [float(group.sum() / max(count, 1)) for group, count in zip(groups, counts)]
        return losses, joined(after)

    @property
    def no_groups(self) -> str:
        """Why :meth:`group_losses` refuses this model; empty if it does not."""
        found = [name for name in ("tie_weights", "output", "weight_drop") if name in self.config]
        return f"the model has {found[0]}" if found else ""

    def _clusters(self, graph: Writer, head: dict[str, Any], value: str) -> str:
        """log P of every token, by an adaptive softmax."""
        cutoffs, log_p = self._config["cutoffs"], graph("LogSoftmax", graph.layer(head, value), axis=-1)

        def of_head(first: int, end: int) -> str:
            return str(graph("Slice", log_p, *(graph.constant([at]) for at in (first, end, -1))))

        parts = [of_head(0, cutoffs[0])]
        for i in range(len(cutoffs)):
            own = value
            for layer in (f"output.tail.{i}.0", f"output.tail.{i}.1"):
                own = graph.layer({"name": layer, "type": "linear", "bias": False}, own)
            at = cutoffs[0] + i
            parts.append(graph("Add", graph("LogSoftmax", own, axis=-1), of_head(at, at + 1)))
        return str(graph("Concat", *parts, axis=-1))

    def step(self, tokens: ArrayLike, state: StateLike | None = None) -> tuple[Array, State]:
        """Logits (N, V) of what follows one token (N,) for each row, and the state after it."""
        logits, after = self._core.step(as_int32(tokens, "tokens"), self._split(state))
        return logits, joined(after)

    def state_shapes(self, rows: int) -> list[tuple[int, int, int]]:
        """The shapes of the parts of a state of ``rows`` rows.

        >>> LanguageModel(5, cell="lstm", hidden_size=8, seed=0).state_shapes(3)
        [(1, 3, 8), (1, 3, 8)]
        """
        return [(first, rows, width) for first, width in self._core.state_parts.values()]

    def _split(self, state: StateLike | None) -> tuple[Array | None, ...]:
        if state is None:
            return ()
        if len(self._parts) == 1:
            return (as_float32(state, "state"),)
        parts = zip(named_parts(state, self._parts, "state"), self._parts)
        return tuple([None if part is None else as_float32(part, name) for part, name in parts])
