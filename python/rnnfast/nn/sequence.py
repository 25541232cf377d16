"""Layers that map a sequence to a sequence without recurrence: Conv1d and SelfAttention.

As everywhere in ``rnnfast.nn``, calling a layer saves nothing; ``forward`` returns a second value, ``backward``. ``step``
computes one time step, as text generation needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Optional

import numpy as np
from numpy.typing import ArrayLike

from rnnfast import _core
from rnnfast._arrays import as_float32, between, new_seed, own, positive, row_lengths
from rnnfast._expect import brief, kind_of
from rnnfast.nn.layer import Array, Layer, Option

Backward = Callable[..., Optional[Array]]


def _sequence(input: ArrayLike, channels: int, name: str, batch_first: bool, *, kept: bool) -> tuple[Array, bool]:
    """The input with three dimensions, and whether it was given without rows, as (T, channels)."""
    x = as_float32(input, "input")
    wanted = f"({'N, T' if batch_first else 'T, N'}, {channels}) or, of a single row, (T, {channels})"
    if x.ndim not in (2, 3):
        raise ValueError(f"input has shape {x.shape}, expected three dimensions {wanted}")
    if x.shape[-1] != channels:
        raise ValueError(
            f"input has {x.shape[-1]} channels, expected {channels} ({name}), the last dimension of {wanted}; "
            "torch's (N, C, L) needs its last two axes swapped"
        )
    x = own(x, input) if kept else x
    return (x, False) if x.ndim == 3 else (_with_row(x, batch_first), True)


def _with_row(x: Array, batch_first: bool) -> Array:
    return x[None] if batch_first else x[:, None]


def _without_row(x: Array, flat: bool, batch_first: bool) -> Array:
    return x if not flat else x[0] if batch_first else x[:, 0]


def _gradient(dy: ArrayLike, shape: tuple[int, ...], flat: bool, batch_first: bool) -> Array:
    grad = as_float32(dy, "gradient of the output")
    if grad.shape != shape:
        raise ValueError(f"gradient of the output has shape {grad.shape}, expected {shape}")
    return _with_row(grad, batch_first) if flat else grad


def _step_input(input: ArrayLike, channels: int) -> tuple[Array, bool]:
    x = as_float32(input, "input")
    if x.ndim not in (1, 2) or x.shape[-1] != channels:
        raise ValueError(f"a step's input has shape {x.shape}, expected (N, {channels}) or ({channels},)")
    return (x, False) if x.ndim == 2 else (x[None], True)


def _checked_state(state: Any, kind: type) -> Any:
    if not isinstance(state, kind):
        raise TypeError(
            f"state is {kind_of(state)}, expected the state that the previous step returned, or None to start"
        )
    return state


class ConvState:
    """The state of :meth:`Conv1d.step`: the inputs that later steps read. It fits layers of one shape."""

    def __init__(self, layer: Conv1d, rows: int) -> None:
        self._shape = (layer.kernel_size, layer.dilation, layer.in_channels, rows)
        self._ring = np.zeros((layer.dilation * (layer.kernel_size - 1), rows, layer.in_channels), np.float32)
        self._oldest = 0

    def __repr__(self) -> str:
        return "ConvState(kernel_size={}, dilation={}, in_channels={}, rows={})".format(*self._shape)

    @property
    def bytes(self) -> int:
        """The size of the state in bytes."""
        return int(self._ring.nbytes)

    def _window(self, layer: Conv1d, x: Array) -> Array:
        """The inputs (kernel_size, N, in_channels) of the step that reads ``x``; adds ``x`` to the state."""
        wanted = (layer.kernel_size, layer.dilation, layer.in_channels, len(x))
        if self._shape != wanted:
            names = "kernel_size {}, dilation {}, in_channels {} and {} rows"
            raise ValueError(
                f"the state is of {names.format(*self._shape)}, this step has {names.format(*wanted)}; "
                "give the state that this layer returned, or None to start"
            )
        window = np.empty((layer.kernel_size, *x.shape), np.float32)
        window[-1] = x
        reach = len(self._ring)
        if reach:
            window[:-1] = self._ring[(self._oldest + layer.dilation * np.arange(layer.kernel_size - 1)) % reach]
            self._ring[self._oldest] = x
            self._oldest = (self._oldest + 1) % reach
        return window


class Conv1d(Layer):
    r"""Convolution over time, as ``torch.nn.Conv1d``.

    .. math:: y_t = b + \sum_{j=0}^{k-1} W_{:,:,j}\, x_{t \cdot stride + j \cdot dilation - before}

    The layout is that of the recurrent layers, channels last: x (T, N, in_channels), or (N, T, in_channels) with
    ``batch_first``; torch's (N, C, L) is ``x.swapaxes(1, 2)`` of the latter. The weights have torch's names and shapes,
    ``weight`` (out_channels, in_channels / groups, k) and ``bias`` (out_channels,), so a ``state_dict`` can be exchanged.

    Parameters
    ----------
    in_channels, out_channels, kernel_size : C, O and k
    stride : steps of the input from one output to the next
    padding : steps of zeros on both sides, or a pair of them, before and after; ``"same"`` keeps the length (an odd total puts one
        more at the end, as in torch; stride 1 only); ``"causal"`` puts all zeros at the start, so that y_t depends on nothing later
        than x_t
    dilation : distance between two taps in steps
    groups : the channels are split into so many parts that do not see one another
    bias, batch_first, seed : as in the recurrent layers; initial weights are uniform in ±1/sqrt(C·k / groups)

    The cost is T·k·C·O / (stride·groups) multiplications, with all steps in parallel; memory is that of input and output: the input is not
    copied k times.

    >>> conv = Conv1d(3, 5, 3, padding="same", seed=0)
    >>> conv(np.zeros((7, 2, 3))).shape
    (7, 2, 5)
    """

    in_channels, out_channels, kernel_size, dilation = Option[int](), Option[int](), Option[int](), Option[int]()
    padding, bias, batch_first = Option["int | str | list[int]"](), Option[bool](), Option[bool]()
    stride, groups = Option[int](), Option[int]()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        seed: int | None = None,
    ) -> None:
        self._made_with = {
            "in_channels": positive(in_channels, "in_channels"),
            "out_channels": positive(out_channels, "out_channels"),
            "kernel_size": positive(kernel_size, "kernel_size"),
            "stride": positive(stride, "stride"),
            "padding": list(padding) if isinstance(padding, (list, tuple)) else padding,
            "dilation": positive(dilation, "dilation"),
            "groups": positive(groups, "groups"),
            "bias": bool(bias),
            "batch_first": bool(batch_first),
        }
        before, after = self.zeros
        self._seed = new_seed(seed)
        self._core = _core.Conv1d(
            self.in_channels, self.out_channels, self.kernel_size, self.dilation, before, after, self.bias,
            self.batch_first, self._seed, self.stride, self.groups,
        )  # fmt: skip

    @property
    def zeros(self) -> tuple[int, int]:
        """The steps of zeros before and after the input."""
        reach = self.dilation * (self.kernel_size - 1)
        if self.padding == "same":
            if self.stride > 1:
                raise ValueError(
                    f"padding='same' keeps the length, and stride is {self.stride}: give the steps of zeros instead"
                )
            return reach // 2, reach - reach // 2
        if self.padding == "causal":
            return reach, 0
        if isinstance(self.padding, str):
            raise ValueError(f"padding is {brief(self.padding)}, expected a number of steps, 'same' or 'causal'")
        sides = self.padding if isinstance(self.padding, list) else [self.padding, self.padding]
        if len(sides) != 2:
            raise ValueError(f"padding has {len(sides)} numbers, expected one, or two: before and after")
        before, after = (between(steps, 0, 2**31 - 1, "padding") for steps in sides)
        return before, after

    def __repr__(self) -> str:
        options = f", padding={self.padding!r}, dilation={self.dilation}"
        options += "".join(
            f", {name}={getattr(self, name)}" for name in ("stride", "groups") if getattr(self, name) > 1
        )
        return f"Conv1d({self.in_channels}, {self.out_channels}, {self.kernel_size}{options})"

    def __call__(self, input: ArrayLike) -> Array:
        """y of x (T, N, in_channels), (N, T, in_channels) with ``batch_first``, or (T, in_channels); nothing is saved."""
        x, flat = _sequence(input, self.in_channels, "in_channels", self.batch_first, kept=False)
        return _without_row(self._core.forward(x), flat, self.batch_first)

    def forward(self, input: ArrayLike) -> tuple[Array, Backward]:
        """y, and ``backward(dy, *, input_gradient=True) -> dx``, which adds to ``grads``. The input may change in
        between; if the weights did, ``backward`` raises ``ValueError``."""
        x, flat = _sequence(input, self.in_channels, "in_channels", self.batch_first, kept=True)
        stamp = self._core.weights_stamp
        y = _without_row(self._core.forward(x), flat, self.batch_first)
        shape = y.shape

        def backward(dy: ArrayLike, *, input_gradient: bool = True) -> Array | None:
            grad = _gradient(dy, shape, flat, self.batch_first)
            dx: Array | None = self._core.backward(x, grad, input_gradient, stamp)
            return None if dx is None else _without_row(dx, flat, self.batch_first)

        return y, backward

    def step(self, input: ArrayLike, state: ConvState | None = None) -> tuple[Array, ConvState]:
        """One step of a causal convolution: input (N, in_channels) or (in_channels,), y likewise, bit-identical to that
        of ``forward``.

        ``state`` holds the last dilation·(k-1) inputs; None starts with zeros. It is changed in place and returned;
        ``state.bytes`` is its size. Raises ``ValueError`` for a state of another shape of layer or batch.
        """
        if self.padding != "causal":
            raise ValueError(f"step needs padding='causal', this layer has {self.padding!r} and would look ahead")
        if self.stride > 1:
            raise ValueError(
                f"step gives one output for each input, and this layer has stride {self.stride}: call it on sequences"
            )
        x, flat = _step_input(input, self.in_channels)
        ring = ConvState(self, len(x)) if state is None else _checked_state(state, ConvState)
        y: Array = self._core.step(ring._window(self, x))
        return y[0] if flat else y, ring


class SelfAttention(Layer):
    r"""Self-attention, where every step attends to every step: ``torch.nn.MultiheadAttention(x, x, x)``.

    .. math:: y = \mathrm{concat}_h\bigl(\mathrm{softmax}(Q_h K_h^T / \sqrt{D / heads})\, V_h\bigr) W_o^T + b_o, \quad
        Q, K, V = x W_{in}^T + b_{in}

    x and y are (T, N, embed_dim), or (N, T, embed_dim) with ``batch_first``. Weights have torch's names and shapes:
    ``in_proj_weight`` (3·D, D), ``in_proj_bias``, ``out_proj.weight`` (D, D), ``out_proj.bias``.

    Parameters
    ----------
    embed_dim, num_heads : D and the number of heads, which must divide it
    causal : a step attends to itself and to earlier steps only
    bias, batch_first, seed : as in torch

    The softmax is exact, computed in blocks with a running maximum. The scores are never stored, so memory is O(T·D); the
    cost is T²·D.

    Source: A. Vaswani et al., arXiv:1706.03762; in blocks: T. Dao et al., arXiv:2205.14135.

    >>> attention = SelfAttention(8, 2, causal=True, seed=0)
    >>> attention(np.zeros((5, 3, 8))).shape
    (5, 3, 8)
    """

    embed_dim, num_heads = Option[int](), Option[int]()
    causal, bias, batch_first = Option[bool](), Option[bool](), Option[bool]()

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 1,
        *,
        causal: bool = False,
        bias: bool = True,
        batch_first: bool = False,
        seed: int | None = None,
    ) -> None:
        self._made_with = {
            "embed_dim": positive(embed_dim, "embed_dim"),
            "num_heads": positive(num_heads, "num_heads"),
            "causal": bool(causal),
            "bias": bool(bias),
            "batch_first": bool(batch_first),
        }
        self._seed = new_seed(seed)
        self._core = _core.SelfAttention(
            self.embed_dim, self.num_heads, self.causal, self.bias, self.batch_first, self._seed
        )

    def __repr__(self) -> str:
        return f"SelfAttention({self.embed_dim}, {self.num_heads}, causal={self.causal})"

    def __call__(self, input: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
        """y; nothing is saved. Parameters are those of :meth:`forward`."""
        _, y, _, flat = self._run(input, lengths, save=False)
        return _without_row(y, flat, self.batch_first)

    def forward(self, input: ArrayLike, *, lengths: ArrayLike | None = None) -> tuple[Array, Backward]:
        """y, and ``backward(dy, *, input_gradient=True) -> dx``, which adds to ``grads``. Once.

        x is (T, N, embed_dim), (N, T, embed_dim) with ``batch_first``, or (T, embed_dim). It may change in between; if the
        weights did, ``backward`` raises ``ValueError``. ``lengths`` (N,) are the steps of each row, 0 to T; steps beyond
        are not attended to, and their outputs and gradients are zero. None: all T.
        """
        x, y, tape, flat = self._run(input, lengths, save=True)
        y = _without_row(y, flat, self.batch_first)
        shape = y.shape

        def backward(dy: ArrayLike, *, input_gradient: bool = True) -> Array | None:
            grad = _gradient(dy, shape, flat, self.batch_first)
            dx: Array | None = self._core.backward(tape, x, grad, input_gradient)
            return None if dx is None else _without_row(dx, flat, self.batch_first)

        return y, backward

    def _run(self, input: ArrayLike, lengths: ArrayLike | None, *, save: bool) -> tuple[Array, Array, Any, bool]:
        x, flat = _sequence(input, self.embed_dim, "embed_dim", self.batch_first, kept=save)
        if lengths is not None and flat:
            raise ValueError("lengths are for rows, and the input is a single row (T, embed_dim): cut it instead")
        rows, steps = x.shape[:2] if self.batch_first else x.shape[1::-1]
        counts = None if lengths is None else row_lengths(lengths, rows, steps)
        y, tape = self._core.forward(x, counts, save)
        return x, y, tape, flat

    def step(self, input: ArrayLike, state: _core.AttentionCache | None = None) -> tuple[Array, _core.AttentionCache]:
        """One step of a causal layer: input and y (N, embed_dim), bit-identical to that step of ``forward``.

        ``state`` holds the keys and values of all steps so far, so it grows by 2·D floats per row and step, as does the
        cost; None starts without any. It is extended in place and returned; ``state.bytes`` is its size. Raises
        ``ValueError`` for a state of another shape of layer or batch, and ``RuntimeError`` for one that another thread uses.
        """
        if not self.causal:
            raise ValueError("step needs causal=True: the outputs of this layer depend on later steps")
        cache = _core.AttentionCache() if state is None else _checked_state(state, _core.AttentionCache)
        x, flat = _step_input(input, self.embed_dim)
        y: Array = self._core.step(x, cache)
        return y[0] if flat else y, cache
