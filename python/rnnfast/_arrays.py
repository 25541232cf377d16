"""Array-likes in, float32 or int32 C-contiguous NumPy out; a copy only where dtype or layout force one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _as_array(value: Any, name: str) -> NDArray[Any]:
    if getattr(value, "requires_grad", False):
        value = value.detach()  # a torch parameter: its numbers are wanted, not its graph
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from None


def brief(value: Any) -> str:
    """``value`` as Python shows it, on one short line, for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def as_float32(value: Any, name: str) -> NDArray[np.float32]:
    """``value`` as float32; whole numbers and other float widths are converted, nothing else is.

    >>> as_float32([[1, 2]], "x").dtype.name
    'float32'
    """
    array = _as_array(value, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {array.dtype}, expected numbers (float32)")
    return np.ascontiguousarray(array, dtype=np.float32) if array.ndim else array.astype(np.float32)


def as_int32(value: Any, name: str) -> NDArray[np.int32]:
    """``value`` as int32; floats are refused, since a token id with a fraction is a mistake."""
    array = _integers(value, name)
    if array.size and (array.max() > np.iinfo(np.int32).max or array.min() < np.iinfo(np.int32).min):
        raise IndexError(f"{name} holds {array.max()}, which is no int32")  # before the conversion, which cuts off
    return np.ascontiguousarray(array, dtype=np.int32)


def as_ids(
    value: Any, name: str, vocab_size: int | None = None, *, least: int = 0, ndim: int | None = None
) -> NDArray[Any]:
    """``value`` as an array of token ids, in the integer type it has.

    Each id must be an integer from ``least`` to ``vocab_size - 1``, or an int32 if the vocabulary is not known. ``least`` is negative
    where a negative id has a documented meaning. Convert the result, never the value: conversions cut off silently.

    >>> as_ids([1, 2], "ids", 3).tolist()
    [1, 2]
    """
    array = _integers(value, name)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}, expected {ndim} dimension{'s' * (ndim > 1)} of token ids")
    most = np.iinfo(np.int32).max if vocab_size is None else vocab_size - 1
    if array.size:
        low, high = array.min(), array.max()
        if low < least or high > most:
            wrong = low if low < least else high
            whose = "int32" if vocab_size is None else "the vocabulary"
            raise IndexError(f"{name} holds token id {wrong}, expected {least} to {most} ({whose})")
    return array.astype(np.int32) if array.dtype == object else array


def _integers(value: Any, name: str) -> NDArray[Any]:
    array = _as_array(value, name)
    if array.size == 0 and isinstance(value, (list, tuple)):
        return array.astype(np.int32)  # NumPy makes floats of []
    # Integers too large for 64 bits are objects to NumPy.
    if array.dtype.kind in "iu" or (array.dtype == object and array.size and all(map(_is_whole, array.flat))):
        return array
    raise TypeError(f"{name} has dtype {array.dtype}, expected whole numbers (int32)")


def _is_whole(value: Any) -> bool:
    # NumPy takes a span of time for an integer.
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def positive(value: Any, name: str) -> int:
    """``value`` as an int of at least 1."""
    return at_least(value, 1, name)


def at_least(value: Any, least: int, name: str) -> int:
    """``value`` as an int of at least ``least``; says which argument is wrong otherwise."""
    if _whole(value, name) < least:
        raise ValueError(f"{name} is {value}, expected at least {least}")
    return int(value)


def between(value: Any, least: int, most: int, name: str) -> int:
    """``value`` as an int from ``least`` to ``most``."""
    if not least <= _whole(value, name) <= most:
        raise ValueError(f"{name} is {value}, expected {least} to {most}")
    return int(value)


def _whole(value: Any, name: str) -> int:
    if not _is_whole(value):
        raise TypeError(f"{name} is {brief(value)}, expected a whole number")
    return int(value)


def real(value: Any, name: str) -> float:
    """``value`` as a float; a text is refused, even that of a number."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {brief(value)}, expected a number") from None


def new_seed(seed: int | None) -> int:
    """``seed``, or one from NumPy's global generator, so that ``np.random.seed`` governs it."""
    if seed is None:
        return int(np.random.randint(0, 2**31))  # noqa: NPY002 the generator np.random.seed governs is the point
    return at_least(seed, 0, "seed")


def load_parameters(core: Any, state: Mapping[str, Any], *, strict: bool = True) -> None:
    """Copies ``state`` into ``core``'s parameters, all or nothing: names and shapes are checked before any is written."""
    own = core.parameters()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if strict and (missing or unexpected):
        raise ValueError(
            f"state_dict does not fit: missing {missing}, unexpected {unexpected}; strict=False ignores them"
        )
    arrays = {name: as_float32(state[name], name) for name in own if name in state}
    for name, array in arrays.items():
        if array.shape != own[name].shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {own[name].shape}")
    for name, array in arrays.items():
        core.set_parameter(name, array)
