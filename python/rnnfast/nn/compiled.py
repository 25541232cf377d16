"""Layers that are compiled as parts of networks only: on their own, each is a network of one layer."""

from __future__ import annotations

import json
from typing import Any, Callable, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from rnnfast import _core
from rnnfast._arrays import as_float32, new_seed, own, positive, real, row_lengths
from rnnfast.nn.layer import Array, Layer, Option

_NAME = "layer"


class _OneLayer:
    """The compiled network of one layer, whose parameters have the layer's own names."""

    def __init__(self, width: int, entry: dict[str, object], seed: int) -> None:
        config = {"inputs": [{"name": "input", "size": width}], "layers": [{"name": _NAME, **entry}], "seed": seed}
        self.network = _core.Network(json.dumps(config))

    def parameters(self) -> dict[str, Array]:
        return _short(self.network.parameters())

    def gradients(self) -> dict[str, Array]:
        return _short(self.network.gradients())

    def set_parameter(self, name: str, value: Array) -> None:
        self.network.set_parameter(f"{_NAME}.{name}", value)

    def frozen(self) -> list[str]:
        return [name.partition(".")[2] for name in self.network.frozen()]

    def set_frozen(self, names: list[str]) -> None:
        self.network.set_frozen([f"{_NAME}.{name}" for name in names])

    def __getattr__(self, name: str) -> Any:  # gradients' norms and optimizers
        return getattr(self.network, name)


def _short(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name.partition(".")[2]: value for name, value in arrays.items()}


class CompiledLayer(Layer):
    """A layer that a network computes."""

    kind: ClassVar[str]  # its type in the description of a network
    _width: str  # the name of the option with the width that it reads

    def options(self) -> dict[str, object]:
        """Its options in the description of a network."""
        return {}

    def _make(self, seed: int) -> None:
        self._core = _OneLayer(self.reads, {"type": self.kind, **self.options()}, seed)

    @property
    def reads(self) -> int:
        """The numbers of a step that it reads."""
        width: int = getattr(self, self._width)
        return width

    def _run(self, x: Array, lengths: ArrayLike | None, train: bool) -> tuple[Array, Any]:
        counts = None if lengths is None else row_lengths(lengths, x.shape[1], x.shape[0])
        (y,), _, _, tape = self._core.network.forward([x], counts, None, train, 0)
        return y, tape

    def _back(
        self, tape: Any, dy: ArrayLike, shape: tuple[int, ...], inner: tuple[int, ...], input_gradient: bool
    ) -> Any:
        grad = as_float32(dy, "gradient of the output")
        if grad.shape != shape:
            raise ValueError(f"gradient of the output has shape {grad.shape}, expected {shape}")
        (dx,), *_ = self._core.network.backward(tape, [grad.reshape(inner)], None, input_gradient)
        return dx


