"""The base of all layers: options that are fixed at construction, weights, gradients and PyTorch's ``state_dict``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, Generic, NoReturn, Optional, TypeVar, Union, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import html
from rnnfast._arrays import as_float32, load_parameters, own
from rnnfast._expect import brief, kind_of
from rnnfast.pickling import reduced

Array = NDArray[np.float32]
State = Union[Array, "tuple[Array, Array]"]
StateLike = Union[
    ArrayLike,
    "tuple[Optional[ArrayLike], Optional[ArrayLike]]",
    "tuple[Optional[ArrayLike], Optional[ArrayLike], Optional[ArrayLike]]",
]
_T = TypeVar("_T")
_Self = TypeVar("_Self", bound="Layer")


class Option(Generic[_T]):
    """A read-only attribute: an option that the layer was made with.

    The compiled layer was built with it, so a later value would have no effect.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Option[_T]: ...
    @overload
    def __get__(self, layer: Any, owner: type) -> _T: ...
    def __get__(self, layer: Any, owner: type) -> Option[_T] | _T:
        if layer is None:
            return self
        try:
            value: _T = layer._made_with[self._name]
        except (AttributeError, KeyError):
            raise AttributeError(f"{self._name} of this {owner.__name__} has not been set") from None
        return value

    def __set__(self, layer: Any, value: Any) -> NoReturn:
        kind = type(layer).__name__
        raise AttributeError(
            f"{self._name} is fixed when a {kind} is made: make a new {kind} with {self._name}={value!r}"
        )


class Gradients(Mapping[str, Array]):
    """Gradients by name. The arrays are live: ``backward`` adds to them; assigning to a name copies into its array."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        own, given = self._arrays[name], as_float32(value, f"the gradient of {name}")
        if given.shape != own.shape:
            raise ValueError(f"the gradient of {name} has shape {given.shape}, expected {own.shape}")
        own[...] = given

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Gradients({self._arrays!r})"


class Weights(Mapping[str, Array]):
    """Read-only views of the weights by name; ``load_state_dict`` and optimizers change them."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __setitem__(self, name: str, value: Any) -> NoReturn:
        raise TypeError(f"parameters() is read-only: use load_state_dict({{{name!r}: value}}, strict=False)")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Weights({self._arrays!r})"


