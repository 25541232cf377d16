"""Layers with PyTorch's names, shapes and weights: RNN, GRU, LSTM, Linear, Embedding.

Calling a layer computes its output and saves nothing. ``forward`` returns a third value, ``backward``: a function
that takes the output's gradient, adds to ``grads`` and returns the input's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Optional, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import _core, html
from rnnfast._arrays import as_float32, as_int32, load_parameters, new_seed, positive
from rnnfast.pickling import options_of, reduced

Array = NDArray[np.float32]
State = Union[Array, "tuple[Array, Array]"]
Backward = Callable[..., "tuple[Optional[Array], State]"]


class Layer:
    """What every layer offers: its weights, their gradients, and PyTorch's ``state_dict``."""

    _core: Any

    def _options(self) -> dict[str, Any]:
        """The arguments that make a layer like this one."""
        return options_of(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self)

    def state_dict(self) -> dict[str, Array]:
        """A copy of the weights by PyTorch's names; ``torch.nn``'s ``load_state_dict`` takes it once made into tensors."""
        return {name: np.array(value) for name, value in self._core.parameters().items()}

    def load_state_dict(self, state_dict: Mapping[str, ArrayLike], *, strict: bool = True) -> None:
        """Copies weights in; ``torch_module.state_dict()`` fits as it is.

        Raises ``ValueError`` for a missing or unexpected name (unless ``strict=False``) or a wrong shape; then
        nothing has been changed.
        """
        load_parameters(self._core, state_dict, strict=strict)

    @property
    def grads(self) -> dict[str, Array]:
        """Gradients by name, live: ``backward`` adds to them, ``zero_grad`` clears them."""
        gradients: dict[str, Array] = self._core.gradients()
        return gradients

    def parameters(self) -> dict[str, Array]:
        """Read-only views of the weights by name; an optimiser or ``load_state_dict`` changes them."""
        parameters: dict[str, Array] = self._core.parameters()
        return parameters

    def zero_grad(self) -> None:
        """Sets every gradient to zero."""
        self._core.zero_grad()

    def requires_grad_(self, requires_grad: bool = True, *names: str) -> Any:
        """Freezes parameters with ``False``, frees them with ``True``; returns the layer.

        Optimizers leave frozen parameters as they are, and clipping and norms leave them out; ``backward`` still adds to
        their gradients. ``names`` are parameters, or what their names begin with: ``"embedding"`` is
        ``"embedding.weight"``. None given: all.

        >>> Linear(2, 3).requires_grad_(False, "bias").frozen
        ('bias',)
        """
        own, chosen = list(self._core.parameters()), set(self._core.frozen())
        for name in names or own:
            found = [n for n in own if n == name or n.startswith(f"{name}.")]
            if not found:
                raise ValueError(f"no parameter is called {name!r}: there are {', '.join(own)}")
            chosen = chosen - set(found) if requires_grad else chosen | set(found)
        self._core.set_frozen(sorted(chosen))
        return self

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of the parameters that :meth:`requires_grad_` has frozen."""
        return tuple(self._core.frozen())

    def _repr_html_(self) -> str:
        return html.of_parameters(repr(self), self.parameters())


class _Recurrent(Layer):
    _cell: str

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
    ) -> None:
        self.input_size = positive(input_size, "input_size")
        self.hidden_size = positive(hidden_size, "hidden_size")
        self.num_layers = positive(num_layers, "num_layers")
        self.bias, self.batch_first = bool(bias), bool(batch_first)
        self.dropout, self.bidirectional = float(dropout), bool(bidirectional)
        self.variational = bool(variational)
        self.weights, self.recompute = weights, recompute
        if recompute not in (None, "sqrt"):
            raise ValueError(f"recompute is {recompute!r}, expected None or 'sqrt'")
        self._seed = new_seed(seed)
        self._steps = 0
        self._core = _core.Recurrent(
            self._cell, self.input_size, self.hidden_size, self.num_layers, self.bias, self.bidirectional,
            self.dropout, self._seed, weights, recompute == "sqrt", False, self.variational,
        )  # fmt: skip

    def __repr__(self) -> str:
        extra = "".join(
            f", {name}={value}"
            for name, value, default in (
                ("num_layers", self.num_layers, 1),
                ("bias", self.bias, True),
                ("batch_first", self.batch_first, False),
                ("dropout", self.dropout, 0.0),
                ("bidirectional", self.bidirectional, False),
                ("variational", self.variational, False),
                ("weights", self.weights, "f32"),
                ("recompute", self.recompute, None),
            )
            if value != default
        )
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}{extra})"

    def __call__(self, input: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None) -> tuple[Array, State]:
        """Output and last state; nothing is saved for backward, no dropout.

        Parameters are those of :meth:`forward`.
        """
        y, final, _ = self._run(input, state, lengths, save=False)
        return y, final

    def forward(
        self, input: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None
    ) -> tuple[Array, State, Backward]:
        """Output, last state and the function that back-propagates through time.

        Parameters
        ----------
        input : (T, N, input_size), or (N, T, input_size) with ``batch_first``
        state : initial state (num_layers * directions, N, hidden_size); an LSTM's is the pair (h, c). None: zeros.
        lengths : (N,) steps of each row, 0 to T; beyond them outputs are zero and nothing is learnt; a row of length 0 keeps
            its initial state. None: all T.

        Returns
        -------
        y : (T, N, directions * hidden_size), read-only, since backward still needs it (not with ``recompute``)
        state : the state after each row's last step
        backward : ``backward(dy, dstate=None, *, input_gradient=True) -> (dx, dstate_0)``; adds to ``grads``. Once.
        """
        y, final, tape = self._run(input, state, lengths, save=True)
        y.flags.writeable = self.recompute is not None

        def backward(
            dy: ArrayLike | None = None, dstate: Any = None, *, input_gradient: bool = True
        ) -> tuple[Array | None, State]:
            grad = None if dy is None else self._time_first(as_float32(dy, "gradient of the output"))
            dh, dc = self._split(dstate, "gradient of the state")
            dx, dh0, dc0 = self._core.backward(tape.core, grad, dh, dc, input_gradient)
            return None if dx is None else self._time_first(dx), self._join(dh0, dc0)

        return y, final, backward

    def stream(self, rows: int = 1) -> _core.Stream:
        """A function of one time step that keeps the state, for input that arrives bit by bit: ``y = step(x)``.

        x is (rows, input_size), or (input_size,) for one row; y likewise with hidden_size. The results are those of
        calling the layer on the whole sequence, to the bit. ``step(x, out=y)`` writes into ``y``; ``step.state`` reads
        and sets the state in PyTorch's form, ``step.reset()`` makes it zero. No allocation, lock or system call
        happens in the step itself, so one takes microseconds; without ``out``, NumPy makes the new array. Changed weights count from the next step on. A
        stream belongs to one thread at a time and computes on it; make one for each.

        Raises ``ValueError`` for a bidirectional layer: its second half needs the end of the sequence.

        >>> layer = GRU(3, 5, seed=0)
        >>> step, x = layer.stream(), np.ones((4, 1, 3), np.float32)
        >>> y = [step(row) for row in x]
        >>> np.array_equal(y, layer(x)[0]), step.state.shape
        (True, (1, 1, 5))
        """
        return _core.Stream(self._core, positive(rows, "rows"))

    def _run(self, input: ArrayLike, state: Any, lengths: Any, *, save: bool) -> tuple[Array, State, _Tape]:
        x = as_float32(input, "input")
        if x.ndim != 3:
            raise ValueError(f"input has shape {x.shape}, expected three dimensions (T, N, input_size)")
        x = self._time_first(x)
        h0, c0 = self._split(state, "state")
        counts = None if lengths is None else as_int32(lengths, "lengths").tolist()
        self._steps += save
        key = (self._seed << 32) + self._steps
        y, h, c, core_tape = self._core.forward(x, h0, c0, counts, save, key & (2**64 - 1))
        kept = (x,) if self.recompute else (x, y)
        return self._time_first(y), self._join(h, c), _Tape(core_tape, *kept)

    def _time_first(self, array: Array) -> Array:
        return np.ascontiguousarray(array.swapaxes(0, 1)) if self.batch_first and array.ndim > 1 else array

    def _split(self, state: Any, name: str) -> tuple[Array | None, Array | None]:
        if state is None:
            return None, None
        if not self._core.has_c:
            return as_float32(state, name), None
        if not isinstance(state, (tuple, list)) or len(state) != 2:
            raise TypeError(f"{name} of an LSTM is the pair (h, c), got {type(state).__name__}")
        h, c = state
        return (None if h is None else as_float32(h, "h")), (None if c is None else as_float32(c, "c"))

    def _join(self, h: Array, c: Array | None) -> State:
        return h if c is None else (h, c)


class _Tape:
    """Keeps the arrays alive that the compiled tape points into."""

    def __init__(self, core: Any, *arrays: Array) -> None:
        self.core, self.arrays = core, arrays


class RNN(_Recurrent):
    r"""Elman's recurrent layer, as ``torch.nn.RNN``.

    .. math:: H_t = \phi(X_t W_{ih}^T + b_{ih} + H_{t-1} W_{hh}^T + b_{hh})

    Parameters
    ----------
    input_size, hidden_size, num_layers : D, H and the number of stacked layers
    nonlinearity : ``"tanh"`` or ``"relu"``
    bias, batch_first, dropout, bidirectional : as in PyTorch; ``dropout`` acts between layers, in ``forward`` only
    variational : the same dropout masks at every step (Gal and Ghahramani, arXiv:1512.05287)
    weights : ``"f32"``, or ``"bf16"`` for products, forward and backward, of numbers rounded to bfloat16 (relative error
        2⁻⁹) whose sums are float32; parameters, states and gradients stay float32
    recompute : None, or ``"sqrt"`` for long sequences: ``forward`` keeps the state of every √T-th step instead of
        (G + 1) H numbers a row and step, ``backward`` computes the rest again, for the time of one more forward. Between
        stacked layers each step's output is kept still. Gradients are summed in another order than with None, so
        their last bits differ; they are the same for any number of threads. After T. Chen et al., arXiv:1604.06174
    seed : of the initial weights, uniform in ±1/sqrt(H), and of dropout; None takes one from NumPy

    Source: J. L. Elman, Finding structure in time, Cognitive Science 14 (1990).

    >>> rnn = RNN(3, 5, seed=0)
    >>> y, h = rnn(np.zeros((7, 2, 3)))
    >>> y.shape, h.shape
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        **options: Any,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity is {nonlinearity!r}, expected 'tanh' or 'relu'")
        self.nonlinearity = nonlinearity
        self._cell = "rnn" if nonlinearity == "tanh" else "rnn_relu"
        super().__init__(input_size, hidden_size, num_layers, **options)


