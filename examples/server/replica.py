"""A loaded model, and the states of its streams."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import rnnfast as rf
from rnnfast.protocols import Precision

DIGEST = 32  # bytes of SHA-256
HEAD = struct.Struct("<32si")  # of a saved state: the model's digest, and the stream's last token or -1


class Replica:
    """A state has one to three parts, each (layers, streams, width): a stream is one row of each of them.

    The rows of all streams that may open are reserved at the start. The system provides memory only for rows that were used.
    """

    def __init__(self, path: str, weights: Precision | None, rows: int) -> None:
        with open(path, "rb") as file:
            self.digest = hashlib.sha256(file.read()).digest()
        model = rf.load(path, weights=weights) if weights else rf.load(path)
        if not isinstance(model, rf.LanguageModel) or model.vocab is None:
            raise ValueError(f"{path} is not a language model with a vocabulary")
        self.model, self.vocab = model, model.vocab
        self._parts = [np.zeros(shape, np.float32) for shape in model.state_shapes(rows)]
        self._free = list(range(rows - 1, -1, -1))
        model.step([0])  # packs the weights before the first request

    @property
    def name(self) -> str:
        return self.digest.hex()[:12]

    def open_row(self) -> int:
        row = self._free.pop()
        for part in self._parts:
            part[:, row] = 0
        return row

    def close_row(self, row: int) -> None:
        self._free.append(row)

    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> NDArray[np.float32]:
        """Advances these streams by one token each; the logits of what follows, (streams, vocabulary).

        A stream's numbers have the same bits alone and in any batch.
        """
        taken = [part.take(rows, axis=1) for part in self._parts]
        logits, after = self.model.step(tokens, tuple(taken) if len(taken) > 1 else taken[0])
        for part, new in zip(self._parts, after if len(taken) > 1 else (after,)):
            part[:, rows] = new
        return logits

    def save(self, row: int, last: int | None) -> bytes:
        floats = [np.ascontiguousarray(part[:, row], "<f4").tobytes() for part in self._parts]
        return HEAD.pack(self.digest, -1 if last is None else last) + b"".join(floats)

    def restore(self, row: int, saved: bytes) -> int | None:
        """Sets the row to a saved state; the stream's last token."""
        sizes = [part[:, row].size for part in self._parts]
        if len(saved) != HEAD.size + 4 * sum(sizes) or saved[:DIGEST] != self.digest:
            raise ValueError("the state was saved by another model")
        _, last = HEAD.unpack_from(saved)
        numbers = np.frombuffer(saved, "<f4", offset=HEAD.size)
        if not np.isfinite(numbers).all() or not -1 <= last < len(self.vocab):
            raise ValueError("the state is damaged")
        for part, own in zip(self._parts, np.split(numbers, np.cumsum(sizes)[:-1])):
            part[:, row] = own.reshape(part[:, row].shape)
        return None if last < 0 else last
