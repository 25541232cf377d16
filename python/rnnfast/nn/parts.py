"""Parts of a network that have no weights: dropout, activations, pooling over time, and sums of several inputs.

They describe what an ``rf.Sequential`` or an ``rf.Network`` computes between its layers, and compute nothing by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from rnnfast._arrays import between, dropout_share, positive, real
from rnnfast._expect import choice, listed

Pooling = Literal["last", "first", "mean", "max"]


class Part:
    """A part of a network without weights; ``kind`` is its type in the description of a network."""

    kind: ClassVar[str]

    def options(self) -> dict[str, object]:
        """Its options in the description of a network."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class Dropout(Part):
    """In training, sets each number to zero with probability ``p`` and scales the others by 1 / (1 - p), as ``torch.nn.Dropout``.

    ``variational``: the same mask at every step of a sequence (Gal and Ghahramani, arXiv:1512.05287).

    >>> Dropout(0.1)
    Dropout(p=0.1, variational=False)
    """

    kind = "dropout"

    def __init__(self, p: float = 0.5, *, variational: bool = False) -> None:
        self.p, self.variational = dropout_share(p, "p"), bool(variational)

    def options(self) -> dict[str, object]:
        return {"p": self.p, "variational": self.variational}


class Activation(Part):
    """A function of each number."""

    kind = "activation"
    function: ClassVar[str]

    def options(self) -> dict[str, object]:
        return {"function": self.function}


class ReLU(Activation):
    """max(x, 0), as ``torch.nn.ReLU``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.ReLU()})
    >>> net([[[-1, 2]]])
    array([[[0., 2.]]], dtype=float32)
    """

    function = "relu"


class LeakyReLU(Activation):
    """x if it is positive, else ``negative_slope`` x, as ``torch.nn.LeakyReLU``. The slope is at least 0.

    >>> LeakyReLU(0.2)
    LeakyReLU(negative_slope=0.2)
    """

    function = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = _number(negative_slope, "negative_slope", least=0)

    def options(self) -> dict[str, object]:
        return _changed(super().options(), alpha=(self.negative_slope, 0.01))


class ELU(Activation):
    """x if it is positive, else ``alpha`` (exp(x) - 1), as ``torch.nn.ELU``. ``alpha`` is at least 0.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.ELU()})
    >>> net([[[-1, 2]]]).round(3)
    array([[[-0.632,  2.   ]]], dtype=float32)
    """

    function = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _number(alpha, "alpha", least=0)

    def options(self) -> dict[str, object]:
        return _changed(super().options(), alpha=(self.alpha, 1.0))


class GELU(Activation):
    """x Φ(x), where Φ is the cumulative distribution function of the normal distribution, as ``torch.nn.GELU``.

    ``approximate="tanh"``: x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 instead.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.GELU()})
    >>> net([[[-1, 2]]]).round(3)
    array([[[-0.159,  1.954]]], dtype=float32)
    """

    function = "gelu"

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        self.approximate = choice(approximate, ("none", "tanh"), "approximate")

    def options(self) -> dict[str, object]:
        return {"function": "gelu_tanh" if self.approximate == "tanh" else "gelu"}


class SiLU(Activation):
    """x σ(x), as ``torch.nn.SiLU``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.SiLU()})
    >>> net([[[-1, 2]]]).round(3)
    array([[[-0.269,  1.762]]], dtype=float32)
    """

    function = "silu"


class Tanh(Activation):
    """tanh(x), as ``torch.nn.Tanh``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.Tanh()})
    >>> net([[[-1, 2]]]).round(3)
    array([[[-0.762,  0.964]]], dtype=float32)
    """

    function = "tanh"


class Sigmoid(Activation):
    """σ(x) = 1 / (1 + exp(-x)), as ``torch.nn.Sigmoid``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.Sigmoid()})
    >>> net([[[-1, 2]]]).round(3)
    array([[[0.269, 0.881]]], dtype=float32)
    """

    function = "sigmoid"


class Hardsigmoid(Activation):
    """min(max(``slope`` x + ``offset``, 0), 1); by default ``torch.nn.Hardsigmoid``, x / 6 + 1/2. The slope is at least 0.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.Hardsigmoid()})
    >>> net([[[-1, 4]]]).round(3)
    array([[[0.333, 1.   ]]], dtype=float32)
    """

    function = "hard_sigmoid"

    def __init__(self, slope: float = 1 / 6, offset: float = 0.5) -> None:
        self.slope, self.offset = _number(slope, "slope", least=0), _number(offset, "offset")

    def options(self) -> dict[str, object]:
        return _changed(super().options(), alpha=(self.slope, 1 / 6), beta=(self.offset, 0.5))


