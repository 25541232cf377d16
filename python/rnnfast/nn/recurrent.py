"""Recurrent layers, those of PyTorch with its names, shapes and weights.

Calling a layer computes its output and saves nothing. ``forward`` returns a third value, ``backward``: a function
that takes the output's gradient, adds to ``grads`` and returns the input's.
"""

from __future__ import annotations

import functools
import sys
import warnings
from typing import Any, Callable, Optional, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from rnnfast import _core
from rnnfast._arrays import (
    as_float32,
    dropout_share,
    new_seed,
    own,
    positive,
    precision,
    row_lengths,
)
from rnnfast._expect import brief, kind_of
from rnnfast.nn.layer import Array, Layer, Option, State, StateLike, dropout_key, one_state, parts_of, refuse_options

Backward = Callable[..., "tuple[Optional[Array], State]"]


class Recurrent(Layer):
    """The common part of the layers of all cells."""

    _cell: str
    _window = 1

    input_size, hidden_size, num_layers = Option[int](), Option[int](), Option[int]()
    bias, bidirectional, variational = Option[bool](), Option[bool](), Option[bool]()
    dropout, weights, recompute = Option[float](), Option[str](), Option[Optional[str]]()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        variational: bool = False,
        weights: str = "f32",
        recompute: str | None = None,
        seed: int | None = None,
        **unknown: Any,
    ) -> None:
        self._made_with: dict[str, Any] = {
            "input_size": positive(input_size, "input_size"),
            "hidden_size": positive(hidden_size, "hidden_size"),
            "num_layers": positive(num_layers, "num_layers"),
            "bias": bool(bias),
            "dropout": dropout_share(dropout),
            "bidirectional": bool(bidirectional),
            "variational": bool(variational),
            "weights": precision(weights),
            "recompute": recompute,
        }
        known = (*(n for n in self._made_with if not n.endswith(("_size", "_layers"))), "batch_first", "seed")
        refuse_options(type(self).__name__, known, unknown)
        if recompute not in (None, "sqrt"):
            raise ValueError(f"recompute is {brief(recompute)}, expected None or 'sqrt'")
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                f"dropout acts between layers and num_layers is 1, so dropout={self.dropout} has no effect",
                UserWarning,
                stacklevel=3 if "__init__" in vars(type(self)) else 2,
            )
        self.batch_first = bool(batch_first)  # the one option that may change: it takes effect at the next call
        self._seed = new_seed(seed)
        self._steps = 0
        self._core = _core.Recurrent(
            self._cell, self.input_size, self.hidden_size, self.num_layers, self.bias, self.bidirectional,
            self.dropout, self._seed, self.weights, recompute == "sqrt", False, self.variational, self._window,
        )  # fmt: skip

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "batch_first": self.batch_first}

    def __repr__(self) -> str:
        extra = "".join(
            f", {name}={value}"
            for name, value, default in (
                ("num_layers", self.num_layers, 1),
                ("nonlinearity", getattr(self, "nonlinearity", "tanh"), "tanh"),
                ("reset_after", getattr(self, "reset_after", True), True),
                ("peepholes", getattr(self, "peepholes", False), False),
                ("bias", self.bias, True),
                ("batch_first", self.batch_first, False),
                ("dropout", self.dropout, 0.0),
                ("bidirectional", self.bidirectional, False),
                ("variational", self.variational, False),
                ("weights", self.weights, "f32"),
                ("recompute", self.recompute, None),
                ("window", self._window, 1),
            )
            if value != default
        )
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}{extra})"

    def __call__(
        self,
        input: ArrayLike,
        state: StateLike | None = None,
        *,
        hx: StateLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[Array, State]:
        """Output and last state; nothing is saved for backward, no dropout.

        Parameters are those of :meth:`forward`.
        """
        y, final, *_ = self._run(input, one_state(state, hx), lengths, save=False)
        return y, final

    def forward(
        self,
        input: ArrayLike,
        state: StateLike | None = None,
        *,
        hx: StateLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[Array, State, Backward]:
        """Output, last state and the function that back-propagates through time.

        Parameters
        ----------
        input : (T, N, input_size), or (N, T, input_size) with ``batch_first``; (T, input_size) for a single row
        state : initial state (num_layers * directions, N, hidden_size), without N for a single row; an LSTM's is the pair
            (h, c). None: zeros.
        hx : PyTorch's name of ``state``
        lengths : (N,) steps of each row, 0 to T; beyond them outputs and gradients are zero; a row of length 0
            keeps its initial state. None: all T.

        Returns
        -------
        y : (T, N, directions * hidden_size), read-only because backward needs it (writable with ``recompute``)
        state : the state after each row's last step
        backward : ``backward(dy, dstate=None, *, input_gradient=True) -> (dx, dstate_0)``; adds to ``grads``. Once. The input
            may change in between; if the weights did, it raises ``ValueError``.
        """
        y, final, tape, layout = self._run(input, one_state(state, hx), lengths, save=True)
        y.flags.writeable = self._made_with["recompute"] is not None

        def backward(
            dy: ArrayLike | None = None, dstate: StateLike | None = None, *, input_gradient: bool = True
        ) -> tuple[Array | None, State]:
            grad = None if dy is None else self._checked(as_float32(dy, "gradient of the output"), layout, y.shape)
            given = self._split(dstate, "gradient of the state", layout)
            dx, dstart = self._core.backward(tape.core, grad, given, input_gradient)
            return None if dx is None else layout.given(dx), self._join(dstart, layout)

        return y, final, backward

    def stream(self, rows: int = 1) -> _core.Stream:
        """A function of one time step that keeps the state, for input that arrives step by step: ``y = step(x)``.

        x is (rows, input_size), or (input_size,) for one row; y likewise with hidden_size. The results are bit-identical to
        those of calling the layer on the whole sequence. ``step(x, out=y)`` writes into ``y``; ``step.state`` reads and sets
        the state in PyTorch's form, ``step.reset()`` sets it to zero. The step itself makes no allocation, lock or system
        call, so it takes microseconds; without ``out``, NumPy allocates the new array. A change of the weights takes effect
        at the next step. A stream belongs to one thread at a time and computes on it; make one for each.

        Raises ``ValueError`` for a bidirectional layer: its second half needs the end of the sequence.

        >>> layer = GRU(3, 5, seed=0)
        >>> step, x = layer.stream(), np.ones((4, 1, 3), np.float32)
        >>> y = [step(row) for row in x]
        >>> np.array_equal(y, layer(x)[0]), step.state.shape
        (True, (1, 1, 5))
        """
        return _core.Stream(self._core, positive(rows, "rows"), as_float32)

    def _run(
        self, input: ArrayLike, state: StateLike | None, lengths: ArrayLike | None, *, save: bool
    ) -> tuple[Array, State, _Tape, _Layout]:
        made_with = self._made_with  # read once: each option by its attribute costs a tenth of the smallest call
        given = as_float32(input, "input")
        layout = _Layout.of(given, made_with["input_size"], self.batch_first)
        x = layout.time_first(given)
        if save:
            x = own(x, given if x is not given else input)
        start = self._split(state, "state", layout)
        if lengths is not None and layout.flat:
            raise ValueError("lengths are for rows, and the input is a single row (T, input_size): cut it instead")
        counts = None if lengths is None else row_lengths(lengths, layout.rows, layout.steps)
        self._steps += save
        y, end, core_tape = self._core.forward(x, start, counts, save, dropout_key(self._seed, self._steps))
        kept = (x,) if made_with["recompute"] else (x, y)
        return layout.given(y), self._join(end, layout), _Tape(core_tape, *kept), layout

    def _checked(self, grad: Array, layout: _Layout, shape: tuple[int, ...]) -> Array:
        if grad.shape != shape:
            raise ValueError(f"gradient of the output has shape {grad.shape}, expected {shape}")
        return layout.time_first(grad)

    def _split(self, state: StateLike | None, name: str, layout: _Layout) -> tuple[Array | None, ...]:
        if state is None:
            return None, None
        has_c: bool = self._core.has_c
        h, c = (
            None if part is None else self._part(part, f"{letter} of the {name}" if has_c else name, layout)
            for part, letter in zip(parts_of(state, has_c, name), "hc")
        )
        return h, c

    def _part(self, state: ArrayLike, name: str, layout: _Layout) -> Array:
        array, scans = as_float32(state, name), self.num_layers * (1 + self.bidirectional)
        wanted = (scans, self.hidden_size) if layout.flat else (scans, layout.rows, self.hidden_size)
        if array.shape != wanted:
            what = "" if layout.flat else ", whatever batch_first" if self.batch_first else ""
            raise ValueError(f"{name} has shape {array.shape}, expected {wanted}{what}")
        return array[:, None] if layout.flat else array

    def _join(self, parts: tuple[Array, ...], layout: _Layout) -> State:
        if layout.flat:
            parts = tuple(part[:, 0] for part in parts)
        return parts[0] if len(parts) == 1 else (parts[0], parts[1])


class _Layout:
    """The layout of an input: (T, N, D), (N, T, D) or, flat, (T, D); the compiled layers read (T, N, D)."""

    def __init__(self, steps: int, rows: int, flat: bool, batch_first: bool) -> None:
        self.steps, self.rows, self.flat, self.batch_first = steps, rows, flat, batch_first

    @classmethod
    def of(cls, input: Array, features: int, batch_first: bool) -> _Layout:
        shape = input.shape
        if len(shape) not in (2, 3) or shape[-1] != features:
            raise _wrong_shape(shape, features, batch_first)
        flat = len(shape) == 2
        steps, rows = (shape[0], 1) if flat else shape[1::-1] if batch_first else shape[:2]
        if steps == 0:
            raise _wrong_shape(shape, features, batch_first)
        return cls(steps, rows, flat, batch_first and not flat)

    def time_first(self, array: Array) -> Array:
        if self.flat:
            return array[:, None]
        return np.ascontiguousarray(array.swapaxes(0, 1)) if self.batch_first else array

    def given(self, array: Array) -> Array:
        """The inverse of ``time_first``."""
        if self.flat:
            return array[:, 0]
        return np.ascontiguousarray(array.swapaxes(0, 1)) if self.batch_first else array


def _wrong_shape(shape: tuple[int, ...], features: int, batch_first: bool) -> ValueError:
    batched = f"(N, T, {features})" if batch_first else f"(T, N, {features})"
    wanted = f"{batched} or, of a single row, (T, {features})"
    if len(shape) not in (2, 3):
        return ValueError(f"input has shape {shape}, expected three dimensions {wanted}")
    if shape[-1] == features:
        return ValueError(f"input has shape {shape}, expected {wanted} with at least one step")
    return ValueError(
        f"input has {shape[-1]} features, expected {features} (input_size): its shape is {shape}, expected {wanted}"
    )


class _Tape:
    """Keeps the arrays alive that the compiled tape points into."""

    def __init__(self, core: Any, *arrays: Array) -> None:
        self.core, self.arrays = core, arrays


def lstm_of(peepholes: bool) -> str:
    """The cell of an LSTM."""
    return "lstm_peephole" if peepholes else "lstm"


def gru_of(reset_after: bool) -> str:
    """The cell of a GRU."""
    return "gru" if reset_after else "gru_reset_before"


def cell_of(nonlinearity: str) -> str:
    """The name of the Elman cell with this nonlinearity."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity is {brief(nonlinearity)}, expected 'tanh' or 'relu'")
    return "rnn" if nonlinearity == "tanh" else "rnn_relu"


class RNN(Recurrent):
    r"""Elman's recurrent layer, as ``torch.nn.RNN``.

    .. math:: H_t = \phi(X_t W_{ih}^T + b_{ih} + H_{t-1} W_{hh}^T + b_{hh})

    Parameters
    ----------
    input_size, hidden_size, num_layers : D, H and the number of stacked layers
    nonlinearity : ``"tanh"`` or ``"relu"``
    bias, batch_first, dropout, bidirectional : as in PyTorch; ``dropout`` acts between layers, in ``forward`` only
    variational : the same dropout masks at every step (Gal and Ghahramani, arXiv:1512.05287)
    weights : precision of products: ``"f32"``, or ``"bf16"`` for products, forward and backward, of numbers rounded to
        bfloat16 (relative error 2⁻⁹) whose sums are float32; parameters, states and gradients stay float32
    recompute : None, or ``"sqrt"`` for long sequences: ``forward`` keeps the state of every √T-th step instead of
        (G + 1) H numbers per row and step, and ``backward`` computes the rest again, which costs one more forward pass.
        Between stacked layers the output of every step is still kept. Gradients are summed in another order than with None,
        so their last bits differ; they are the same for any number of threads. After T. Chen et al., arXiv:1604.06174
    seed : of the initial weights, uniform in ±1/sqrt(H), and of dropout; None takes one from NumPy

    Source: J. L. Elman, Finding structure in time, Cognitive Science 14 (1990).

    >>> rnn = RNN(3, 5, seed=0)
    >>> y, h = rnn(np.zeros((7, 2, 3)))
    >>> y.shape, h.shape
    ((7, 2, 5), (1, 2, 5))
    """

    nonlinearity = Option[str]()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        **options: Any,
    ) -> None:
        self._cell = cell_of(nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, **options)
        self._made_with["nonlinearity"] = nonlinearity


class GRU(Recurrent):
    r"""Gated recurrent unit, as ``torch.nn.GRU``; options as :class:`RNN`'s.

    .. math::
        r, z = \sigma(\ldots), \quad n = \tanh(W_{in} x + b_{in} + r (W_{hn} h + b_{hn})), \quad h' = (1 - z) n + z h

    ``reset_after=False``: the reset gate acts before the product, :math:`n = \tanh(W_{in} x + b_{in} + W_{hn} (r h) + b_{hn})`, as in
    the paper, in Keras with ``reset_after=False`` and in ONNX by default (``linear_before_reset=0``). Each step then has two products,
    one after the other, which cost a third more than the one.

    Source: K. Cho et al., arXiv:1406.1078; with ``reset_after``, in cuDNN's form.

    >>> GRU(3, 5, seed=0)(np.zeros((7, 2, 3)))[0].shape
    (7, 2, 5)
    """

    reset_after = Option[bool]()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reset_after: bool = True,
        **options: Any,
    ) -> None:
        self._cell = gru_of(reset_after)
        super().__init__(input_size, hidden_size, num_layers, **options)
        self._made_with["reset_after"] = bool(reset_after)


class LSTM(Recurrent):
    r"""Long short-term memory, as ``torch.nn.LSTM``; the state is the pair (h, c), options as :class:`RNN`'s.

    .. math:: i, f, o = \sigma(\ldots), \quad g = \tanh(\ldots), \quad c' = f c + i g, \quad h' = o \tanh(c')

    ``peepholes=True``: the gates also read c, unit by unit: i and f add :math:`p_i c` and :math:`p_f c`, and o adds
    :math:`p_o c'`, as in ONNX. The parameter weight_c has the 3·H numbers p_i p_f p_o. PyTorch has no such layer.

    Source: S. Hochreiter and J. Schmidhuber, Neural Computation 9 (1997), with the forget gate of Gers et al. (2000); peepholes:
    F. Gers et al., Journal of Machine Learning Research 3 (2002).

    >>> y, (h, c) = LSTM(3, 5, seed=0)(np.zeros((7, 2, 3)))
    >>> c.shape
    (1, 2, 5)
    >>> LSTM(3, 5, peepholes=True).state_dict()["weight_c_l0"].shape
    (15,)
    """

    peepholes = Option[bool]()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        peepholes: bool = False,
        **options: Any,
    ) -> None:
        self._cell = lstm_of(peepholes)
        super().__init__(input_size, hidden_size, num_layers, **options)
        self._made_with["peepholes"] = bool(peepholes)


class MinGRU(Recurrent):
    r"""Minimal GRU: no step waits for a product with the state, so all steps share one product; options as :class:`RNN`'s.

    .. math::
        z = \sigma(W_z x + b_z), \quad n = g(W_n x + b_n), \quad h' = (1 - z) h + z n, \quad
        g(v) = v + 1/2 \text{ for } v \ge 0, \text{ else } \sigma(v)

    weight_ih has 2·H rows in the order n z; there is no weight_hh. New parameters are uniform in ±1/sqrt(inputs).

    Source: L. Feng et al., Were RNNs all we needed?, arXiv:2410.01201, in the form whose states stay positive.

    >>> MinGRU(3, 5, seed=0)(np.zeros((7, 2, 3)))[0].shape
    (7, 2, 5)
    """

    _cell = "mingru"


class MinLSTM(Recurrent):
    r"""Minimal LSTM, a :class:`MinGRU` with two gates that share their sum; options as :class:`RNN`'s.

    .. math:: f, i = \sigma(\ldots), \quad n = g(W_n x + b_n), \quad h' = (f h + i n) / (f + i)

    weight_ih has 3·H rows in the order n f i; there is no weight_hh. The state is h alone.

    Source: L. Feng et al., arXiv:2410.01201, with normalized gates.

    >>> MinLSTM(3, 5, seed=0)(np.zeros((7, 2, 3)))[1].shape
    (1, 2, 5)
    """

    _cell = "minlstm"


class SRU(Recurrent):
    r"""Simple recurrent unit; the state is the pair (h, c), of which steps read c alone. Options as :class:`RNN`'s.

    .. math::
        u = W x + b, \quad f = \sigma(u_f + v_f c), \quad r = \sigma(u_r + v_r c), \quad
        c' = f c + (1 - f) u_u, \quad h' = r c' + (1 - r) x'

    weight_ih has 3·H rows in the order u f r, and weight_c the 2·H numbers v_f v_r; there is no weight_hh. The highway x' is
    1.1272 x if the layer reads H numbers a step; otherwise weight_ih has H more rows, which make x'. New weights are uniform
    with variance 1/inputs for u, half of that for f and r, and 1.27/inputs for x'; the bias of r starts at -2, all others
    at 0.

    Source: T. Lei et al., Simple recurrent units for highly parallelizable recurrence, arXiv:1709.02755, with
    ``highway_bias=-2`` and ``rescale=True`` of the authors' program, which has no biases of u and x'.

    >>> layer = SRU(5, 5, 2, seed=0)
    >>> y, (h, c) = layer(np.zeros((7, 2, 5)))
    >>> c.shape, layer.state_dict()["weight_c_l0"].shape
    ((2, 2, 5), (10,))
    """

    _cell = "sru"


class QRNN(Recurrent):
    r"""Quasi-recurrent network; the state is the pair (h, c). Options as :class:`RNN`'s, and ``window``.

    .. math:: z = \tanh(\ldots), \quad f, o = \sigma(\ldots), \quad c' = f c + (1 - f) z, \quad h' = o c'

    Steps read c alone. weight_ih has 3·H rows in the order z f o; there is no weight_hh.

    Parameters
    ----------
    window : the steps of input that a gate reads. 1: x_t. 2: x_t and x_{t-1}, side by side, so that weight_ih has twice as many
        columns, in this order. Then the state is (h, c, x), and x (N, input_size) is the input of the last step, which the
        next one reads; x of the layers above is their h. A bidirectional layer keeps the pair (h, c): its windows begin with
        zeros in both directions. For longer windows, put a causal :class:`Conv1d` before the layer.

    Source: J. Bradbury et al., Quasi-recurrent neural networks, arXiv:1611.01576, with fo-pooling.

    >>> y, (h, c) = QRNN(3, 5, seed=0)(np.zeros((7, 2, 3)))
    >>> c.shape
    (1, 2, 5)
    >>> y, (h, c, x) = QRNN(3, 5, window=2, seed=0)(np.zeros((7, 2, 3)))
    >>> x.shape
    (2, 3)
    """

    _cell = "qrnn"

    window = Option[int]()

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, window: int = 1, **options: Any
    ) -> None:
        if window not in (1, 2):
            raise ValueError(
                f"window is {brief(window)}, expected 1 or 2; for more steps, put a causal Conv1d before the layer"
            )
        self._window = int(window)
        super().__init__(input_size, hidden_size, num_layers, **options)
        self._made_with["window"] = self._window

    def _split(self, state: Any, name: str, layout: _Layout) -> tuple[Array | None, ...]:
        if state is None or self.window == 1 or self.bidirectional:
            return super()._split(state, name, layout)
        if not isinstance(state, (tuple, list)) or len(state) != 3:
            raise TypeError(f"{name} of a QRNN with a window of 2 is (h, c, x), got {kind_of(state)}")
        *pair, x = state
        if x is not None:
            x = as_float32(x, f"x of the {name}")
            wanted = (self.input_size,) if layout.flat else (layout.rows, self.input_size)
            if x.shape != wanted:
                raise ValueError(f"x of the {name} has shape {x.shape}, expected {wanted}")
            x = x.reshape(layout.rows, self.input_size)
        return (*super()._split(tuple(pair), name, layout), x)

    def _join(self, parts: tuple[Array, ...], layout: _Layout) -> Any:
        if len(parts) < 3:
            return super()._join(parts, layout)
        return (*super()._join(parts[:2], layout), parts[2][0] if layout.flat else parts[2])


Kind = TypeVar("Kind", bound=Layer)


def class_of(cell: _core.CellInfo, base: type[Kind], name: str) -> type[Kind]:
    """The class of a cell that has no handwritten one, such as ``MGU`` and ``MGUCell`` of the row ``mgu``."""
    one_step = name.endswith("Cell")
    given, first = ("(2, 3)", "[0]" if cell.has_c else "") if one_step else ("(5, 2, 3)", "[0]")
    example = f"rf.{name}(3, 4, seed=0)(np.zeros({given})){first}.shape\n    {given.replace('3', '4')}"
    doc = f"""A {cell.description}; options as :class:`RNN{"Cell" if one_step else ""}`'s.

    The weights have {cell.gates}·H rows in the order {cell.gate_order}.

    >>> import rnnfast as rf
    >>> {example}
    """
    made = type(name, (base,), {"_cell": cell.name, "__doc__": doc, "__module__": base.__module__})
    setattr(sys.modules[base.__module__], made.__name__, made)
    return made


TABLE = {cell.name: cell for cell in _core.cells()}
"""The registered cells by name, from the compiled table."""

_WRITTEN: dict[str, Callable[..., Recurrent]] = {
    "rnn": RNN,
    "rnn_relu": functools.partial(RNN, nonlinearity="relu"),
    "lstm": LSTM,
    "lstm_peephole": functools.partial(LSTM, peepholes=True),
    "gru": GRU,
    "gru_reset_before": functools.partial(GRU, reset_after=False),
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "sru": SRU,
    "qrnn": QRNN,
}
LAYERS = {name: _WRITTEN.get(name) or class_of(cell, Recurrent, name.upper()) for name, cell in TABLE.items()}
"""Layer classes by the name of the cell: ``LAYERS["gru"](input_size, hidden_size)``."""
