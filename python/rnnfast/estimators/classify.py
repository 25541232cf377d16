"""Classification of sequences: a recurrent layer, its last or mean state, softmax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import positive
from rnnfast._expect import brief
from rnnfast.distributed.ranks import Ranks, ranks_for
from rnnfast.estimators.base import (
    CELL,
    TOKENIZER,
    TRAINING,
    Rows,
    Trainer,
    also_named,
    check_size,
    epochs_shown,
    falling_rate,
    fresh_seed,
    on_all,
    one_of,
    recurrent_layer,
    shuffled,
)
from rnnfast.estimators.labeller import ROWS, Labeller, logits_of, not_finite, softmax, warn_of_integers
from rnnfast.estimators.reader import padded
from rnnfast.estimators.samples import (
    REAL,
    TOKENS,
    check_storable,
    places,
    read_labels,
    read_sequences,
    read_weights,
)
from rnnfast.files import PathLike
from rnnfast.models.network import Network
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.layer import Layer
from rnnfast.nn.linear import Linear
from rnnfast.nn.parts import Part, Pool
from rnnfast.plot import finish, literals, new_figure
from rnnfast.protocols import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POOLINGS = ("last", "mean")


class SequenceClassifier(Labeller):
    r"""P(class | x_1 … x_T) = softmax(W s + b), where s is the last state of the recurrent layer, or the mean of all.

    The sequences can have any lengths and contain tokens or real numbers:

    - tokens: texts, or lists of strings. Each token has an embedding.
    - real numbers: a list with an array or data frame (T,) or (T, D) for each sequence; or one array (N, T) or (N, T, D).
      The recurrent layer reads the D features, standardized by their mean and standard deviation in the training data.

    Integers can be either. As in PyTorch, integers are tokens and floats are numbers, but ``fit`` warns unless ``input`` is given.

    Parameters
    ----------
    cell : a name in ``rf.nn.LAYERS``: ``"rnn"``, ``"gru"``, ``"lstm"``, ...
    hidden_size, num_layers : of the recurrent layer
    embedding_size : of a token
    pooling : ``"last"`` or ``"mean"``
    tokenizer : tokenizes texts; lists of tokens are used as they are
    epochs, batch_size, lr, clip_norm : of training with Adam on the cross-entropy; lr decreases to 0; ``clip_norm=None``: no clipping
    seed : the same seed gives the same model (scikit-learn's ``random_state``; an integer, or None for a new one)
    input : ``"tokens"``, ``"real"``, or ``"auto"`` to infer it from the sequences of ``fit``
    verbose : show a progress bar over the epochs

    Attributes
    ----------
    classes_ : labels, sorted: strings, bytes, integers, floats, bools, dates or times
    input_ : ``"tokens"`` or ``"real"``
    vocab_ : of tokens
    mean_, scale_, n_features_in_ : for real numbers: mean and standard deviation for standardizing, number of features
    loss_curve_ : mean cross-entropy of each epoch
    params_ : the parameters of the fit

    >>> model = SequenceClassifier("gru", 8, epochs=30, lr=0.02, seed=0).fit(["aba", "aab", "xyx", "yyx"], [0, 0, 1, 1])
    >>> model.predict(["ab", "yx"]).tolist(), model.predict_proba(["ab"]).shape
    ([0, 1], (1, 2))
    >>> up, down = np.arange(5.0), -np.arange(7.0)
    >>> SequenceClassifier("gru", 8, epochs=30, lr=0.02, seed=0).fit([up, down], ["up", "down"]).predict([up[:3]]).tolist()
    ['up']
    """

    kind = "sequence_classifier"
    _estimator_type = "classifier"  # for scikit-learn before 1.6
    _checks: ClassVar = {
        "cell": CELL, "hidden_size": positive, "embedding_size": positive, "pooling": one_of(*POOLINGS),
        "tokenizer": TOKENIZER, "input": one_of("auto", TOKENS, REAL), **TRAINING,
    }  # fmt: skip
    _learnt = (
        "classes_", "input_", "vocab_", "mean_", "scale_", "n_features_in_", "feature_names_in_", "loss_curve_", "network_",
    )  # fmt: skip

    def __init__(
        self,
        cell: Cell = "gru",
        hidden_size: int = 64,
        *,
        num_layers: int = 1,
        embedding_size: int = 32,
        pooling: str = "last",
        tokenizer: str = "char",
        epochs: int = 10,
        batch_size: int = 64,
        lr: float = 3e-3,
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
        self.pooling, self.tokenizer, self.epochs, self.batch_size = pooling, tokenizer, epochs, batch_size
        self.lr, self.clip_norm, self.seed, self.input, self.verbose = lr, clip_norm, seed, input, verbose

    def __sklearn_tags__(self) -> Any:
        return self._tags("classifier", requires_y=True, three_d_array=True, string=True)

    @also_named(sequences="X", labels="y")
    def fit(
        self,
        X: Iterable[object],
        y: Iterable[object],
        sample_weight: ArrayLike | None = None,
        *,
        shards: int | None = None,
        distributed: Ranks | None = None,
    ) -> SequenceClassifier:
        """Trains on sequences with one label each; ``sample_weight`` (N,) are their weights in the loss. ``shards`` and ``distributed``
        split every batch over ranks, as in :func:`rnnfast.fit`."""
        params, ranks = self._checked(), ranks_for(shards, distributed)
        given = read_sequences(X, params["input"])
        labels = read_labels(y, len(given.values))
        weights = read_weights(sample_weight, len(labels))
        if not len(labels):
            raise ValueError("0 sequences and 0 labels, expected at least one (0 sample(s) (shape=(0,)))")
        warn_of_integers(given, stacklevel=3)
        classes, targets = np.unique(labels, return_inverse=True)
        check_storable(classes.tolist(), "y")
        learnt, rows = self._reader(given, params)
        seed = fresh_seed(params, ranks)
        network = self._new_network(given, params, learnt, len(classes), seed)
        trainer, random = Trainer(network, params["clip_norm"], ranks), np.random.default_rng(seed)
        losses: list[float] = []

        def learn(chosen: Rows) -> float:
            some = None if weights is None else weights[chosen]
            return _learn(network, [rows[i] for i in chosen], targets[chosen], some)

        shown = params["verbose"] and (ranks is None or ranks.leads)
        with on_all(ranks, network, params, {"x": np.concatenate(rows), "y": targets}):
            for epoch in epochs_shown(params["epochs"], losses, shown=shown):
                rate, total = falling_rate(params["lr"], epoch, params["epochs"]), 0.0
                for chosen in shuffled(len(rows), params["batch_size"], random):
                    total += trainer.learn(rate, chosen, learn) * len(chosen)
                losses.append(total / len(rows))
        self._learn(params, **learnt, classes_=classes, network_=network, loss_curve_=losses)
        return self

    @also_named(sequences="X")
    def predict_proba(self, X: Iterable[object]) -> NDArray[np.float64]:
        """P(class), (number of sequences, number of classes), in the order of ``classes_``."""
        rows = self._rows(X)
        p = np.empty((len(rows), len(self.classes_)))
        for begin in range(0, len(rows), ROWS):
            p[begin : begin + ROWS] = softmax(logits_of(self.network_, rows[begin : begin + ROWS]))
        if not np.isfinite(p).all():
            raise not_finite(int(np.argwhere(~np.isfinite(p))[0, 0]))
        return p

    @also_named(sequences="X")
    def predict(self, X: Iterable[object]) -> NDArray[Any]:
        """The most probable class of each sequence."""
        guesses = self.predict_proba(X).argmax(1)
        best: NDArray[Any] = self.classes_[guesses]
        return best

    @also_named(sequences="X", labels="y")
    def score(self, X: Iterable[object], y: Iterable[object], sample_weight: ArrayLike | None = None) -> float:
        """The accuracy: the share of sequences whose most probable class is their label."""
        guesses = self.predict_proba(X).argmax(1)
        if not len(guesses):
            raise ValueError("0 sequences, expected at least one to score")
        right = guesses == places(read_labels(y, len(guesses)), self.classes_)
        return float(np.average(right, weights=read_weights(sample_weight, len(guesses))))

    @also_named(sequences="X", labels="y")
    def confusion_matrix(self, X: Iterable[object], y: Iterable[object]) -> NDArray[np.int64]:
        """The number of sequences of class i (row) that were classified as class j (column)."""
        guesses = self.predict_proba(X).argmax(1)
        labels = read_labels(y, len(guesses))
        rows = places(labels, self.classes_)
        if (rows < 0).any():
            label = labels[rows < 0].tolist()[0]
            names = ", ".join(map(str, self.classes_[:20])) + ", ..." * (len(self.classes_) > 20)
            raise ValueError(f"the label {brief(label)} is not among the fitted ones: {names}")
        matrix = np.zeros((len(self.classes_), len(self.classes_)), np.int64)
        np.add.at(matrix, (rows, guesses), 1)
        return matrix

    @also_named(sequences="X", labels="y")
    def plot_confusion(self, X: Iterable[object], y: Iterable[object], path: PathLike | None = None) -> Figure:
        """The confusion matrix as shares of each row, written to ``path`` if given (extra: ``plot``)."""
        matrix = self.confusion_matrix(X, y)
        figure, axes = new_figure()
        figure.set_size_inches(7, 6)
        axes.grid(False)
        image = axes.imshow(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), vmin=0, vmax=1, cmap="Blues")
        names = literals(self.classes_)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="true")
        figure.colorbar(image, label="share of the row")
        return finish(figure, path)

    @staticmethod
    def _network(params: dict[str, Any], num_classes: int, seed: int, *, num_tokens: int, features: int) -> Network:
        """The logits of the classes: an embedding for tokens, the recurrent layer, pooling of its states, the output layer."""
        width = params["embedding_size"] if num_tokens else features
        check_size("the embedding", num_tokens * width)
        layers: dict[str, Layer | Part] = {"embedding": Embedding(num_tokens, width, seed=seed)} if num_tokens else {}
        layers["rnn"] = recurrent_layer(params["cell"], width, params["hidden_size"], params["num_layers"], seed + 1)
        layers["pool"] = Pool(params["pooling"])
        layers["output"] = Linear(params["hidden_size"], num_classes, seed=seed + 2)
        return Network(inputs={"x": {"ids": num_tokens} if num_tokens else features}, layers=layers, seed=seed)


def _learn(network: Network, rows: list[NDArray[Any]], targets: NDArray[Any], weights: NDArray[Any] | None) -> float:
    """The mean cross-entropy of ``targets`` (N,); adds its gradients to the network."""
    x, lengths = padded(rows)
    logits, backward = network.forward(x, lengths=lengths)
    p = softmax(np.asarray(logits))
    gradient = p.copy()
    gradient[np.arange(len(rows)), targets] -= 1
    losses = -np.log(np.maximum(p[np.arange(len(rows)), targets], 1e-30))
    if weights is not None:
        gradient, losses = gradient * weights[:, None], losses * weights
    backward(gradient / len(rows), input_gradient=False)
    return float(losses.mean())