class Hardtanh(Activation):
    """min(max(x, ``min_val``), ``max_val``), as ``torch.nn.Hardtanh``.

    >>> Hardtanh(-2, 2)
    Hardtanh(min_val=-2.0, max_val=2.0)
    """

    function = "clip"

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val, self.max_val = _number(min_val, "min_val"), _number(max_val, "max_val")
        if not self.min_val < self.max_val:
            raise ValueError(f"min_val is {min_val} and max_val {max_val}: expected a smaller min_val")

    def options(self) -> dict[str, object]:
        return _changed(super().options(), alpha=(self.min_val, -1.0), beta=(self.max_val, 1.0))


class ReLU6(Hardtanh):
    """min(max(x, 0), 6), as ``torch.nn.ReLU6``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.ReLU6()})
    >>> net([[[-1, 9]]])
    array([[[0., 6.]]], dtype=float32)
    """

    def __init__(self) -> None:
        super().__init__(0.0, 6.0)

    def __repr__(self) -> str:
        return "ReLU6()"


class Softplus(Activation):
    """log(1 + exp(``beta`` x)) / ``beta``, as ``torch.nn.Softplus``, which is x where float32 cannot tell them apart.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.Softplus()})
    >>> net([[[-1, 2]]]).round(3)
    array([[[0.313, 2.127]]], dtype=float32)
    """

    function = "softplus"

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = _number(beta, "beta", least=1e-6)

    def options(self) -> dict[str, object]:
        return _changed(super().options(), beta=(self.beta, 1.0))


class Softmax(Part):
    """exp(x) / Σ exp(x) over the numbers of a step, as ``torch.nn.Softmax(-1)``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.Softmax()})
    >>> net([[[-1, 2]]]).round(3)
    array([[[0.047, 0.953]]], dtype=float32)
    """

    kind = "softmax"

    def options(self) -> dict[str, object]:
        return {"log": False}


class LogSoftmax(Softmax):
    """x - log Σ exp(x) over the numbers of a step, as ``torch.nn.LogSoftmax(-1)``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 2}, layers={"y": rf.LogSoftmax()})
    >>> net([[[-1, 2]]]).round(3)
    array([[[-3.049, -0.049]]], dtype=float32)
    """

    def options(self) -> dict[str, object]:
        return {"log": True}


def _number(value: float, name: str, *, least: float = -math.inf) -> float:
    number = real(value, name)
    if not (math.isfinite(number) and number >= least):
        raise ValueError(f"{name} is {value}, expected a finite number{'' if least < 0 else f' of at least {least}'}")
    return number


def _changed(options: dict[str, object], **values: tuple[float, float]) -> dict[str, object]:
    """The options with those of the pairs (value, default) that differ."""
    return {**options, **{name: value for name, (value, usual) in values.items() if value != usual}}


class Scale(Part):
    """``factor`` · x with a constant factor, as for residual sums that keep their variance.

    >>> Scale(0.5)
    Scale(factor=0.5)
    """

    kind = "scale"

    def __init__(self, factor: float) -> None:
        self.factor = _number(factor, "factor")

    def options(self) -> dict[str, object]:
        return {"factor": self.factor}


class Pool(Part):
    """One vector for each sequence: its ``"last"`` or ``"first"`` step, or the ``"mean"`` or ``"max"`` of all its steps.

    >>> Pool("mean")
    Pool(function='mean')
    """

    kind = "pool"

    def __init__(self, function: Pooling = "last") -> None:
        self.function = choice(function, ("last", "first", "mean", "max"), "function")

    def options(self) -> dict[str, object]:
        return {"function": self.function}


