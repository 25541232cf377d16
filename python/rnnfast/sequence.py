"""Layers that map a sequence to a sequence without recurrence: Conv1d and SelfAttention.

As in ``rnnfast.nn``, calling a layer saves nothing; ``forward`` returns a second value, ``backward``. ``step`` computes one
more step at a time, as a model that generates does.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import numpy as np
from numpy.typing import ArrayLike

from rnnfast import _core
from rnnfast._arrays import as_float32, as_int32, at_least, new_seed, positive
from rnnfast.nn import Array, Layer

Backward = Callable[..., Optional[Array]]


def _three_dimensions(input: ArrayLike, last: str, batch_first: bool) -> Array:
    x = as_float32(input, "input")
    if x.ndim != 3:
        wanted = f"(N, T, {last})" if batch_first else f"(T, N, {last})"
        raise ValueError(f"input has shape {x.shape}, expected three dimensions {wanted}")
    return x


def _checked_state(state: Any, kind: type) -> Any:
    if not isinstance(state, kind):
        raise TypeError(f"state is a {type(state).__name__}, expected what the step before returned, or None to begin")
    return state


class ConvState:
    """What :meth:`Conv1d.step` keeps between steps: the inputs that later steps still read. It fits one shape of layer."""

    def __init__(self, layer: Conv1d, rows: int) -> None:
        self._shape = (layer.kernel_size, layer.dilation, layer.in_channels, rows)
        self._ring = np.zeros((layer.dilation * (layer.kernel_size - 1), rows, layer.in_channels), np.float32)
        self._oldest = 0

    def __repr__(self) -> str:
        return "ConvState(kernel_size={}, dilation={}, in_channels={}, rows={})".format(*self._shape)

    @property
    def bytes(self) -> int:
        """The memory that the state takes."""
        return int(self._ring.nbytes)

    def _window(self, layer: Conv1d, x: Array) -> Array:
        """The inputs under the taps (kernel_size, N, in_channels) of the step that reads ``x``, which joins the state."""
        wanted = (layer.kernel_size, layer.dilation, layer.in_channels, len(x))
        if self._shape != wanted:
            names = "kernel_size {}, dilation {}, in_channels {} and {} rows"
            raise ValueError(
                f"the state is of {names.format(*self._shape)}, this step has {names.format(*wanted)}; "
                "give the state that this layer returned, or None to begin"
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
    r"""Convolution over time, as ``torch.nn.Conv1d`` with stride 1 and one group.

    .. math:: y_t = b + \sum_{j=0}^{k-1} W_{:,:,j}\, x_{t + j \cdot dilation - before}

    The layout is that of the recurrent layers, with the channels side by side: x (T, N, in_channels), or
    (N, T, in_channels) with ``batch_first``; torch's (N, C, L) is ``x.swapaxes(1, 2)`` of the latter. The weights have
    torch's names and shapes, ``weight`` (out_channels, in_channels, k) and ``bias`` (out_channels,), so a ``state_dict``
    fits both ways.

    Parameters
    ----------
    in_channels, out_channels, kernel_size : C, O and k
    padding : steps of zeros on both sides; ``"same"`` keeps the length (an odd rest goes to the end, as in torch);
        ``"causal"`` puts all zeros before the start, so that y_t sees nothing later than x_t
    dilation : steps from one tap to the next
    bias, batch_first, seed : as in the recurrent layers; weights start uniform in ±1/sqrt(C·k)

    Work is T·k·C·O multiplications, all steps at once; memory is that of input and output, no k-fold copy is made.

    >>> conv = Conv1d(3, 5, 3, padding="same", seed=0)
    >>> conv(np.zeros((7, 2, 3))).shape
    (7, 2, 5)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        padding: int | str = 0,
        dilation: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        seed: int | None = None,
    ) -> None:
        self.in_channels = positive(in_channels, "in_channels")
        self.out_channels = positive(out_channels, "out_channels")
        self.kernel_size = positive(kernel_size, "kernel_size")
        self.dilation, self.padding = positive(dilation, "dilation"), padding
        self.bias, self.batch_first = bool(bias), bool(batch_first)
        reach = self.dilation * (self.kernel_size - 1)
        if padding == "same":
            before, after = reach // 2, reach - reach // 2
        elif padding == "causal":
            before, after = reach, 0
        elif isinstance(padding, str):
            raise ValueError(f"padding is {padding!r}, expected a number of steps, 'same' or 'causal'")
        else:
            before = after = at_least(padding, 0, "padding")
        self._seed = new_seed(seed)
        self._core = _core.Conv1d(
            self.in_channels, self.out_channels, self.kernel_size, self.dilation, before, after, self.bias,
            self.batch_first, self._seed,
        )  # fmt: skip

    def __repr__(self) -> str:
        options = f", padding={self.padding!r}, dilation={self.dilation}"
        return f"Conv1d({self.in_channels}, {self.out_channels}, {self.kernel_size}{options})"

    def __call__(self, input: ArrayLike) -> Array:
        """y; nothing is saved."""
        y: Array = self._core.forward(_three_dimensions(input, str(self.in_channels), self.batch_first))
        return y

    def forward(self, input: ArrayLike) -> tuple[Array, Backward]:
        """y, and ``backward(dy, *, input_gradient=True) -> dx``, which adds to ``grads``."""
        x = _three_dimensions(input, str(self.in_channels), self.batch_first)
        y: Array = self._core.forward(x)

        def backward(dy: ArrayLike, *, input_gradient: bool = True) -> Array | None:
            dx: Array | None = self._core.backward(x, as_float32(dy, "gradient of the output"), input_gradient)
            return dx

        return y, backward

    def step(self, input: ArrayLike, state: ConvState | None = None) -> tuple[Array, ConvState]:
        """One more step of a causal convolution: input (N, in_channels), y (N, out_channels), equal to ``forward``'s.

        ``state`` holds the last dilation·(k-1) inputs, whatever has gone before; None starts anew. It is changed in
        place and returned; ``state.bytes`` is its size. A state of another shape of layer or batch is a ``ValueError``.
        """
        if self.padding != "causal":
            raise ValueError(f"step needs padding='causal', this layer has {self.padding!r}: it would look ahead")
        x = as_float32(input, "input")
        if x.ndim != 2 or x.shape[1] != self.in_channels:
            raise ValueError(f"a step's input has shape {x.shape}, expected (N, {self.in_channels})")
        ring = ConvState(self, len(x)) if state is None else _checked_state(state, ConvState)
        y: Array = self._core.step(ring._window(self, x))
        return y, ring


