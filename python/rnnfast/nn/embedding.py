"""A table of vectors, one for each token."""

from __future__ import annotations

from typing import Any, Callable

from numpy.typing import ArrayLike

from rnnfast import _core
from rnnfast._arrays import as_float32, as_int32, new_seed, own, positive
from rnnfast.nn.layer import Array, Layer, Option


class Embedding(Layer):
    """Rows of a table by token id, as ``torch.nn.Embedding``: ids (...), y (..., embedding_dim).

    >>> Embedding(10, 4, seed=0)([1, 2, 1]).shape
    (3, 4)
    """

    num_embeddings, embedding_dim = Option[int](), Option[int]()

    def __init__(self, num_embeddings: int, embedding_dim: int, *, seed: int | None = None) -> None:
        self._made_with = {
            "num_embeddings": positive(num_embeddings, "num_embeddings"),
            "embedding_dim": positive(embedding_dim, "embedding_dim"),
        }
        self._seed = new_seed(seed)
        self._core = _core.Embedding(self.num_embeddings, self.embedding_dim, self._seed)

    def __repr__(self) -> str:
        return f"Embedding({self.num_embeddings}, {self.embedding_dim})"

    def __call__(self, ids: ArrayLike) -> Array:
        """y; nothing is saved."""
        return self._rows(as_int32(ids, "ids"))

    def forward(self, ids: ArrayLike) -> tuple[Array, Callable[[ArrayLike], None]]:
        """y, and ``backward(dy)``, which adds to ``grads``. The ids may change in between."""
        tokens = own(as_int32(ids, "ids"), ids)
        y = self._rows(tokens)
        shape = y.shape

        def backward(dy: ArrayLike) -> None:
            grad = as_float32(dy, "gradient of the output")
            if grad.shape != shape:
                raise ValueError(f"gradient of the output has shape {grad.shape}, expected {shape}")
            self._core.backward(tokens.reshape(-1), grad.reshape(-1, self.embedding_dim))

        return y, backward

    def _rows(self, tokens: Any) -> Array:
        y: Array = self._core.forward(tokens.reshape(-1))
        return y.reshape(*tokens.shape, self.embedding_dim)
