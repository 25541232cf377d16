"""A product with a matrix of weights."""

from __future__ import annotations

from typing import Callable

from numpy.typing import ArrayLike

from rnnfast import _core
from rnnfast._arrays import as_float32, new_seed, own, positive
from rnnfast.nn.layer import Array, Layer, Option


class Linear(Layer):
    """y = x Wᵀ + b, as ``torch.nn.Linear``: x (..., in_features), y (..., out_features).

    >>> Linear(3, 2, seed=0)(np.zeros((5, 3))).shape
    (5, 2)
    """

    in_features, out_features, bias = Option[int](), Option[int](), Option[bool]()

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, seed: int | None = None) -> None:
        self._made_with = {
            "in_features": positive(in_features, "in_features"),
            "out_features": positive(out_features, "out_features"),
            "bias": bool(bias),
        }
        self._seed = new_seed(seed)
        self._core = _core.Linear(self.in_features, self.out_features, self.bias, self._seed)

    def __repr__(self) -> str:
        return f"Linear(in_features={self.in_features}, out_features={self.out_features}, bias={self.bias})"

    def __call__(self, input: ArrayLike) -> Array:
        """y; nothing is saved."""
        return self._product(self._checked(input))

    def forward(self, input: ArrayLike) -> tuple[Array, Callable[[ArrayLike], Array]]:
        """y, and ``backward(dy) -> dx``, which adds to ``grads``. The input may change in between; if the weights have,
        ``backward`` raises ``ValueError``."""
        x = own(self._checked(input), input)
        stamp = self._core.weights_stamp
        y = self._product(x)
        shape = y.shape

        def backward(dy: ArrayLike) -> Array:
            grad = as_float32(dy, "gradient of the output")
            if grad.shape != shape:
                raise ValueError(f"gradient of the output has shape {grad.shape}, expected {shape}")
            rows, drows = x.reshape(-1, self.in_features), grad.reshape(-1, self.out_features)
            dx: Array = self._core.backward(rows, drows, stamp).reshape(x.shape)
            return dx

        return y, backward

    def _checked(self, input: ArrayLike) -> Array:
        x = as_float32(input, "input")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"input has shape {x.shape}, expected (..., {self.in_features}) (in_features)")
        return x

    def _product(self, x: Array) -> Array:
        y: Array = self._core.forward(x.reshape(-1, self.in_features))
        return y.reshape(*x.shape[:-1], self.out_features)
