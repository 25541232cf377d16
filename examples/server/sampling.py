"""Draws a token from logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Sampler:
    """Every stream has one, so that its tokens do not depend on the streams next to it."""

    def __init__(self, temperature: float, top_k: int, seed: int) -> None:
        """``temperature`` 0 always takes the most probable token; ``top_k`` 0 draws from all tokens."""
        self._temperature, self._top_k = temperature, top_k
        self._random = np.random.default_rng(seed)

    def sample(self, logits: NDArray[np.float32]) -> int:
        if self._temperature == 0:
            return int(np.argmax(logits))
        ids = None
        if 0 < self._top_k < len(logits):
            ids = np.sort(np.argpartition(logits, -self._top_k)[-self._top_k :])
            logits = logits[ids]
        weights = np.exp((logits - logits.max()) / np.float32(self._temperature))
        sums = np.cumsum(weights, dtype=np.float64)
        at = int(np.searchsorted(sums, self._random.random() * sums[-1], side="right"))
        at = min(at, len(sums) - 1)  # a product that was rounded up to the whole sum
        return at if ids is None else int(ids[at])


def log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