class BatchNorm1d(CompiledLayer):
    r"""Batch normalization of every channel, as ``torch.nn.BatchNorm1d``: x and y (..., num_features).

    .. math:: y = \frac{x - \mathrm{mean}}{\sqrt{\mathrm{var} + eps}} \odot weight + bias

    Called, it uses ``running_mean`` and ``running_var``. In ``forward``, as in the training of a network, mean and (biased) variance are
    those of all steps of all rows together, without what lies beyond a row's length; ``backward`` then moves the running statistics
    by ``momentum`` towards them (PyTorch moves them in forward). No optimizer changes them. PyTorch's ``state_dict`` is accepted as it
    is; its ``num_batches_tracked`` is not needed.

    Parameters
    ----------
    num_features : the channels
    eps, momentum : as in PyTorch, both from 0 to below 1 (the momentum may be 1)
    affine : it has a ``weight`` and a ``bias`` (num_features,), which start at 1 and 0

    ``forward`` raises ``ValueError`` for fewer than two steps in all rows.

    Source: S. Ioffe and C. Szegedy, arXiv:1502.03167.

    >>> BatchNorm1d(2, eps=0.0).forward([[1.0, 5.0], [3.0, 9.0]])[0]
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """

    kind = "batch_norm"
    _width = "num_features"
    num_features, eps, momentum, affine = Option[int](), Option[float](), Option[float](), Option[bool]()

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        self._made_with = {
            "num_features": positive(num_features, "num_features"),
            "eps": real(eps, "eps"),
            "momentum": real(momentum, "momentum"),
            "affine": bool(affine),
        }
        if not 0 <= self.eps < 1:
            raise ValueError(f"eps is {eps}, expected a number from 0 to below 1")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum is {momentum}, expected a number from 0 to 1")
        self._make(0)

    def _options(self) -> dict[str, Any]:
        return dict(self._made_with)  # nothing is random

    def options(self) -> dict[str, object]:
        return {"eps": self.eps, "momentum": self.momentum, "affine": self.affine}

    def __repr__(self) -> str:
        return f"BatchNorm1d({self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine})"

    def __call__(self, input: ArrayLike) -> Array:
        """y by the running statistics; nothing is saved."""
        x = self._checked(input)
        return self._run(x.reshape(1, -1, self.reads), None, False)[0].reshape(x.shape)

    def forward(self, input: ArrayLike) -> tuple[Array, Callable[..., Array | None]]:
        """y by the statistics of this batch, and ``backward(dy, *, input_gradient=True) -> dx``, which adds to ``grads`` and moves the
        running statistics. Once. The input may change in between; if the weights did, it raises ``ValueError``."""
        x = own(self._checked(input), input)
        inner = (1, x.size // self.reads, self.reads)
        y, tape = self._run(x.reshape(inner), None, True)

        def backward(dy: ArrayLike, *, input_gradient: bool = True) -> Array | None:
            dx = self._back(tape, dy, x.shape, inner, input_gradient)
            return None if dx is None else np.asarray(dx, np.float32).reshape(x.shape)

        return y.reshape(x.shape), backward

    def _checked(self, input: ArrayLike) -> Array:
        x = as_float32(input, "input")
        if x.ndim == 0 or x.shape[-1] != self.reads:
            raise ValueError(f"input has shape {x.shape}, expected (..., {self.reads}) (num_features)")
        return x


class AttentionPool(CompiledLayer):
    r"""One vector for each sequence: the mean of its steps, weighted by attention with one learned query.

    .. math:: y = \sum_t a_t x_t, \quad a = \mathrm{softmax}_t(w \cdot x_t)

    x is (T, N, width), y (N, width); each row is pooled over its own length, and a row of length 0 gives zeros. ``weight`` (1, width) is
    that of a ``torch.nn.Linear(width, 1, bias=False)`` whose outputs are the scores; a bias would change nothing.

    >>> AttentionPool(3, seed=0)(np.ones((5, 2, 3)))
    array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """

    kind = "attention_pool"
    _width = "width"
    width = Option[int]()

    def __init__(self, width: int, *, seed: int | None = None) -> None:
        self._made_with = {"width": positive(width, "width")}
        self._seed = new_seed(seed)
        self._make(self._seed)

    def __repr__(self) -> str:
        return f"AttentionPool({self.width})"

    def __call__(self, input: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
        """y (N, width) of x (T, N, width), with the steps of each row in ``lengths`` (N,), 0 to T; None: all T. Nothing is saved."""
        y: Array = self._run(self._checked(input), lengths, False)[0][0]
        return y

    def forward(
        self, input: ArrayLike, *, lengths: ArrayLike | None = None
    ) -> tuple[Array, Callable[..., Array | None]]:
        """y, and ``backward(dy, *, input_gradient=True) -> dx``, which adds to ``grads``. Once. The input may change in between; if
        the weights did, it raises ``ValueError``."""
        x = own(self._checked(input), input)
        y, tape = self._run(x, lengths, True)

        def backward(dy: ArrayLike, *, input_gradient: bool = True) -> Array | None:
            dx: Array | None = self._back(tape, dy, y.shape[1:], y.shape, input_gradient)
            return dx

        return y[0], backward

    def _checked(self, input: ArrayLike) -> Array:
        x = as_float32(input, "input")
        if x.ndim != 3 or x.shape[-1] != self.width:
            raise ValueError(f"input has shape {x.shape}, expected (T, N, {self.width})")
        return x
