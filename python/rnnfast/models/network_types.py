"""The types of what a network takes and returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Union

from numpy.typing import ArrayLike

from rnnfast._typing import DefaultTypeVar
from rnnfast.nn.layer import Array, State, StateLike

States = dict[str, State]  # by the name of the recurrent layer
Outputs = Union[Array, tuple[Array, ...]]  # of a network: the output, or the tuple of several
Gradients = Union[ArrayLike, Sequence[ArrayLike]]  # of the output, or of each of several
InputGradients = Union[Array, None, tuple[Union[Array, None], ...]]
Out = DefaultTypeVar("Out", covariant=True, default=Outputs)
Dx = DefaultTypeVar("Dx", covariant=True, default=InputGradients)


class Backward(Protocol):
    """Back-propagates through a ``Run``, once."""

    def __call__(
        self,
        gradients: Mapping[str, ArrayLike | None],
        dstate: Mapping[str, StateLike] | None = None,
        *,
        input_gradient: bool = True,
        of: Sequence[str] = (),
    ) -> tuple[dict[str, Array | None], States]:
        """Takes the gradients of outputs and of last states by name, adds to ``grads``, and returns the gradients of the inputs
        (None for ids) and of the first states by name; with those of the inputs, the gradients of the outputs of the layers that
        ``of`` names."""


class OutputBackward(Protocol[Dx]):
    """Back-propagates through :meth:`Network.forward`, once."""

    def __call__(self, dy: Gradients, *, input_gradient: bool = True) -> Dx:
        """Takes the gradient of the output, or of each of several, and adds to ``grads``. Returns the gradient of the input (None for
        ids or without ``input_gradient``), or the tuple of several."""