class Layer:
    """The base of all layers: weights, gradients and PyTorch's ``state_dict``."""

    _core: Any
    _made_with: dict[str, Any]
    _seed: int

    def _options(self) -> dict[str, Any]:
        """The arguments that make a layer like this one."""
        return {**self._made_with, "seed": self._seed}

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self)

    def state_dict(self) -> dict[str, Array]:
        """A copy of the weights by PyTorch's names; converted to tensors, ``torch.nn``'s ``load_state_dict`` accepts it."""
        return {name: np.array(value) for name, value in self._core.parameters().items()}

    def load_state_dict(self, state_dict: Mapping[str, ArrayLike], *, strict: bool = True) -> None:
        """Copies weights in; the ``state_dict()`` of the PyTorch module is accepted as it is.

        Raises ``ValueError`` for a missing or unexpected name (unless ``strict=False``) or a wrong shape; then no weight
        has been changed.
        """
        load_parameters(self._core, state_dict, strict=strict)

    @property
    def grads(self) -> Gradients:
        """Gradients by name, live: ``backward`` adds to them, ``zero_grad`` clears them, assignment copies into them."""
        return Gradients(self._core.gradients())

    def parameters(self) -> Weights:
        """Read-only views of the weights by name; optimizers and ``load_state_dict`` change them."""
        return Weights(self._core.parameters())

    def zero_grad(self) -> None:
        """Sets every gradient to zero."""
        self._core.zero_grad()

    def requires_grad_(self: _Self, requires_grad: bool = True, *names: str) -> _Self:
        """Freezes parameters with ``False``, unfreezes them with ``True``; returns the layer.

        Optimizers do not change frozen parameters, and gradient norms and clipping ignore them; ``backward`` still adds to
        their gradients. ``names`` are parameters, or prefixes of their names: ``"embedding"`` is
        ``"embedding.weight"``. Without ``names``: all.

        >>> from rnnfast.nn.linear import Linear
        >>> Linear(2, 3).requires_grad_(False, "bias").frozen
        ('bias',)
        """
        own, chosen = list(self._core.parameters()), set(self._core.frozen())
        for name in names or own:
            found = [n for n in own if n == name or n.startswith(f"{name}.")]
            if not found:
                raise ValueError(f"there is no parameter {brief(name)}: expected some of {', '.join(own)}")
            chosen = chosen - set(found) if requires_grad else chosen | set(found)
        self._core.set_frozen(sorted(chosen))
        return self

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of the parameters that :meth:`requires_grad_` has frozen."""
        return tuple(self._core.frozen())

    def _repr_html_(self) -> str:
        return html.of_parameters(repr(self), self.parameters())


class RowLayer(Layer):
    """A layer that maps each row independently: x (..., inputs), y (..., outputs). One step of a stream is a call."""

    _inputs: str  # the names of the options with these sizes
    _outputs: str

    def __call__(self, input: ArrayLike) -> Array:
        """y; nothing is saved."""
        return self._rows(self._checked(input))

    def forward(self, input: ArrayLike) -> tuple[Array, Callable[[ArrayLike], Array]]:
        """y, and ``backward(dy) -> dx``, which adds to ``grads``. The input may change in between; if the weights did,
        ``backward`` raises ``ValueError``."""
        x = own(self._checked(input), input)
        stamp = self._core.weights_stamp
        y = self._rows(x)
        shape = y.shape

        def backward(dy: ArrayLike) -> Array:
            grad = as_float32(dy, "gradient of the output")
            if grad.shape != shape:
                raise ValueError(f"gradient of the output has shape {grad.shape}, expected {shape}")
            rows, drows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, shape[-1])
            dx: Array = self._core.backward(rows, drows, stamp).reshape(x.shape)
            return dx

        return y, backward

    def _checked(self, input: ArrayLike) -> Array:
        x = as_float32(input, "input")
        inputs: int = getattr(self, self._inputs)
        if x.ndim == 0 or x.shape[-1] != inputs:
            raise ValueError(f"input has shape {x.shape}, expected (..., {inputs}) ({self._inputs})")
        return x

    def _rows(self, x: Array) -> Array:
        y: Array = self._core.forward(x.reshape(-1, x.shape[-1]))
        return y.reshape(*x.shape[:-1], getattr(self, self._outputs))


def one_state(state: StateLike | None, hx: StateLike | None) -> StateLike | None:
    """The state given as ``state``, or by PyTorch's name ``hx``."""
    if state is not None and hx is not None:
        raise TypeError("state and hx are two names of one argument, expected one of them")
    return hx if state is None else state


def parts_of(state: Any, has_c: bool, name: str = "state") -> tuple[Any, Any]:
    """h and c of a state as users give it: the pair (h, c) of a cell that has both, else h; None for zeros."""
    if state is None or not has_c:
        return state, None
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        raise TypeError(f"{name} of an LSTM is the pair (h, c), got {type(state).__name__}")
    h, c = state
    return h, c


def named_parts(state: Any, wanted: Sequence[str], name: str) -> tuple[Any, ...]:
    """The parts of a state as users give it."""
    if state is None or len(wanted) == 1:
        return (state,)
    if "x" not in wanted:
        return parts_of(state, True, name)
    if not isinstance(state, (tuple, list)) or len(state) != len(wanted):
        raise TypeError(f"{name} is ({', '.join(wanted)}), got {kind_of(state)}")
    return tuple(state)


def joined(parts: Sequence[Array]) -> Any:
    """A state as users see it: h, or the tuple of its parts."""
    return parts[0] if len(parts) == 1 else tuple(parts)


def dropout_key(seed: int, step: int) -> int:
    """What the dropout masks of a training step depend on."""
    return ((seed << 32) + step) & (2**64 - 1)


def refuse_options(kind: str, known: Iterable[str], unknown: Mapping[str, Any]) -> None:
    """Raises a ``TypeError`` that lists the known options."""
    if unknown:
        more = (
            "; projections are not supported: rf.from_torch reads a trained one as an LSTM and a Linear for each layer"
            if "proj_size" in unknown
            else ""
        )
        raise TypeError(f"{kind} has no option {', '.join(map(repr, unknown))}, expected {', '.join(known)}{more}")
