"""Activation functions of other frameworks as parts of rnnfast."""

from __future__ import annotations

from typing import Callable

from rnnfast.interop.axes import Unconvertible
from rnnfast.nn.parts import ELU, GELU, Hardsigmoid, LeakyReLU, Part, ReLU, Sigmoid, SiLU, Tanh

_PARTS: dict[str, Callable[[], Part]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "gelu": GELU,
    "silu": SiLU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "hard_sigmoid": Hardsigmoid,
}
_ALPHAS = {"leaky_relu": 0.01, "elu": 1.0}


def part_of(function: str, alpha: float | None = None) -> Part:
    """A function by its name in the description of a network; ``alpha`` is the slope or scale of its negative half.

    >>> part_of("leaky_relu", 0.01)
    LeakyReLU()
    """
    if function not in _PARTS:
        raise Unconvertible(f"there is no activation {function} in rnnfast")
    usual = _ALPHAS.get(function)
    if alpha is not None and abs(alpha - (usual if usual is not None else alpha)) > 1e-7:
        raise Unconvertible(f"{function} has the coefficient {alpha:g}, rnnfast's has {usual:g}")
    return _PARTS[function]()
