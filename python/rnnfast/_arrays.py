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
    array = _as_array(value, name)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {array.dtype}, expected whole numbers (int32)")
    if array.size and (array.max() > np.iinfo(np.int32).max or array.min() < np.iinfo(np.int32).min):
        raise IndexError(f"{name} holds {array.max()}, which is no int32")
    return np.ascontiguousarray(array, dtype=np.int32)


def positive(value: Any, name: str) -> int:
    """``value`` as an int of at least 1."""
    return at_least(value, 1, name)


def at_least(value: Any, least: int, name: str) -> int:
    """``value`` as an int of at least ``least``; says which argument is wrong otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected a whole number")
    if value < least:
        raise ValueError(f"{name} is {value}, expected at least {least}")
    return int(value)


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
