"""The base of estimators whose network gives the logits of labels."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast.estimators.base import check_sizes, losses_in
from rnnfast.estimators.reader import SequenceReader, padded, reader_in
from rnnfast.estimators.samples import INTEGERS, REAL, Sequences, labels_for_json, labels_from_json
from rnnfast.models.network import Network
from rnnfast.nn.layer import Array

ROWS = 256  # sequences that run together


class Labeller(SequenceReader):
    """An estimator of sequences whose network gives the logits of ``classes_``: for each sequence, or for each step."""

    classes_: NDArray[Any]
    loss_curve_: list[float]
    network_: Network

    @staticmethod
    @abstractmethod
    def _network(params: dict[str, Any], num_classes: int, seed: int, *, num_tokens: int, features: int) -> Network:
        """An untrained network; num_tokens is 0 if it reads real numbers."""

    def _new_network(
        self, given: Sequences, params: dict[str, Any], learnt: dict[str, Any], num_classes: int, seed: int
    ) -> Network:
        """The network for the sequences of ``fit``; ``learnt`` are the attributes of :meth:`_reader`."""
        num_tokens = len(learnt["vocab_"]) if given.kind != REAL else 0
        return self._network(params, num_classes, seed, num_tokens=num_tokens, features=learnt.get("n_features_in_", 0))

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        classes, labels = labels_for_json(self.classes_)
        learnt = {"classes": classes, "labels": labels, **self._losses(), **self._reader_parts()}
        return learnt, dict(self.network_.state_dict())

    def _restore(self, params: dict[str, Any], config: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        classes = labels_from_json(config["classes"], config.get("labels"))
        learnt, num_tokens, width = reader_in(config, params)
        hidden = params["hidden_size"]
        asked = params["num_layers"] * hidden**2, max(num_tokens, hidden) * width, len(classes) * hidden
        check_sizes(tensors, params["num_layers"], *asked)
        network = self._network(params, len(classes), 0, num_tokens=num_tokens, features=width)
        network.load_state_dict(tensors)
        learnt.update(losses_in(config))
        self._learn(params, **learnt, classes_=classes, network_=network)


def warn_of_integers(given: Sequences, stacklevel: int) -> None:
    """Says how integers are read, which can be tokens or numbers, unless ``input`` was given."""
    if given.kind == INTEGERS:
        warnings.warn(
            'the sequences are integers, which are read as tokens; input="real" reads them as numbers, input="tokens" hides this warning',
            stacklevel=stacklevel + 1,
        )


def logits_of(network: Network, rows: list[NDArray[Any]]) -> Array:
    """(N, classes) or (T, N, classes) for N sequences: ids (T,) or numbers (T, D)."""
    x, lengths = padded(rows)
    return np.asarray(network(x, lengths=lengths))


def softmax(logits: Array) -> NDArray[np.float64]:
    """Of the last axis, in double precision."""
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(-1, keepdims=True))
    normed: NDArray[np.float64] = p / p.sum(-1, keepdims=True)
    return normed


def not_finite(sequence: int) -> OverflowError:
    """What to raise if the probabilities of this sequence are not finite."""
    return OverflowError(
        f"the probabilities of sequence {sequence} are not finite: its numbers are too large for single precision"
    )
