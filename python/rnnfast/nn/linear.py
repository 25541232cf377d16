"""The product with a weight matrix."""

from __future__ import annotations

from rnnfast import _core
from rnnfast._arrays import new_seed, positive
from rnnfast.nn.layer import Option, RowLayer


class Linear(RowLayer):
    """y = x Wᵀ + b, as ``torch.nn.Linear``: x (..., in_features), y (..., out_features).

    >>> Linear(3, 2, seed=0)(np.zeros((5, 3))).shape
    (5, 2)
    """

    in_features, out_features, bias = Option[int](), Option[int](), Option[bool]()
    _inputs, _outputs = "in_features", "out_features"

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
