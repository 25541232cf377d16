"""Parts of a network that have no weights: dropout, activations, pooling over time, and sums of several inputs.

They describe what an ``rf.Sequential`` or an ``rf.Network`` computes between its layers, and compute nothing by themselves.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from rnnfast._arrays import dropout_share
from rnnfast._expect import choice

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
    """max(x, 0), as ``torch.nn.ReLU``."""

    function = "relu"


class LeakyReLU(Activation):
    """x if it is positive, else x / 100, as ``torch.nn.LeakyReLU``."""

    function = "leaky_relu"


class ELU(Activation):
    """x if it is positive, else exp(x) - 1, as ``torch.nn.ELU``."""

    function = "elu"


class GELU(Activation):
    """x Φ(x), where Φ is the cumulative distribution function of the normal distribution, as ``torch.nn.GELU``."""

    function = "gelu"


class SiLU(Activation):
    """x σ(x), as ``torch.nn.SiLU``."""

    function = "silu"


class Tanh(Activation):
    """tanh(x), as ``torch.nn.Tanh``."""

    function = "tanh"


class Sigmoid(Activation):
    """σ(x) = 1 / (1 + exp(-x)), as ``torch.nn.Sigmoid``."""

    function = "sigmoid"


class Hardsigmoid(Activation):
    """min(max(x / 6 + 1/2, 0), 1), as ``torch.nn.Hardsigmoid``."""

    function = "hard_sigmoid"


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


class Add(Part):
    """The sum of two or more inputs of the same width, as for residual connections; for ``rf.Network``."""

    kind = "add"


class Multiply(Part):
    """The product of two or more inputs of the same width, number by number, as for gates; for ``rf.Network``."""

    kind = "multiply"


class Concatenate(Part):
    """Two or more inputs side by side; for ``rf.Network``."""

    kind = "concatenate"