class GRU(_Recurrent):
    r"""Gated recurrent unit, as ``torch.nn.GRU``; options as :class:`RNN`'s.

    .. math::
        r, z = \sigma(\ldots), \quad n = \tanh(W_{in} x + b_{in} + r (W_{hn} h + b_{hn})), \quad h' = (1 - z) n + z h

    Source: K. Cho et al., arXiv:1406.1078, in cuDNN's form.

    >>> GRU(3, 5, seed=0)(np.zeros((7, 2, 3)))[0].shape
    (7, 2, 5)
    """

    _cell = "gru"


class LSTM(_Recurrent):
    r"""Long short-term memory, as ``torch.nn.LSTM``; the state is the pair (h, c), options as :class:`RNN`'s.

    .. math:: i, f, o = \sigma(\ldots), \quad g = \tanh(\ldots), \quad c' = f c + i g, \quad h' = o \tanh(c')

    Source: S. Hochreiter and J. Schmidhuber, Neural Computation 9 (1997), with the forget gate of Gers et al. (2000).

    >>> y, (h, c) = LSTM(3, 5, seed=0)(np.zeros((7, 2, 3)))
    >>> c.shape
    (1, 2, 5)
    """

    _cell = "lstm"


class Linear(Layer):
    """y = x Wᵀ + b, as ``torch.nn.Linear``: x (..., in_features), y (..., out_features).

    >>> Linear(3, 2, seed=0)(np.zeros((5, 3))).shape
    (5, 2)
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, seed: int | None = None) -> None:
        self.in_features = positive(in_features, "in_features")
        self.out_features = positive(out_features, "out_features")
        self.bias, self._seed = bool(bias), new_seed(seed)
        self._core = _core.Linear(self.in_features, self.out_features, self.bias, self._seed)

    def __call__(self, input: ArrayLike) -> Array:
        return self.forward(input)[0]

    def forward(self, input: ArrayLike) -> tuple[Array, Callable[[ArrayLike], Array]]:
        """y, and ``backward(dy) -> dx``, which adds to ``grads``."""
        x = as_float32(input, "input")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"input has shape {x.shape}, expected (..., {self.in_features}) (in_features)")
        rows = x.reshape(-1, self.in_features)
        y = self._core.forward(rows).reshape(*x.shape[:-1], self.out_features)

        def backward(dy: ArrayLike) -> Array:
            grad = as_float32(dy, "gradient of the output")
            if grad.shape != y.shape:
                raise ValueError(f"gradient of the output has shape {grad.shape}, expected {y.shape}")
            dx: Array = self._core.backward(rows, grad.reshape(-1, self.out_features)).reshape(x.shape)
            return dx

        return y, backward


class Embedding(Layer):
    """Rows of a table by token id, as ``torch.nn.Embedding``: ids (...), y (..., embedding_dim).

    >>> Embedding(10, 4, seed=0)([1, 2, 1]).shape
    (3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, seed: int | None = None) -> None:
        self.num_embeddings = positive(num_embeddings, "num_embeddings")
        self.embedding_dim = positive(embedding_dim, "embedding_dim")
        self._seed = new_seed(seed)
        self._core = _core.Embedding(self.num_embeddings, self.embedding_dim, self._seed)

    def __call__(self, ids: ArrayLike) -> Array:
        return self.forward(ids)[0]

    def forward(self, ids: ArrayLike) -> tuple[Array, Callable[[ArrayLike], None]]:
        """y, and ``backward(dy)``, which adds to ``grads``."""
        tokens = as_int32(ids, "ids")
        flat = tokens.reshape(-1)
        y: Array = self._core.forward(flat).reshape(*tokens.shape, self.embedding_dim)

        def backward(dy: ArrayLike) -> None:
            self._core.backward(flat, as_float32(dy, "gradient of the output").reshape(-1, self.embedding_dim))

        return y, backward
