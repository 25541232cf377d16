"""Sequence to sequence: an encoder, a context, a decoder. The composition is compiled; here are options and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import _core
from rnnfast._arrays import as_int32, at_least, dropout_share, new_seed, positive, precision
from rnnfast._expect import brief, choice
from rnnfast.models.base import LossModel, check_memory
from rnnfast.models.storage import restored, rounded
from rnnfast.nn.layer import Array, dropout_key
from rnnfast.nn.recurrent import TABLE
from rnnfast.protocols import Attention, Cell, Context, DecoderName, InitialState, Precision, Read, Readout
from rnnfast.text.vocab import Vocab

# What each named decoder is: where its initial state comes from, and what every step reads.
DECODERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "context_as_state": ("context", ()),
    "context_as_input": ("learned", ("context",)),
    "context_and_previous": ("learned", ("context", "previous")),
    "previous": ("context", ("previous",)),
    "d2l": ("context", ("context", "previous")),
}
READS = ("context", "previous")
PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
_IDS = {PAD: 1, BOS: 2, EOS: 3}  # where a model has sizes instead of vocabularies


class Seq2Seq(LossModel):
    r"""P(y_1 ... y_T | x_1 ... x_S): one network reads a sentence, another writes its translation.

    .. math::
        m_t &= \mathrm{cell}(E_s[x_t], m_{t-1}), \quad c = q(m_1 \ldots m_S) \\
        s_t &= \mathrm{cell}([E_t[y_{t-1}]; c], s_{t-1}), \quad P = \mathrm{softmax}(s_t W^\top + b)

    with y_0 = ``<bos>``. The decoder is two choices: where s_0 comes from, and what each step reads. ``decoder`` names
    five of them; ``initial_state`` and ``reads`` say it in full.

    ======================== =============== ====================== =========================================
    decoder                  initial state   reads                  known from
    ======================== =============== ====================== =========================================
    ``context_as_state``     context         nothing
    ``context_as_input``     learned         context
    ``context_and_previous`` learned         context, previous      Cho et al., arXiv:1406.1078
    ``previous``             context         previous               Sutskever et al., arXiv:1409.3215
    ``d2l``                  context         context, previous      Dive into Deep Learning, chapter 10.7
    ======================== =============== ====================== =========================================

    An initial state from the context is the encoder's own last state, layer by layer (h, and c of an LSTM), if the
    context is ``"last"`` and the encoder reads in one direction; otherwise tanh(c W^T + b), and zeros for an LSTM's c.

    With attention every step has its own context, :math:`c_t = \sum_j a_{tj} m_j` with
    :math:`a_t = \mathrm{softmax}(e_t)` over the words of the source, padding left out:

    ============ =================================== ==================================================================
    attention    score :math:`e_{tj}`                how c_t is used
    ============ =================================== ==================================================================
    ``additive`` v . tanh(W_q s_{t-1} + W_k m_j + b) the step reads it in c's place (Bahdanau et al., arXiv:1409.0473)
    ``dot``      s_t . m_j                           tanh(W_c [c_t; s_t]) takes the place of s_t in the output
    ``general``  s_t . W m_j                         the same (Luong et al., arXiv:1508.04025)
    ============ =================================== ==================================================================

    Parameters
    ----------
    source_vocab, target_vocab : Vocab with ``<pad>``, ``<bos>`` and ``<eos>``, or the number of tokens; then their ids
        are 1, 2 and 3
    cell : a name in ``rf.nn.LAYERS``: ``"rnn"``, ``"gru"``, ``"lstm"``, ..., of encoder and decoder
    embedding_size, hidden_size, num_layers : of both
    bidirectional : the encoder reads the sentence in both directions; the context is then 2 * hidden_size wide
    encoder_window : of ``cell="qrnn"``: the steps of input that the encoder's gates read, 1, or 2 for x_t and x_{t-1}, as in
        :class:`rf.QRNN`; the decoder reads one
    context : q above: ``"last"`` (the top layer's last state; both directions concatenated), ``"mean"`` or ``"max"``
    initial_state : ``"context"``, ``"learned"`` or ``"zero"``; None: the decoder's
    reads : some of ``"context"`` and ``"previous"``; None: the decoder's
    attention : ``"none"``, ``"additive"`` (the decoder must read the context), ``"dot"`` (hidden_size must be the size
        of the encoder's outputs, so it reads in one direction) or ``"general"``
    readout : what the output product reads: ``"state"``, or ``"all"`` for [s_t; c; E_t[y_{t-1}]], those that are read
    dropout : on both embeddings and between layers, in training only
    output_dropout : on what the output product reads; None: as ``dropout``
    teacher_forcing : the share of steps at which training reads the true y_{t-1}; at the others it reads the model's
        own most probable token of the previous step, computed in the same pass with its dropout; one draw per step for the
        whole batch
    weights : precision of products: ``"f32"``, ``"bf16"``, or, for inference only, ``"int8"``, as for LanguageModel
    init_scale : initial weights are uniform in plus or minus this; None: PyTorch's initialization, and zeros for a learned
        initial state
    seed : of the initial weights, dropout and the draws of teacher forcing

    Sources are ids (S, N) with lengths (N,), targets ids (T + 1, N); losses are in nats. Raises ``ValueError`` for vocabularies
    without the reserved tokens, and for a decoder, context and attention that do not fit together.

    >>> model = Seq2Seq(10, 12, embedding_size=4, hidden_size=8, seed=0)
    >>> model.config["initial_state"], model.config["reads"]
    ('learned', ['context', 'previous'])
    >>> source, lengths = [[4, 5], [6, 3], [3, -1]], [3, 2]  # two sentences, each ended by <eos>
    >>> target = [[2, 2], [7, 8], [3, 9], [-1, 3]]  # <bos> ... <eos>
    >>> loss, _ = model.loss(source, lengths, target)
    >>> model.backward()
    """

    kind = "seq2seq"
    vocabularies: ClassVar = {"source_vocab": "source_vocabulary", "target_vocab": "target_vocabulary"}

    def __init__(
        self,
        source_vocab: Vocab | int,
        target_vocab: Vocab | int,
        *,
        cell: Cell = "gru",
        embedding_size: int = 256,
        hidden_size: int = 256,
        num_layers: int = 1,
        bidirectional: bool = False,
        encoder_window: int = 1,
        context: Context = "last",
        decoder: DecoderName = "context_and_previous",
        initial_state: InitialState | None = None,
        reads: Iterable[Read] | None = None,
        attention: Attention = "none",
        readout: Readout = "state",
        dropout: float = 0.0,
        output_dropout: float | None = None,
        teacher_forcing: float = 1.0,
        weights: Precision = "f32",
        init_scale: float | None = None,
        seed: int | None = None,
    ) -> None:
        self.source_vocab = source_vocab if isinstance(source_vocab, Vocab) else None
        self.target_vocab = target_vocab if isinstance(target_vocab, Vocab) else None
        preset_state, preset_reads = DECODERS[choice(decoder, DECODERS, "decoder")]
        options: dict[str, Any] = {
            "cell": choice(cell, TABLE, "cell"),
            "source_vocab_size": _size(source_vocab, "source_vocab"),
            "target_vocab_size": _size(target_vocab, "target_vocab"),
            "embedding_size": positive(embedding_size, "embedding_size"),
            "hidden_size": positive(hidden_size, "hidden_size"),
            "num_layers": positive(num_layers, "num_layers"),
            "bidirectional": bool(bidirectional),
            "context": context,
            "initial_state": preset_state if initial_state is None else initial_state,
            "reads": list(preset_reads if reads is None else _checked_reads(reads)),
            "attention": attention,
            "readout": readout,
            "dropout": dropout_share(dropout),
            "output_dropout": dropout_share(dropout if output_dropout is None else output_dropout, "output_dropout"),
            "teacher_forcing": _checked_share(teacher_forcing),
            "weights": precision(weights),
            "seed": new_seed(seed),
        }
        if positive(encoder_window, "encoder_window") != 1:
            options["encoder_window"] = encoder_window
        check_memory(_number_of_weights(options))
        self._compile(_core.Seq2Seq, options, init_scale)

    def _exact(self) -> tuple[str, ...]:
        return ("decoder.initial_h", "decoder.initial_c")  # states, not factors of products

    @property
    def teacher_forcing(self) -> float:
        """The share of steps at which training reads the true y_{t-1}; a new value takes effect at the next ``loss``."""
        return float(self._config["teacher_forcing"])

    @teacher_forcing.setter
    def teacher_forcing(self, share: float) -> None:
        self._config["teacher_forcing"] = _checked_share(share)

    @property
    def decoder(self) -> str | None:
        """The name of this decoder's combination of options; None if it has no name."""
        choices = (self.config["initial_state"], tuple(self.config["reads"]))
        return next((name for name, preset in DECODERS.items() if preset == choices), None)

    def loss(self, source: ArrayLike, source_lengths: ArrayLike, target: ArrayLike) -> tuple[float, None]:
        """Mean cross-entropy in nats of every target token after the first; there is no state to continue with, hence the None.

        For training: dropout and teacher forcing act, and :meth:`backward` may follow.

        Parameters
        ----------
        source : (S, N) ids; ids beyond a row's length are not read
        source_lengths : (N,) each in 1 to S
        target : (T + 1, N) ids, each column ``<bos>`` ... ``<eos>``, padded with negative numbers, which are ignored
        """
        self.steps += 1
        nll, counts = self._loss(source, source_lengths, target, train=True)
        counted = nll[counts]  # summed without the padding's zeros, which would change the sum's order
        return float(counted.sum() / max(counted.size, 1)), None

    def nll(self, source: ArrayLike, source_lengths: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
        """-log P of every target token after the first, (T, N) in nats; zero at padding. Teacher forcing, no dropout."""
        return self._loss(source, source_lengths, target, train=False)[0]

    def predictions(self, source: ArrayLike, source_lengths: ArrayLike, target: ArrayLike) -> NDArray[np.int32]:
        """The most probable token at every position of the target after the first, (T, N) ids, given the true ones before it."""
        ids = np.maximum(as_int32(target, "target"), 0)
        lengths = as_int32(source_lengths, "source_lengths").astype(np.int64)
        encoded = self._core.encode(as_int32(source, "source"), lengths)
        state = self._core.initial_state(encoded)
        predicted = [self._core.step(encoded, row, state).argmax(axis=1) for row in ids[:-1]]
        return np.array(predicted, np.int32).reshape(len(ids) - 1, ids.shape[1])

    def _loss(
        self, source: ArrayLike, source_lengths: ArrayLike, target: ArrayLike, *, train: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        ids = self._checked(target)
        training: Any = (self.teacher_forcing, self._key()) if train else None
        return self._nll(source, source_lengths, ids, training), ids[1:] >= 0

    def _group_losses(
        self, source: ArrayLike, source_lengths: ArrayLike, target: ArrayLike, steps: Sequence[int], weights: Sequence[float],
        *, apart: bool = False,
    ) -> list[float]:  # fmt: skip
        """The :meth:`loss` of each of ``len(steps)`` groups of rows, a power of two that divides N, as if each was computed alone at its
        number of training ``steps``. :meth:`backward` then adds the gradients of their sum, times their ``weights``. ``apart``: those
        of each group, for ``rf.per_sample_gradients``."""
        keys = [dropout_key(self._config["seed"], step) for step in steps]
        ids = self._checked(target)
        nll = self._nll(source, source_lengths, ids, (self.teacher_forcing, (keys, list(weights), apart)))
        both = zip(np.split(nll, len(keys), axis=1), np.split(ids[1:] >= 0, len(keys), axis=1))
        counted = [own[counts] for own, counts in both]
        return [float(each.sum() / max(each.size, 1)) for each in counted]

    def _nll(self, source: ArrayLike, source_lengths: ArrayLike, ids: NDArray[np.int32], training: Any) -> Any:
        lengths = as_int32(source_lengths, "source_lengths").astype(np.int64)
        inputs, targets = np.maximum(ids[:-1], 0), np.ascontiguousarray(ids[1:])
        return self._core.loss(as_int32(source, "source"), lengths, inputs, targets, training)

    def _checked(self, target: ArrayLike) -> NDArray[np.int32]:
        ids = as_int32(target, "target")
        if ids.ndim != 2 or len(ids) < 2:
            raise ValueError(
                f"target has shape {ids.shape}, expected (T + 1, N) with <bos> and at least one more token"
            )
        if (ids[0] < 0).any():
            raise ValueError(f"target[0] is {ids[0].tolist()}, expected <bos> ({self.special(BOS)}) in every column")
        return ids

    def load_file_weights(self, weights: Mapping[str, Array]) -> None:
        if self.config["weights"] == "int8":
            # The int8 products quantize words together with the context, so the words must be those of a quantized file already.
            weights = restored(rounded(weights, "int8", self._exact()))
        super().load_file_weights(weights)

    def special(self, token: str) -> int:
        """The id of ``"<pad>"``, ``"<bos>"`` or ``"<eos>"`` in the target's vocabulary."""
        return _IDS[token] if self.target_vocab is None else self.target_vocab[token]


def _number_of_weights(config: Mapping[str, Any]) -> int:
    """Approximately: without biases, attention and the layers between encoder and decoder."""
    h, embedding_size = config["hidden_size"], config["embedding_size"]
    layers = TABLE[config["cell"]].gates * h * (embedding_size + h + 2 * h * (config["num_layers"] - 1))
    layers *= (1 + config.get("encoder_window", 1)) / 2  # of encoder and decoder, on average
    tables = (config["source_vocab_size"] + config["target_vocab_size"]) * embedding_size
    return int(tables + config["target_vocab_size"] * h + 2 * layers)


def _checked_share(share: float) -> float:
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"teacher_forcing is {share}, expected 0 to 1: the share of steps that read the true token")
    return float(share)


def _checked_reads(reads: Iterable[str]) -> tuple[str, ...]:
    given = {reads} if isinstance(reads, str) else set(reads)
    if not given <= set(READS):
        raise ValueError(f"reads is {sorted(given)}, expected some of {', '.join(READS)}")
    return tuple(name for name in READS if name in given)


def _size(vocab: Vocab | int, name: str) -> int:
    if not isinstance(vocab, Vocab):
        return at_least(vocab, 1 + max(_IDS.values()), name)
    missing = [token for token in _IDS if token not in vocab]
    if missing:
        raise ValueError(
            f"{name} has no {', '.join(missing)}: build it with reserved=({brief(PAD)}, {brief(BOS)}, {brief(EOS)}), as ParallelCorpus does"
        )
    if vocab.idx_to_token[1 : 1 + len(_IDS)] != list(_IDS):
        raise ValueError(
            f"{name} begins with {vocab.idx_to_token[: 1 + len(_IDS)]}, expected <unk>, {', '.join(_IDS)}, which "
            "translating and files rely on; build it with reserved=rf.text.RESERVED"
        )
    return len(vocab)
