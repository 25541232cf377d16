"""Classification of sequences: a recurrent layer, its last or mean state, softmax."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import positive
from rnnfast._expect import brief
from rnnfast.estimators.base import (
    CELL,
    TOKENIZER,
    TRAINING,
    Estimator,
    Trainer,
    also_named,
    check_size,
    check_sizes,
    checked_reals,
    epochs_shown,
    falling_rate,
    fresh_seed,
    losses_in,
    named_columns,
    one_of,
    recurrent_layer,
    shuffled,
)
from rnnfast.estimators.samples import (
    INTEGERS,
    REAL,
    TOKENS,
    Sequences,
    check_names,
    check_storable,
    labels_for_json,
    labels_from_json,
    places,
    read_labels,
    read_sequences,
    read_weights,
    standard_scale,
)
from rnnfast.files import PathLike
from rnnfast.models.network import Network
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.layer import Array, Layer
from rnnfast.nn.linear import Linear
from rnnfast.nn.parts import Part, Pool
from rnnfast.plot import finish, literals, new_figure
from rnnfast.protocols import Cell
from rnnfast.text.tokenise import tokenizer_in_file
from rnnfast.text.vocab import Vocab

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POOLINGS = ("last", "mean")
_ROWS = 256  # sequences classified together


class SequenceClassifier(Estimator):
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
    classes_: NDArray[Any]
    input_: str
    vocab_: Vocab
    mean_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    n_features_in_: int
    loss_curve_: list[float]
    network_: Network

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
        self, X: Iterable[object], y: Iterable[object], sample_weight: ArrayLike | None = None
    ) -> SequenceClassifier:
        """Trains on sequences with one label each; ``sample_weight`` (N,) are their weights in the loss."""
        params = self._checked()
        given = read_sequences(X, params["input"])
        labels = read_labels(y, len(given.values))
        weights = read_weights(sample_weight, len(labels))
        if not len(labels):
            raise ValueError("0 sequences and 0 labels, expected at least one (0 sample(s) (shape=(0,)))")
        if given.kind == INTEGERS:
            warnings.warn(
                'the sequences are integers, which are read as tokens; input="real" reads them as numbers, input="tokens" hides this warning',
                stacklevel=3,
            )
        classes, targets = np.unique(labels, return_inverse=True)
        check_storable(classes.tolist(), "y")
        learnt, rows = self._reader(given, params)
        seed = fresh_seed(params)
        network = _network(
            params, len(classes), seed, num_tokens=len(learnt["vocab_"]) if given.kind != REAL else 0,
            features=learnt.get("n_features_in_", 0),
        )  # fmt: skip
        trainer, random = Trainer(network, params["clip_norm"]), np.random.default_rng(seed)
        losses: list[float] = []
        for epoch in epochs_shown(params["epochs"], losses, shown=params["verbose"]):
            rate, total = falling_rate(params["lr"], epoch, params["epochs"]), 0.0
            for chosen in shuffled(len(rows), params["batch_size"], random):
                some = None if weights is None else weights[chosen]
                loss = _learn(network, [rows[i] for i in chosen], targets[chosen], some)
                trainer.step(rate, loss)
                total += loss * len(chosen)
            losses.append(total / len(rows))
        self._learn(params, **learnt, classes_=classes, network_=network, loss_curve_=losses)
        return self

    def _reader(self, given: Sequences, params: dict[str, Any]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """The attributes for reading sequences, and the given sequences as the network reads them."""
        if given.kind == REAL:
            mean, scale = standard_scale(np.concatenate(given.values), "X")
            read = {"input_": REAL, "mean_": mean, "scale_": scale, "n_features_in_": len(mean)}
            read.update(named_columns(given.names, len(mean)))
            return read, [((x - mean) / scale).astype(np.float32) for x in given.values]
        plain = Vocab(tokenizer=params["tokenizer"])
        sequences = [plain.tokenize(row) if isinstance(row, str) else row for row in given.values]
        vocab = Vocab((token for row in sequences for token in row), tokenizer=params["tokenizer"])
        check_storable(vocab.idx_to_token, "X")
        return {"input_": TOKENS, "vocab_": vocab}, [self._ids(vocab, row, n) for n, row in enumerate(sequences)]

    def _ids(self, vocab: Vocab, row: Any, n: int) -> NDArray[np.int32]:
        ids = vocab.encode(vocab.tokenize(row) if isinstance(row, str) else row)
        if not len(ids):
            raise ValueError(f"sequence {n}: the sequence {brief(row)} is empty, expected at least one token")
        return ids

    def _rows(self, X: Iterable[object]) -> list[NDArray[Any]]:
        """Sequences as the network reads them."""
        self._check_fitted()
        if self.input_ == TOKENS:
            return [self._ids(self.vocab_, row, n) for n, row in enumerate(read_sequences(X, TOKENS).values)]
        given = read_sequences(X, REAL)
        check_names(given.names, self._columns(), "X")
        if given.values and given.values[0].shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {given.values[0].shape[1]} features, but SequenceClassifier is expecting {self.n_features_in_} features as input"
            )
        rows = []
        for n, x in enumerate(given.values):
            with np.errstate(over="ignore"):
                row = ((x - self.mean_) / self.scale_).astype(np.float32)
            if not np.isfinite(row).all():
                raise OverflowError(
                    f"sequence {n} reaches {np.abs(x).max():g}, too far from the fitted numbers for single precision"
                )
            rows.append(row)
        return rows

    @also_named(sequences="X")
    def predict_proba(self, X: Iterable[object]) -> NDArray[np.float64]:
        """P(class), (number of sequences, number of classes), in the order of ``classes_``."""
        rows = self._rows(X)
        p = np.empty((len(rows), len(self.classes_)))
        for begin in range(0, len(rows), _ROWS):
            p[begin : begin + _ROWS] = _softmax(_logits(self.network_, rows[begin : begin + _ROWS]))
        if not np.isfinite(p).all():
            at = int(np.argwhere(~np.isfinite(p))[0, 0])
            raise OverflowError(
                f"the probabilities of sequence {at} are not finite: its numbers are too large for single precision"
            )
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

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        classes, labels = labels_for_json(self.classes_)
        learnt: dict[str, Any] = {"classes": classes, "labels": labels, **self._losses()}
        if self.input_ == TOKENS:
            learnt["vocabulary"] = self.vocab_.description()
        else:
            learnt.update(mean=self.mean_.tolist(), scale=self.scale_.tolist(), features=self._columns())
        return learnt, dict(self.network_.state_dict())

    def _restore(self, params: dict[str, Any], config: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        classes = labels_from_json(config["classes"], config.get("labels"))
        learnt: dict[str, Any]
        if "mean" in config and config.keys() & {"vocabulary", "tokens"}:
            raise ValueError("it has both a vocabulary and a mean of real numbers, expected one of them")
        if "mean" not in config:
            vocab, width = _vocabulary(config, params["tokenizer"]), params["embedding_size"]
            learnt, num_tokens = {"input_": TOKENS, "vocab_": vocab}, len(vocab)
        else:
            mean, num_tokens = checked_reals(config["mean"], "mean"), 0
            scale, width = checked_reals(config["scale"], "scale", len(mean), positive=True), len(mean)
            learnt = {"input_": REAL, "mean_": mean, "scale_": scale, "n_features_in_": width}
            learnt.update(named_columns(config.get("features"), width))
        hidden = params["hidden_size"]
        asked = params["num_layers"] * hidden**2, max(num_tokens, hidden) * width, len(classes) * hidden
        check_sizes(tensors, params["num_layers"], *asked)
        network = _network(params, len(classes), 0, num_tokens=num_tokens, features=width)
        network.load_state_dict(tensors)
        learnt.update(losses_in(config))
        self._learn(params, **learnt, classes_=classes, network_=network)


def _network(params: dict[str, Any], num_classes: int, seed: int, *, num_tokens: int, features: int) -> Network:
    """The logits of the classes: an embedding for tokens, the recurrent layer, pooling of its states, the output layer."""
    width = params["embedding_size"] if num_tokens else features
    check_size("the embedding", num_tokens * width)
    layers: dict[str, Layer | Part] = {"embedding": Embedding(num_tokens, width, seed=seed)} if num_tokens else {}
    layers["rnn"] = recurrent_layer(params["cell"], width, params["hidden_size"], params["num_layers"], seed + 1)
    layers["pool"] = Pool(params["pooling"])
    layers["output"] = Linear(params["hidden_size"], num_classes, seed=seed + 2)
    return Network(inputs={"x": {"ids": num_tokens} if num_tokens else features}, layers=layers, seed=seed)


def _logits(network: Network, rows: list[NDArray[Any]]) -> Array:
    """(N, classes) for N sequences: ids (T,) or numbers (T, D)."""
    padded, lengths = _padded(rows)
    logits: Array = network(padded, lengths=lengths)
    return logits


def _learn(network: Network, rows: list[NDArray[Any]], targets: NDArray[Any], weights: NDArray[Any] | None) -> float:
    """The mean cross-entropy of ``targets`` (N,); adds its gradients to the network."""
    padded, lengths = _padded(rows)
    logits, backward = network.forward(padded, lengths=lengths)
    p = _softmax(logits)
    gradient = p.copy()
    gradient[np.arange(len(rows)), targets] -= 1
    losses = -np.log(np.maximum(p[np.arange(len(rows)), targets], 1e-30))
    if weights is not None:
        gradient, losses = gradient * weights[:, None], losses * weights
    backward(gradient / len(rows), input_gradient=False)
    return float(losses.mean())


def _vocabulary(config: dict[str, Any], tokenizer: str) -> Vocab:
    if "vocabulary" in config:
        return Vocab.from_description(config["vocabulary"])
    return Vocab.from_list(config["tokens"], tokenizer=tokenizer_in_file(tokenizer))  # a file of version 0.1


def _padded(rows: list[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """(T, N) or (T, N, D), padded with zeros, and the lengths (N,)."""
    lengths = np.array([len(row) for row in rows], np.int32)
    padded = np.zeros((int(lengths.max()), len(rows), *rows[0].shape[1:]), rows[0].dtype)
    for n, row in enumerate(rows):
        padded[: len(row), n] = row
    return padded, lengths


def _softmax(logits: Array) -> NDArray[np.float64]:
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(1, keepdims=True))
    normed: NDArray[np.float64] = p / p.sum(1, keepdims=True)
    return normed
