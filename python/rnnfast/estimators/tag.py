"""A label for every token or step of a sequence: a recurrent layer in both directions, softmax."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import dropout_share, positive
from rnnfast._expect import listed
from rnnfast.distributed.ranks import Ranks, ranks_for
from rnnfast.estimators.base import (
    CELL,
    TOKENIZER,
    TRAINING,
    check_size,
    flag,
    fresh_seed,
    one_of,
)
from rnnfast.estimators.labeller import ROWS, Labeller, logits_of, not_finite, softmax, warn_of_integers
from rnnfast.estimators.samples import (
    REAL,
    TOKENS,
    check_storable,
    places,
    read_labels,
    read_sequences,
    read_weights,
    refuse_unordered,
)
from rnnfast.models.examples import Examples
from rnnfast.models.network import Network
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.layer import Layer
from rnnfast.nn.linear import Linear
from rnnfast.nn.parts import Dropout, Part
from rnnfast.nn.recurrent import LAYERS
from rnnfast.protocols import Cell
from rnnfast.train.fit import fit


class SequenceTagger(Labeller):
    r"""P(label of x_t | x_1 … x_T) = softmax(W [h_t, g_t] + b), where h reads the sequence forwards and g backwards.

    Sequences are given as for ``rf.SequenceClassifier``: texts, lists of tokens, or real numbers (T,) or (T, D). Each token or step has one
    label.

    Parameters
    ----------
    cell, hidden_size, num_layers : of the recurrent layers; hidden_size units in each direction
    embedding_size : of a token
    bidirectional : read in both directions; False: a label depends on the steps up to its own only
    dropout : of embeddings and hidden states in training
    tokenizer : tokenizes texts; lists of tokens are used as they are
    epochs, batch_size, lr, clip_norm : of training with Adam on the cross-entropy of all steps; lr decreases to 0
    seed, input, verbose : as in ``rf.SequenceClassifier``

    Attributes
    ----------
    classes_ : labels, sorted
    input_, vocab_, mean_, scale_, n_features_in_, params_ : as in ``rf.SequenceClassifier``
    loss_curve_ : mean cross-entropy of each epoch

    >>> words = [["the", "cat", "sat"], ["a", "dog", "ran"], ["the", "dog", "sat"]]
    >>> model = SequenceTagger("gru", 8, epochs=40, lr=0.03, seed=0).fit(words, [["D", "N", "V"]] * 3)
    >>> model.predict([["a", "cat", "ran"]])[0].tolist()
    ['D', 'N', 'V']
    """

    kind = "sequence_tagger"
    _checks: ClassVar = {
        "cell": CELL, "hidden_size": positive, "embedding_size": positive, "bidirectional": flag, "dropout": dropout_share,
        "tokenizer": TOKENIZER, "input": one_of("auto", TOKENS, REAL), **TRAINING,
    }  # fmt: skip
    _learnt = (
        "classes_", "input_", "vocab_", "mean_", "scale_", "n_features_in_", "feature_names_in_", "loss_curve_", "network_",
    )  # fmt: skip

    def __init__(
        self,
        cell: Cell = "lstm",
        hidden_size: int = 64,
        *,
        num_layers: int = 1,
        embedding_size: int = 32,
        bidirectional: bool = True,
        dropout: float = 0.1,
        tokenizer: str = "char",
        epochs: int = 10,
        batch_size: int = 32,
        lr: float = 5e-3,
        clip_norm: float | None = 1.0,
        seed: int | None = None,
        input: str = "auto",
        verbose: bool = False,
    ) -> None:
        self.cell, self.hidden_size, self.num_layers, self.embedding_size = (
            cell,
            hidden_size,
            num_layers,
            embedding_size,
        )
        self.bidirectional, self.dropout, self.tokenizer = bidirectional, dropout, tokenizer
        self.epochs, self.batch_size, self.lr, self.clip_norm = epochs, batch_size, lr, clip_norm
        self.seed, self.input, self.verbose = seed, input, verbose

    def __sklearn_tags__(self) -> Any:
        return self._tags(None, requires_y=True, three_d_array=True, string=True)

    def fit(
        self,
        X: Iterable[object],
        y: Iterable[object],
        sample_weight: ArrayLike | None = None,
        *,
        shards: int | None = None,
        distributed: Ranks | None = None,
    ) -> SequenceTagger:
        """Trains on sequences with a sequence of labels each; ``sample_weight`` (N,) are the sequences' weights in the loss. ``shards``
        and ``distributed`` split every batch over ranks, as in :func:`rnnfast.fit`."""
        params, ranks = self._checked(), ranks_for(shards, distributed)
        given = read_sequences(X, params["input"])
        if not given.values:
            raise ValueError("0 sequences, expected at least one")
        warn_of_integers(given, stacklevel=2)
        learnt, rows = self._reader(given, params)
        labels = _flat_labels(y, [len(row) for row in rows])
        classes, flat = np.unique(labels, return_inverse=True)
        check_storable(classes.tolist(), "y")
        ends = np.cumsum([len(row) for row in rows])
        targets = np.split(flat.astype(np.int32), ends[:-1])
        seed = fresh_seed(params, ranks)
        network = self._new_network(given, params, learnt, len(classes), seed)
        history = fit(
            network, Examples(rows, targets, weights=read_weights(sample_weight, len(rows))), loss="cross_entropy", epochs=params["epochs"],
            batch_size=params["batch_size"], lr=params["lr"], schedule="cosine", clip_norm=params["clip_norm"], seed=seed,
            progress=params["verbose"], distributed=ranks,
        )  # fmt: skip
        self._learn(params, **learnt, classes_=classes, network_=network, loss_curve_=history.column("train_loss"))
        return self

    def predict_proba(self, X: Iterable[object]) -> list[NDArray[np.float64]]:
        """P(label) of every step, (T, number of classes) for each sequence, in the order of ``classes_``."""
        rows, found = self._rows(X), []
        for begin in range(0, len(rows), ROWS):
            some = rows[begin : begin + ROWS]
            p = softmax(logits_of(self.network_, some))
            found += [p[: len(row), n] for n, row in enumerate(some)]
        for n, one in enumerate(found):
            if not np.isfinite(one).all():
                raise not_finite(n)
        return found

    def predict(self, X: Iterable[object]) -> list[NDArray[Any]]:
        """The most probable label of every step, an array (T,) for each sequence."""
        return [self.classes_[p.argmax(1)] for p in self.predict_proba(X)]

    def score(self, X: Iterable[object], y: Iterable[object], sample_weight: ArrayLike | None = None) -> float:
        """The share of steps whose most probable label is theirs."""
        guesses = [p.argmax(1) for p in self.predict_proba(X)]
        if not guesses:
            raise ValueError("0 sequences, expected at least one to score")
        counts = [len(guess) for guess in guesses]
        right = np.concatenate(guesses) == places(_flat_labels(y, counts), self.classes_)
        weights = read_weights(sample_weight, len(counts))
        return float(np.average(right, weights=None if weights is None else np.repeat(weights, counts)))

    @staticmethod
    def _network(params: dict[str, Any], num_classes: int, seed: int, *, num_tokens: int, features: int) -> Network:
        """The logits of the labels at every step."""
        width, hidden = params["embedding_size"] if num_tokens else features, params["hidden_size"]
        directions = 1 + params["bidirectional"]
        check_size("the embedding", num_tokens * width)
        check_size(
            "the recurrent layer",
            directions * params["num_layers"] * 4 * hidden * (hidden * 3 + 1) + 8 * hidden * width,
        )
        layers: dict[str, Layer | Part] = {"embedding": Embedding(num_tokens, width, seed=seed)} if num_tokens else {}
        drops = params["dropout"] > 0
        if drops and num_tokens:
            layers["embedding_dropout"] = Dropout(params["dropout"])
        layers["rnn"] = LAYERS[params["cell"]](
            width, hidden, params["num_layers"], bidirectional=params["bidirectional"], seed=seed + 1
        )
        if drops:
            layers["dropout"] = Dropout(params["dropout"])
        layers["output"] = Linear(directions * hidden, num_classes, seed=seed + 2)
        return Network(inputs={"x": {"ids": num_tokens} if num_tokens else features}, layers=layers, seed=seed)


def _flat_labels(y: Any, counts: Sequence[int]) -> NDArray[Any]:
    """The labels of all steps, one sequence after the other."""
    if y is None:
        raise ValueError(
            "a tagger requires y to be passed, but the target y is None; give a sequence of labels for each sequence"
        )
    refuse_unordered(y, "y", "a list with a sequence of labels for each sequence")
    each = [list(row) if isinstance(row, str) else row for row in y]
    if len(each) != len(counts):
        raise ValueError(f"{len(counts)} sequences and {len(each)} sequences of labels, expected equal numbers")
    flat: list[Any] = []
    for n, (row, count) in enumerate(zip(each, counts)):
        labels = listed(row, f"the labels of sequence {n}", "a list of labels, one for each token or step")
        if len(labels) != count:
            raise ValueError(
                f"sequence {n} has {count} tokens or steps and {len(labels)} labels, expected equal numbers"
            )
        flat += labels
    return read_labels(flat, len(flat))
