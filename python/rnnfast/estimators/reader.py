"""The base of estimators of sequences: how tokens and real numbers become what a network reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast._expect import brief
from rnnfast.estimators.base import Estimator, checked_reals, named_columns
from rnnfast.estimators.samples import (
    REAL,
    TOKENS,
    Sequences,
    check_names,
    check_storable,
    read_sequences,
    standard_scale,
)
from rnnfast.text.letters import Letters
from rnnfast.text.tokenise import tokenizer_in_file
from rnnfast.text.vocab import Vocab


class SequenceReader(Estimator):
    """An estimator of sequences of tokens or real numbers; its parameter ``tokenizer`` cuts texts."""

    input_: str
    vocab_: Vocab
    mean_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    n_features_in_: int

    def _reader(self, given: Sequences, params: dict[str, Any]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """The attributes for reading sequences, and the given sequences as the network reads them."""
        if given.kind == REAL:
            mean, scale = standard_scale(np.concatenate(given.values), "X")
            read = {"input_": REAL, "mean_": mean, "scale_": scale, "n_features_in_": len(mean)}
            read.update(named_columns(given.names, len(mean)))
            return read, [((x - mean) / scale).astype(np.float32) for x in given.values]
        plain, letters = Vocab(tokenizer=params["tokenizer"]), Letters(params["tokenizer"])
        for row in given.values:
            if isinstance(row, str):
                letters.read(row)
        letters.check("X")
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
                f"X has {given.values[0].shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features as input"
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

    def _reader_parts(self) -> dict[str, Any]:
        """What a file stores of the attributes of :meth:`_reader`; :func:`reader_in` is the inverse."""
        if self.input_ == TOKENS:
            return {"vocabulary": self.vocab_.description()}
        return {"mean": self.mean_.tolist(), "scale": self.scale_.tolist(), "features": self._columns()}


def reader_in(config: dict[str, Any], params: dict[str, Any]) -> tuple[dict[str, Any], int, int]:
    """The attributes for reading sequences from a file's configuration, the number of tokens (0: real numbers), and the width."""
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
    return learnt, num_tokens, width


def _vocabulary(config: dict[str, Any], tokenizer: str) -> Vocab:
    if "vocabulary" in config:
        return Vocab.from_description(config["vocabulary"])
    return Vocab.from_list(config["tokens"], tokenizer=tokenizer_in_file(tokenizer))  # a file of version 0.1


def padded(rows: list[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """(T, N) or (T, N, D), padded with zeros, and the lengths (N,)."""
    lengths = np.array([len(row) for row in rows], np.int32)
    x = np.zeros((int(lengths.max()), len(rows), *rows[0].shape[1:]), rows[0].dtype)
    for n, row in enumerate(rows):
        x[: len(row), n] = row
    return x, lengths