class SelfAttention(Layer):
    r"""Every step looks at every step: ``torch.nn.MultiheadAttention(x, x, x)``.

    .. math:: y = \mathrm{concat}_h\bigl(\mathrm{softmax}(Q_h K_h^T / \sqrt{D / heads})\, V_h\bigr) W_o^T + b_o, \quad
        Q, K, V = x W_{in}^T + b_{in}

    x and y are (T, N, embed_dim), or (N, T, embed_dim) with ``batch_first``. Weights have torch's names and shapes:
    ``in_proj_weight`` (3·D, D), ``in_proj_bias``, ``out_proj.weight`` (D, D), ``out_proj.bias``.

    Parameters
    ----------
    embed_dim, num_heads : D and the number of heads, which must divide it
    causal : a step sees itself and what came before
    bias, batch_first, seed : as in torch

    The softmax is exact, computed in blocks with a running maximum; the scores are never kept, so memory is O(T·D), while
    the work is T²·D.

    Source: A. Vaswani et al., arXiv:1706.03762; in blocks: T. Dao et al., arXiv:2205.14135.

    >>> attention = SelfAttention(8, 2, causal=True, seed=0)
    >>> attention(np.zeros((5, 3, 8))).shape
    (5, 3, 8)
    """

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
        self.embed_dim = positive(embed_dim, "embed_dim")
        self.num_heads = positive(num_heads, "num_heads")
        self.causal, self.bias, self.batch_first = bool(causal), bool(bias), bool(batch_first)
        self._seed = new_seed(seed)
        self._core = _core.SelfAttention(
            self.embed_dim, self.num_heads, self.causal, self.bias, self.batch_first, self._seed
        )

    def __repr__(self) -> str:
        return f"SelfAttention({self.embed_dim}, {self.num_heads}, causal={self.causal})"

    def __call__(self, input: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
        """y; nothing is saved. Parameters are those of :meth:`forward`."""
        return self._run(input, lengths, save=False)[1]

    def forward(self, input: ArrayLike, *, lengths: ArrayLike | None = None) -> tuple[Array, Backward]:
        """y, and ``backward(dy, *, input_gradient=True) -> dx``, which adds to ``grads``. Once.

        ``lengths`` (N,) are the steps of each row, 0 to T; what lies beyond is not seen, its output is zero and nothing is
        learnt from it. None: all T.
        """
        x, y, tape = self._run(input, lengths, save=True)

        def backward(dy: ArrayLike, *, input_gradient: bool = True) -> Array | None:
            grad = as_float32(dy, "gradient of the output")
            dx: Array | None = self._core.backward(tape, x, grad, input_gradient)
            return dx

        return y, backward

    def _run(self, input: ArrayLike, lengths: ArrayLike | None, *, save: bool) -> tuple[Array, Array, Any]:
        x = _three_dimensions(input, str(self.embed_dim), self.batch_first)
        counts = None if lengths is None else as_int32(lengths, "lengths").tolist()
        y, tape = self._core.forward(x, counts, save)
        return x, y, tape

    def step(self, input: ArrayLike, state: _core.AttentionCache | None = None) -> tuple[Array, _core.AttentionCache]:
        """One more step of a causal layer: input and y (N, embed_dim), the bits ``forward`` gives for that step.

        ``state`` keeps the keys and values of all steps so far, so it grows by 2·D floats a row and step, and so does the
        work; None starts anew. It is extended in place and returned; ``state.bytes`` is its size. A state of another
        shape of layer or batch is a ``ValueError``; one that another thread is stepping, a ``RuntimeError``.
        """
        if not self.causal:
            raise ValueError("step needs causal=True: this layer's outputs depend on steps that have not come yet")
        cache = _core.AttentionCache() if state is None else _checked_state(state, _core.AttentionCache)
        y: Array = self._core.step(as_float32(input, "input"), cache)
        return y, cache
