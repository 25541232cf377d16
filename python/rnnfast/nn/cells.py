"""Single time steps with PyTorch's names and weights: RNNCell, GRUCell, LSTMCell."""

from __future__ import annotations

import functools
from typing import Any, Callable

from numpy.typing import ArrayLike

from rnnfast import _core
from rnnfast._arrays import as_float32, new_seed, own, positive
from rnnfast.nn.layer import Array, Layer, Option, State, StateLike, one_state, parts_of, refuse_options
from rnnfast.nn.recurrent import LAYERS, TABLE, _Tape, cell_of, class_of, gru_of, lstm_of


class Cell(Layer):
    """The common part of one step of every cell."""

    _cell: str

    input_size, hidden_size, bias = Option[int](), Option[int](), Option[bool]()

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, seed: int | None = None, **unknown: Any
    ) -> None:
        refuse_options(type(self).__name__, ("bias", "seed"), unknown)
        self._made_with: dict[str, Any] = {
            "input_size": positive(input_size, "input_size"),
            "hidden_size": positive(hidden_size, "hidden_size"),
            "bias": bool(bias),
        }
        self._seed = new_seed(seed)
        self._core = _core.Recurrent(
            self._cell, self.input_size, self.hidden_size, bias=self.bias, seed=self._seed, single=True
        )

    def __repr__(self) -> str:
        relu = getattr(self, "nonlinearity", "tanh") == "relu"
        extra = ("" if self.bias else ", bias=False") + (", nonlinearity=relu" if relu else "")
        extra += "" if getattr(self, "reset_after", True) else ", reset_after=False"
        extra += ", peepholes=True" if getattr(self, "peepholes", False) else ""
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}{extra})"

    def __call__(self, input: ArrayLike, state: StateLike | None = None, *, hx: StateLike | None = None) -> State:
        """The next state: h, or (h, c) of an LSTM. Nothing is saved. Parameters are those of :meth:`forward`."""
        return self._run(input, one_state(state, hx), save=False)[0]

    def forward(
        self, input: ArrayLike, state: StateLike | None = None, *, hx: StateLike | None = None
    ) -> tuple[State, Callable[..., tuple[Array | None, State]]]:
        """The next state, and the function that back-propagates through this step.

        Parameters
        ----------
        input : (N, input_size), or (input_size,) for a single row
        state : h (N, hidden_size) or (hidden_size,); an LSTM's is the pair (h, c). None: zeros.
        hx : PyTorch's name of ``state``

        Returns
        -------
        state : the next one, of the same shape
        backward : ``backward(dstate, *, input_gradient=True) -> (dx, dstate_0)``; adds to ``grads``. Once. The
            input may change in between; if the weights did, it raises ``ValueError``.
        """
        after, tape, flat, rows = self._run(input, one_state(state, hx), save=True)

        def backward(dstate: StateLike | None, *, input_gradient: bool = True) -> tuple[Array | None, State]:
            given = self._split(dstate, flat, rows, "gradient of the state")
            dx, dstart = self._core.backward(tape.core, None, given, input_gradient)
            return None if dx is None else dx[0, 0] if flat else dx[0], self._join(dstart, flat)

        return after, backward

    def _run(self, input: ArrayLike, state: StateLike | None, *, save: bool) -> tuple[State, _Tape, bool, int]:
        x = as_float32(input, "input")
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(f"input has shape {x.shape}, expected (N, {self.input_size}) or ({self.input_size},)")
        flat, rows = x.ndim == 1, x.size // self.input_size
        x = (own(x, input) if save else x).reshape(1, -1, self.input_size)
        y, after, tape = self._core.forward(x, self._split(state, flat, rows, "state"), None, save, 0)
        return self._join(after, flat), _Tape(tape, x, y), flat, rows

    def _split(self, state: StateLike | None, flat: bool, rows: int, name: str) -> tuple[Array | None, Array | None]:
        parts = parts_of(state, self._core.has_c, name)
        h, c = (None if part is None else self._with_layer_axis(part, flat, rows, name) for part in parts)
        return h, c

    def _with_layer_axis(self, state: ArrayLike, flat: bool, rows: int, name: str) -> Array:
        array = as_float32(state, name)
        wanted = (self.hidden_size,) if flat else (rows, self.hidden_size)
        if array.shape != wanted:
            raise ValueError(f"{name} has shape {array.shape}, expected {wanted}")
        return array.reshape(1, -1, self.hidden_size)

    def _join(self, parts: tuple[Array, ...], flat: bool) -> State:
        h, *c = (part[0, 0] if flat else part[0] for part in parts)
        return (h, c[0]) if c else h


class RNNCell(Cell):
    """One step of :class:`RNN`, as ``torch.nn.RNNCell``: h' = φ(W_ih x + b_ih + W_hh h + b_hh).

    Parameters: input_size, hidden_size, bias, seed as the layer's; ``nonlinearity`` ``"tanh"`` or ``"relu"``.
    Weights: weight_ih (H, D), weight_hh (H, H), bias_ih (H,), bias_hh (H,).

    >>> RNNCell(3, 5, seed=0)(np.zeros((2, 3))).shape
    (2, 5)
    """

    nonlinearity = Option[str]()

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: str = "tanh", **options: Any) -> None:
        self._cell = cell_of(nonlinearity)
        super().__init__(input_size, hidden_size, **options)
        self._made_with["nonlinearity"] = nonlinearity


class GRUCell(Cell):
    """One step of :class:`GRU`, as ``torch.nn.GRUCell``; weights of 3·H rows in the order r z n.

    >>> GRUCell(3, 5, seed=0)(np.zeros(3)).shape
    (5,)
    """

    reset_after = Option[bool]()

    def __init__(self, input_size: int, hidden_size: int, *, reset_after: bool = True, **options: Any) -> None:
        self._cell = gru_of(reset_after)
        super().__init__(input_size, hidden_size, **options)
        self._made_with["reset_after"] = bool(reset_after)


class LSTMCell(Cell):
    """One step of :class:`LSTM`, as ``torch.nn.LSTMCell``; weights of 4·H rows in the order i f g o.

    >>> h, c = LSTMCell(3, 5, seed=0)(np.zeros((2, 3)))
    >>> (h, c), backward = LSTMCell(3, 5, seed=0).forward(np.zeros((2, 3)), (h, c))
    >>> dx, (dh, dc) = backward((np.ones_like(h), None))
    >>> dx.shape, dc.shape
    ((2, 3), (2, 5))
    """

    peepholes = Option[bool]()

    def __init__(self, input_size: int, hidden_size: int, *, peepholes: bool = False, **options: Any) -> None:
        self._cell = lstm_of(peepholes)
        super().__init__(input_size, hidden_size, **options)
        self._made_with["peepholes"] = bool(peepholes)


_WRITTEN: dict[str, Callable[..., Cell]] = {
    "rnn": RNNCell,
    "rnn_relu": functools.partial(RNNCell, nonlinearity="relu"),
    "lstm": LSTMCell,
    "lstm_peephole": functools.partial(LSTMCell, peepholes=True),
    "gru": GRUCell,
    "gru_reset_before": functools.partial(GRUCell, reset_after=False),
}
CELLS = {
    name: _WRITTEN.get(name) or class_of(cell, Cell, f"{LAYERS[name].__name__}Cell") for name, cell in TABLE.items()
}
"""Single-step classes by the name of the cell: ``CELLS["gru"](input_size, hidden_size)``."""
