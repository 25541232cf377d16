"""The axes of a foreign network's arrays: which of them are steps, which are rows, and which hold the numbers of one step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Union


class Unconvertible(ValueError):
    """What a foreign network has and rnnfast's networks do not, in one sentence, with what to do."""


@dataclass(frozen=True)
class Axis:
    """An axis of steps or of rows; ``size`` is its length where the foreign network fixes it."""

    role: Literal["steps", "rows"]
    size: int | None = None

    def __str__(self) -> str:
        return {"steps": "T", "rows": "N"}[self.role]


@dataclass(frozen=True)
class Merged:
    """Steps and rows in one axis, as after ``reshape(-1, width)``."""

    parts: tuple[Axis, ...]

    def __str__(self) -> str:
        return "".join(map(str, self.parts))


Dim = Union[Axis, Merged, int]  # an int is an axis of numbers, of that many; all of them together are a step's width
Dims = tuple[Dim, ...]


def width(dims: Dims) -> int:
    """How many numbers a step of one row has.

    >>> width((Axis("steps"), Axis("rows"), 2, 64))
    128
    """
    return math.prod(d for d in dims if isinstance(d, int))


def shown(dims: Dims) -> str:
    """As messages show it.

    >>> shown((Axis("steps"), Axis("rows"), 64))
    '(T, N, 64)'
    """
    return f"({', '.join(map(str, dims))}{',' if len(dims) == 1 else ''})"


def same(a: Dim, b: Dim) -> bool:
    """Whether two axes can be one: of equal role or of equal size."""
    if isinstance(a, Axis) and isinstance(b, Axis):
        return a.role == b.role
    return a == b


def place(dims: Dims, axis: int) -> int:
    """An axis counted from the first, where it may be counted from the last.

    >>> place((Axis("steps"), Axis("rows"), 64), -1)
    2
    """
    if not -len(dims) <= axis < len(dims):
        raise Unconvertible(f"axis {axis} of an array {shown(dims)} is read, which has {len(dims)} axes")
    return axis % len(dims)


def is_steps(dim: Dim) -> bool:
    """Whether an axis is that of steps."""
    return isinstance(dim, Axis) and dim.role == "steps"


# What the axes of an input may be, by their count and by whether it holds token ids: T steps, N rows, C numbers.
_ORDERS: dict[tuple[int, bool], tuple[str, ...]] = {
    (1, True): ("T",), (2, True): ("NT", "TN"), (2, False): ("TC",), (3, False): ("NTC", "TNC", "NCT"),
}  # fmt: skip


def arrangements(sizes: Sequence[int | str], ids: bool) -> Iterator[tuple[str, Dims]]:
    """What the axes of an input of these sizes may be, with the letters of that order; a name stands for an unknown size.

    >>> [shown(dims) for _, dims in arrangements(["batch", "time", 64], False)]
    ['(N, T, 64)', '(T, N, 64)']
    """
    for letters in _ORDERS.get((len(sizes), ids), ()):
        numbers = [size for size, letter in zip(sizes, letters) if letter == "C"]
        if all(isinstance(size, int) and size > 0 for size in numbers):
            yield letters, tuple(_dim(letter, size) for letter, size in zip(letters, sizes))


def _dim(letter: str, size: int | str) -> Dim:
    known = size if isinstance(size, int) else None
    if letter == "C":
        assert known is not None
        return known
    return Axis("steps" if letter == "T" else "rows", known)


def rows_first(inputs: Iterable[Dims]) -> bool:
    """Whether inputs have their rows before their steps; all must agree."""
    orders = {
        dims.index(rows) < dims.index(steps)
        for dims in inputs for rows in dims for steps in dims
        if isinstance(rows, Axis) and rows.role == "rows" and is_steps(steps)
    }  # fmt: skip
    if len(orders) > 1:
        raise Unconvertible("one input has its rows first and another its steps")
    return orders == {True}


def reshaped(dims: Dims, target: Sequence[Dim]) -> Dims:
    """The axes after a reshape; 0 copies the axis at that place, and -1 is what is left, as in ONNX.

    >>> shown(reshaped((Axis("steps"), Axis("rows"), 2, 64), (0, 0, -1)))
    '(T, N, 128)'
    >>> shown(reshaped((Axis("steps"), Axis("rows"), 64), (-1, 64)))
    '(TN, 64)'
    """
    wanted = [dims[i] if isinstance(d, int) and d == 0 else d for i, d in enumerate(target)]
    source: list[Dim] = [d for dim in dims if dim != 1 for d in (dim.parts if isinstance(dim, Merged) else (dim,))]
    rest = next((i for i, d in enumerate(wanted) if isinstance(d, int) and d == -1), len(wanted))
    before = [_take(source, dim, 0) for dim in wanted[:rest]]
    after = [_take(source, dim, -1) for dim in reversed(wanted[rest + 1 :])]
    if rest < len(wanted):
        before.append(_all_of(source))
        source = []
    if source:
        raise Unconvertible(f"a reshape from {shown(dims)} to {shown(tuple(target))} mixes steps, rows and numbers")
    return (*before, *reversed(after))


def _take(source: list[Dim], wanted: Dim, end: Literal[0, -1]) -> Dim:
    """Removes one wanted axis from an end of what a reshape has left."""
    if wanted == 1:
        return 1
    if isinstance(wanted, Merged):
        for part in wanted.parts if end == 0 else reversed(wanted.parts):
            _take(source, part, end)
        return wanted
    product, found = 1, False
    while source and not (found and product == wanted):
        dim = source[end]
        if isinstance(dim, Axis):
            if product == 1 and not found and (same(dim, wanted) or dim.size == wanted):
                return source.pop(end)
            break
        if not isinstance(wanted, int) or not isinstance(dim, int):
            break
        found = True
        if wanted % (product * dim) == 0:
            product *= dim
            source.pop(end)
        elif (product * dim) % wanted == 0:
            source[end] = product * dim // wanted
            product = wanted
        else:
            break
    if not found or product != wanted:
        raise Unconvertible(f"a reshape that wants {wanted} where {shown(tuple(source))} is left mixes axes")
    return wanted


def _all_of(source: list[Dim]) -> Dim:
    numbers, axes = [d for d in source if isinstance(d, int)], [d for d in source if isinstance(d, Axis)]
    if axes and numbers:
        raise Unconvertible(
            f"a reshape that puts {shown(tuple(source))} into one axis mixes steps or rows with numbers"
        )
    if not axes:
        return math.prod(numbers)
    return axes[0] if len(axes) == 1 else Merged(tuple(axes))
