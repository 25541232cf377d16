"""Classes of whole sequences: a recurrent layer, its last or mean state, softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast._arrays import positive
from rnnfast.estimator import Estimator, Network, check_sizes, falling_rate, recurrent_layer, shuffled
from rnnfast.nn import Array, Embedding, Linear
from rnnfast.plot import finish, literals, new_figure
from rnnfast.text import PathLike, tokenize
from rnnfast.vocab import Vocab

POOLINGS = ("last", "mean")


class SequenceClassifier(Estimator):
    r"""P(class | x_1 … x_T) = softmax(W s + b), s the recurrent layer's last state, or the mean of all.

    Parameters
    ----------
    cell : ``"rnn"``, ``"gru"`` or ``"lstm"``
    hidden_size, num_layers : of the recurrent layer
    embedding_size : of a token
    pooling : ``"last"`` or ``"mean"``
    tokenizer : cuts up texts; sequences of tokens are taken as they are
    epochs, batch_size, lr, clip_norm : of training by Adam on the cross-entropy; lr falls to 0
    seed : the same seed gives the same model

    >>> model = SequenceClassifier("gru", 8, epochs=30, lr=0.02, seed=0).fit(["aba", "aab", "xyx", "yyx"], [0, 0, 1, 1])
    >>> model.predict(["ab", "yx"]).tolist(), model.predict_proba(["ab"]).shape
    ([0, 1], (1, 2))
    """

    kind = "sequence_classifier"
    classes_: NDArray[Any]

    def __init__(
        self,
        cell: str = "gru",
        hidden_size: int = 64,
        *,
        num_layers: int = 1,
        embedding_size: int = 32,
        pooling: str = "last",
        tokenizer: str = "char",
        epochs: int = 10,
        batch_size: int = 64,
        lr: float = 3e-3,
        clip_norm: float = 1.0,
        seed: int | None = None,
    ) -> None:
        self.cell, self.hidden_size, self.num_layers, self.embedding_size = (
            cell,
            hidden_size,
            num_layers,
            embedding_size,
        )
        self.pooling, self.tokenizer, self.epochs, self.batch_size = pooling, tokenizer, epochs, batch_size
        self.lr, self.clip_norm, self.seed = lr, clip_norm, seed

    def fit(self, sequences: Sequence[Any], labels: Sequence[Any]) -> SequenceClassifier:
        """Learns from texts, or lists of tokens, and one label each."""
        if len(sequences) != len(labels) or len(sequences) == 0:
            raise ValueError(f"{len(sequences)} sequences and {len(labels)} labels, expected as many, and at least one")
        self.classes_, targets = np.unique(np.asarray(labels), return_inverse=True)
        tokens = [self._tokens(sequence) for sequence in sequences]
        self.vocab_ = Vocab((t for sequence in tokens for t in sequence), tokenizer=self.tokenizer)
        seed = self._seed()
        self._build(seed)
        ids = [self.vocab_.encode(sequence) for sequence in tokens]
        random = np.random.default_rng(seed)
        self.loss_curve_: list[float] = []
        for epoch in range(positive(self.epochs, "epochs")):
            rate, total = falling_rate(self.lr, epoch, self.epochs), 0.0
            for rows in shuffled(len(ids), positive(self.batch_size, "batch_size"), random):
                total += self._learn([ids[i] for i in rows], targets[rows], rate) * len(rows)
            self.loss_curve_.append(total / len(ids))
        return self

    def _build(self, seed: int) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"unknown pooling {self.pooling!r}: expected one of {', '.join(POOLINGS)}")
        self._network = Network(
            self.lr,
            embedding=Embedding(len(self.vocab_), positive(self.embedding_size, "embedding_size"), seed=seed),
            rnn=recurrent_layer(self.cell, self.embedding_size, self.hidden_size, self.num_layers, seed + 1),
            output=Linear(self.hidden_size, len(self.classes_), seed=seed + 2),
        )

    def _tokens(self, sequence: Any) -> list[str]:
        tokens = tokenize(sequence, self.tokenizer) if isinstance(sequence, str) else [str(t) for t in sequence]
        if not tokens:
            raise ValueError(f"the sequence {sequence!r} is empty, expected at least one token")
        return tokens

    def _learn(self, ids: list[NDArray[np.int32]], targets: NDArray[Any], lr: float) -> float:
        padded, lengths = _padded(ids)
        embedded, embedding_backward = self._network["embedding"].forward(padded)
        h, state, rnn_backward = self._network["rnn"].forward(embedded, lengths=lengths)
        pooled = self._pool(h, state, lengths)
        logits, output_backward = self._network["output"].forward(pooled)
        p = _softmax(logits)
        picked = p[np.arange(len(ids)), targets]
        gradient = p.copy()
        gradient[np.arange(len(ids)), targets] -= 1
        dpooled = output_backward(gradient / len(ids))
        if self.pooling == "mean":
            share = (np.arange(len(padded))[:, None] < lengths) / lengths
            dx, _ = rnn_backward(share[..., None] * dpooled)
        else:
            dh = np.zeros((self.num_layers, *dpooled.shape), np.float32)
            dh[-1] = dpooled
            dx, _ = rnn_backward(None, (dh, None) if isinstance(state, tuple) else dh)
        embedding_backward(dx)
        self._network.update(lr, self.clip_norm)
        return float(-np.log(np.maximum(picked, 1e-30)).mean())

    def _pool(self, h: Array, state: Any, lengths: NDArray[np.int32]) -> Array:
        if self.pooling == "mean":
            mean: Array = (h.sum(0) / lengths[:, None]).astype(np.float32)  # rows give zeros beyond their length
            return mean
        last: Array = (state[0] if isinstance(state, tuple) else state)[-1]
        return last

    def predict_proba(self, sequences: Sequence[Any]) -> NDArray[np.float64]:
        """P(class), (number of sequences, number of classes), in the order of ``classes_``."""
        if not hasattr(self, "classes_"):
            raise ValueError("the SequenceClassifier has learnt nothing yet; call fit first")
        ids = [self.vocab_.encode(self._tokens(sequence)) for sequence in sequences]
        p = np.empty((len(ids), len(self.classes_)))
        for begin in range(0, len(ids), 256):
            padded, lengths = _padded(ids[begin : begin + 256])
            h, state = self._network["rnn"](self._network["embedding"](padded), lengths=lengths)
            p[begin : begin + 256] = _softmax(self._network["output"](self._pool(h, state, lengths)))
        return p

    def predict(self, sequences: Sequence[Any]) -> NDArray[Any]:
        """The likeliest class of each sequence."""
        p = self.predict_proba(sequences)
        best: NDArray[Any] = self.classes_[p.argmax(1)]
        return best

    def score(self, sequences: Sequence[Any], labels: Sequence[Any]) -> float:
        """The share of sequences whose likeliest class is their label."""
        return float((self.predict(sequences) == np.asarray(labels)).mean())

    def confusion_matrix(self, sequences: Sequence[Any], labels: Sequence[Any]) -> NDArray[np.int64]:
        """How many sequences of class i (row) were taken for class j (column)."""
        places = {label: i for i, label in enumerate(self.classes_.tolist())}
        matrix = np.zeros((len(places), len(places)), np.int64)
        for label, guess in zip(np.asarray(labels).tolist(), self.predict(sequences).tolist()):
            if label not in places:
                raise ValueError(f"the label {label!r} was not among those fitted: {', '.join(map(str, places))}")
            matrix[places[label], places[guess]] += 1
        return matrix

    def plot_confusion(self, sequences: Sequence[Any], labels: Sequence[Any], path: PathLike | None = None) -> Any:
        """The confusion matrix, each row as shares, written to ``path`` if given (extra: ``plot``)."""
        matrix = self.confusion_matrix(sequences, labels)
        figure, axes = new_figure()
        figure.set_size_inches(7, 6)
        axes.grid(False)
        image = axes.imshow(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), vmin=0, vmax=1, cmap="Blues")
        names = literals(self.classes_)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="taken for", ylabel="is")
        figure.colorbar(image, label="share of the row")
        return finish(figure, path)

    def save(self, path: PathLike) -> None:
        """Weights, configuration, vocabulary and classes in one safetensors file; :func:`rnnfast.load` reads it."""
        if not hasattr(self, "classes_"):
            raise ValueError("the SequenceClassifier has learnt nothing yet; call fit first")
        learnt = {"classes": self.classes_.tolist(), "tokens": self.vocab_.idx_to_token}
        self._save(path, self._network.state_dict(), learnt)

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Array]) -> SequenceClassifier:
        """The model :meth:`save` wrote."""
        model = cls(**config["params"])
        model.classes_ = np.asarray(config["classes"])
        model.vocab_ = Vocab.from_list(config["tokens"], tokenizer=model.tokenizer)
        check_sizes(tensors, model.num_layers, model.hidden_size**2, len(model.vocab_) * model.embedding_size)
        model._build(0)
        model._network.load_state_dict(tensors)
        return model


def _padded(ids: list[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(T, N) with zeros after each row's end, and the lengths (N,)."""
    lengths = np.array([len(row) for row in ids], np.int32)
    padded = np.zeros((int(lengths.max()), len(ids)), np.int32)
    for n, row in enumerate(ids):
        padded[: len(row), n] = row
    return padded, lengths


def _softmax(logits: Array) -> NDArray[np.float64]:
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(1, keepdims=True))
    normed: NDArray[np.float64] = p / p.sum(1, keepdims=True)
    return normed
