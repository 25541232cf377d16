"""Gradients compared with finite differences."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import html
from rnnfast._expect import kind_of, offers

_FIVE_POINTS = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}  # f'(x) = sum of weight * f(x + point * h) / h + O(h⁴)


@dataclass(frozen=True)
class GradientCheck:
    """``errors``: for the input and each parameter, the largest difference relative to its largest gradient. True if all are
    below ``tolerance``.

    >>> import rnnfast as rf
    >>> found = rf.gradcheck(rf.Linear(3, 2, seed=0), np.ones((4, 3)))
    >>> bool(found), sorted(found.errors)
    (True, ['bias', 'input', 'weight'])
    """

    errors: Mapping[str, float]
    tolerance: float

    def __bool__(self) -> bool:
        return all(error <= self.tolerance for error in self.errors.values())

    def __str__(self) -> str:
        width = max(map(len, self.errors))
        wrong = {name for name, error in self.errors.items() if error > self.tolerance}
        return "\n".join(
            f"{name:{width}}  {error:.1e}{'  WRONG' if name in wrong else ''}" for name, error in self.errors.items()
        )

    def _repr_html_(self) -> str:
        return html.table(f"Relative errors, at most {self.tolerance:g}", ("gradient", "error"), [*self.errors.items()])


def gradcheck(
    layer: Any, x: ArrayLike, *, eps: float = 0.01, tolerance: float = 1e-3, samples: int = 16, seed: int = 0
) -> GradientCheck:
    """Compares what ``backward`` computes with finite differences of what the layer computes.

    The loss is a random linear function of all outputs, Σ r·y (of a recurrent layer also of its last state). Its derivative by
    a number w is (L(w - 2ε) - 8 L(w - ε) + 8 L(w + ε) - L(w + 2ε)) / 12ε, with an error of order ε⁴.

    Parameters
    ----------
    layer : a layer or a network of one input and one output. It works on a copy: weights and gradients stay as they are.
    x : the input, as the layer takes it; token ids have no gradient
    eps : ε; the layer computes in float32, so much smaller values measure rounding
    tolerance : the largest relative error that passes; a kink (ReLU) within 2ε of a value adds to the error
    samples : how many randomly chosen numbers of the input and of each parameter are moved

    Raises ``TypeError`` for what has no ``forward``, and ``ValueError`` if ``forward`` differs from calling the layer, as
    dropout makes it.

    >>> from rnnfast.nn import GRU
    >>> bool(gradcheck(GRU(3, 4, seed=0), np.ones((5, 2, 3))))
    True
    """
    offers(layer, "layer", "a layer or a network", "forward", "state_dict", "load_state_dict", "zero_grad")
    if not eps > 0:
        raise ValueError(f"eps is {eps}, expected more than 0")
    if samples < 1:
        raise ValueError(f"samples is {samples}, expected at least 1")
    layer, given, random = copy.deepcopy(layer), np.asarray(x), np.random.default_rng([seed, 31])
    ids = given.dtype.kind in "iu" and kind_of(layer).endswith("Embedding")
    values = given if ids else given.astype(np.float32)
    layer.zero_grad()
    *outputs, backward = layer.forward(values)
    directions = [random.normal(size=part.shape) for part in _parts(outputs)]
    if any(not np.array_equal(a, b) for a, b in zip(_parts(outputs), _parts(layer(values)))):
        raise ValueError("forward and a call give different outputs: check the layer with dropout=0")
    returned = backward(*_like(outputs, iter(directions)))
    grads = {} if ids else {"input": np.asarray(returned[0] if isinstance(returned, tuple) else returned)}
    grads.update((name, np.array(gradient)) for name, gradient in layer.grads.items())

    def change(name: str, at: int, by: float) -> tuple[float, float]:
        """By how much L changes when one number moves, and how far float32 let it move."""
        moved, before = (values.copy(), values) if name == "input" else (weights[name].copy(), weights[name])
        moved.flat[at] += np.float32(by)
        if name != "input":
            layer.load_state_dict({name: moved}, strict=False)
        y = layer(moved if name == "input" else values)
        if name != "input":
            layer.load_state_dict({name: before}, strict=False)
        total = sum(
            float(((part.astype(float) - old) * r).sum())
            for part, old, r in zip(_parts(y), _parts(outputs), directions)
        )
        return total, float(moved.flat[at]) - float(before.flat[at])

    weights = layer.state_dict()
    largest = max((float(np.abs(g).max(initial=0)) for g in grads.values()), default=0.0)
    errors = {
        name: _error(gradient, name, change, eps, random.permutation(gradient.size)[:samples], largest)
        for name, gradient in grads.items()
    }
    return GradientCheck(errors, tolerance)


def _error(
    gradient: NDArray[Any], name: str, change: Callable[..., Any], eps: float, chosen: Any, largest: float
) -> float:
    worst = 0.0
    for at in chosen:
        slope = 0.0
        for point, weight in _FIVE_POINTS.items():
            value, moved = change(name, int(at), point * eps)
            slope += weight * value * point / moved if moved else 0.0
        worst = max(worst, abs(slope - float(gradient.flat[at])))
    return worst / max(float(np.abs(gradient).max(initial=0)), 1e-3 * largest, 1e-30)


def _parts(outputs: Any) -> list[NDArray[Any]]:
    """The arrays in a nest of tuples and lists."""
    if isinstance(outputs, (tuple, list)):
        return [part for output in outputs for part in _parts(output)]
    return [np.asarray(outputs)]


def _like(outputs: Any, arrays: Iterator[Any]) -> Any:
    """``arrays`` in the nest of ``outputs``."""
    if isinstance(outputs, (tuple, list)):
        return tuple(_like(output, arrays) for output in outputs)
    return next(arrays)
