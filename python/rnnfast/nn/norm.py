"""Normalization."""

from __future__ import annotations

import math
from typing import Any

from rnnfast import _core
from rnnfast._arrays import positive, real
from rnnfast.nn.layer import Option, RowLayer


def _epsilon(eps: float) -> float:
    epsilon = real(eps, "eps")
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"eps is {eps}, expected a finite number of at least 0")
    return epsilon


class LayerNorm(RowLayer):
    r"""Layer normalization over the last axis, as ``torch.nn.LayerNorm``: x and y (..., normalized_size).

    .. math:: y = \frac{x - \mathrm{mean}(x)}{\sqrt{\mathrm{var}(x) + eps}} \odot weight + bias

    Mean and (biased) variance are those of each row. ``weight`` and ``bias`` (normalized_size,) start at 1 and 0. Without
    ``elementwise_affine`` there are none.

    Source: J. L. Ba, J. R. Kiros and G. E. Hinton, arXiv:1607.06450.

    >>> LayerNorm(2)([[1.0, 3.0]])
    array([[-0.999995,  0.999995]], dtype=float32)
    """

    normalized_size, eps = Option[int](), Option[float]()
    elementwise_affine, bias = Option[bool](), Option[bool]()
    _inputs = _outputs = "normalized_size"

    def __init__(
        self, normalized_size: int, *, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        self._made_with = {
            "normalized_size": positive(normalized_size, "normalized_size"),
            "eps": _epsilon(eps),
            "elementwise_affine": bool(elementwise_affine),
            "bias": bool(bias),
        }
        self._core = _core.LayerNorm(self.normalized_size, self.eps, self.elementwise_affine, self.bias, True)

    def _options(self) -> dict[str, Any]:
        return dict(self._made_with)  # nothing is random

    def __repr__(self) -> str:
        return (
            f"LayerNorm({self.normalized_size}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias})"
        )


class RMSNorm(RowLayer):
    r"""Root mean square normalization over the last axis, as ``torch.nn.RMSNorm``: x and y (..., normalized_size).

    .. math:: y = \frac{x}{\sqrt{\mathrm{mean}(x^2) + eps}} \odot weight

    ``weight`` (normalized_size,) starts at 1; without ``elementwise_affine`` there is none. ``eps`` None is float32's 2⁻²³.

    Source: B. Zhang and R. Sennrich, Root mean square layer normalization, arXiv:1910.07467.

    >>> RMSNorm(2)([[3.0, 4.0]])
    array([[0.84852815, 1.1313709 ]], dtype=float32)
    """

    normalized_size, eps, elementwise_affine = Option[int](), Option[float](), Option[bool]()
    _inputs = _outputs = "normalized_size"

    def __init__(self, normalized_size: int, *, eps: float | None = None, elementwise_affine: bool = True) -> None:
        self._made_with = {
            "normalized_size": positive(normalized_size, "normalized_size"),
            "eps": 2.0**-23 if eps is None else _epsilon(eps),
            "elementwise_affine": bool(elementwise_affine),
        }
        self._core = _core.LayerNorm(self.normalized_size, self.eps, self.elementwise_affine, False, False)

    def _options(self) -> dict[str, Any]:
        return dict(self._made_with)  # nothing is random

    def __repr__(self) -> str:
        return f"RMSNorm({self.normalized_size}, eps={self.eps}, elementwise_affine={self.elementwise_affine})"
