"""Activation functions and pooling of other frameworks as parts of rnnfast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import numpy as np

from rnnfast.interop.axes import Unconvertible
from rnnfast.nn.parts import (
    ELU,
    GELU,
    AvgPool1d,
    Hardsigmoid,
    Hardtanh,
    LeakyReLU,
    LogSoftmax,
    MaxPool1d,
    Part,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)

_PARTS: dict[str, Callable[..., Part]] = {
    "relu": ReLU,
    "relu6": ReLU6,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "gelu": GELU,
    "gelu_tanh": lambda: GELU("tanh"),
    "silu": SiLU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "hard_sigmoid": Hardsigmoid,
    "clip": Hardtanh,
    "softplus": Softplus,
}


def part_of(function: str, *coefficients: float | None) -> Part:
    """A function by its name in the description of a network, with its coefficients in the order of the part's; None: the usual one.

    >>> part_of("leaky_relu", 0.2)
    LeakyReLU(negative_slope=0.2)
    """
    if function not in _PARTS:
        raise Unconvertible(f"there is no activation {function} in rnnfast")
    given = [float(str(np.float32(c))) for c in coefficients if c is not None]
    usual = _PARTS[function]()
    try:
        made = _PARTS[function](*given)
    except ValueError as error:
        raise Unconvertible(f"has a form of {function} that rnnfast does not have: {error}") from None
    if given and all(np.float32(a) == np.float32(b) for a, b in zip(vars(made).values(), vars(usual).values())):
        return usual
    return made


def same_padding(reach: int) -> tuple[int, int]:
    """Zeros before and after the steps, so that windows of ``reach`` + 1 give as many steps as they read.

    >>> same_padding(3)
    (1, 2)
    """
    return reach // 2, reach - reach // 2


def softmax_of(log: bool) -> Softmax:
    """The softmax over the numbers of a step, or its logarithm."""
    return LogSoftmax() if log else Softmax()


def windows_of(
    function: str,
    size: int,
    stride: int,
    pads: Sequence[int],
    *,
    counts: bool = True,
    dilation: int = 1,
    ceil: bool = False,
) -> MaxPool1d | AvgPool1d:
    """The maximum or mean of windows of steps."""
    if dilation != 1 or ceil:
        raise Unconvertible("pools windows with a dilation or with ceil_mode, which rnnfast does not have")
    try:
        if function == "max":
            return MaxPool1d(size, stride, list(pads))
        return AvgPool1d(size, stride, list(pads), count_include_pad=counts)
    except ValueError as error:
        raise Unconvertible(f"pools windows that rnnfast does not have: {error}") from None