class _Windows(Part):
    kind = "pool_windows"
    function: ClassVar[str]
    count_include_pad: bool = True

    def __init__(
        self, kernel_size: int, stride: int | None = None, padding: int | Sequence[int] | Literal["causal"] = 0
    ) -> None:
        self.kernel_size = positive(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else positive(stride, "stride")
        if isinstance(padding, str):
            choice(padding, ("causal",), "padding")
            self.padding = (self.kernel_size - 1, 0)
        else:
            sides = (
                [padding, padding] if isinstance(padding, int) else listed(padding, "padding", "steps before and after")
            )
            if len(sides) != 2:
                raise ValueError(f"padding has {len(sides)} numbers, expected one, or two: before and after")
            self.padding = (
                between(sides[0], 0, self.kernel_size - 1, "padding"),
                between(sides[1], 0, self.kernel_size - 1, "padding"),
            )

    def options(self) -> dict[str, object]:
        before, after = self.padding
        sizes = {"kernel_size": self.kernel_size, "stride": self.stride, "before": before, "after": after}
        return {"function": self.function, **sizes, "padding_counts": self.count_include_pad}


class MaxPool1d(_Windows):
    """The maximum of windows of ``kernel_size`` steps, as ``torch.nn.MaxPool1d``; padding is never the maximum.

    ``stride``: steps from one window to the next; None: ``kernel_size``. ``padding``: steps on both sides, or a pair, before and
    after; ``"causal"``: all before, so that a window ends with its step.

    >>> MaxPool1d(3, padding="causal", stride=1)
    MaxPool1d(kernel_size=3, stride=1, padding=(2, 0))
    """

    function = "max"


class AvgPool1d(_Windows):
    """The mean of windows of ``kernel_size`` steps, as ``torch.nn.AvgPool1d``; ``stride`` and ``padding`` as in :class:`MaxPool1d`.

    ``count_include_pad``: steps of padding count, as zeros.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 1}, layers={"y": rf.AvgPool1d(2)})
    >>> net([[[1]], [[3]], [[5]], [[7]]]).ravel()
    array([2., 6.], dtype=float32)
    """

    function = "mean"

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int | Sequence[int] | Literal["causal"] = 0,
        *,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.count_include_pad = bool(count_include_pad)


class Flatten(Part):
    """Every ``steps`` steps side by side as one step: (T, N, width) becomes (T / steps, N, steps · width).

    Steps that are left over at the end are dropped. For sequences of a fixed length ``steps`` this is ``torch.nn.Flatten`` of
    (N, steps, width); with ``Pool("last")`` behind it, the one step that comes out loses its axis.

    >>> Flatten(4)
    Flatten(steps=4)
    """

    kind = "flatten"

    def __init__(self, steps: int) -> None:
        self.steps = positive(steps, "steps")

    def options(self) -> dict[str, object]:
        return {"steps": self.steps}


class ReflectionPad1d(Part):
    """More steps before and after the sequence that mirror those next to its ends, as ``torch.nn.ReflectionPad1d``.

    ``padding``: steps on both sides, or a pair, before and after; fewer than the sequence has.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 1}, layers={"y": rf.ReflectionPad1d((1, 2))})
    >>> net([[[1]], [[3]], [[5]]]).ravel()
    array([3., 1., 3., 5., 3., 1.], dtype=float32)
    """

    kind = "reflection_pad"

    def __init__(self, padding: int | Sequence[int]) -> None:
        sides = [padding, padding] if isinstance(padding, int) else listed(padding, "padding", "steps before and after")
        if len(sides) != 2:
            raise ValueError(f"padding has {len(sides)} numbers, expected one, or two: before and after")
        self.padding = (
            between(sides[0], 0, 2**31 - 1, "padding"),
            between(sides[1], 0, 2**31 - 1, "padding"),
        )

    def options(self) -> dict[str, object]:
        return {"before": self.padding[0], "after": self.padding[1]}


class Magnitude(Part):
    """√(a² + b²) of the first half a and the second half b of a step's numbers: of complex numbers, real before imaginary parts.

    The gradient at 0 is 0, as that of ``torch.abs``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"x": 4}, layers={"y": rf.Magnitude()})
    >>> net([[[3, 0, 4, -1]]])
    array([[[5., 1.]]], dtype=float32)
    """

    kind = "magnitude"


class Add(Part):
    """The sum of two or more inputs of the same width, as for residual connections; for ``rf.Network``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"a": 1, "b": 1}, layers={"y": (rf.Add(), "a", "b")})
    >>> net([[[3]]], [[[5]]])
    array([[[8.]]], dtype=float32)
    """

    kind = "add"


class Multiply(Part):
    """The product of two or more inputs of the same width, number by number, as for gates; for ``rf.Network``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"a": 1, "b": 1}, layers={"y": (rf.Multiply(), "a", "b")})
    >>> net([[[3]]], [[[5]]])
    array([[[15.]]], dtype=float32)
    """

    kind = "multiply"


class Concatenate(Part):
    """Two or more inputs side by side; for ``rf.Network``.

    >>> import rnnfast as rf
    >>> net = rf.Network(inputs={"a": 1, "b": 1}, layers={"y": (rf.Concatenate(), "a", "b")})
    >>> net([[[3]]], [[[5]]])
    array([[[3., 5.]]], dtype=float32)
    """

    kind = "concatenate"
