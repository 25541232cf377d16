"""Array-likes in, C-contiguous float32 or int32 NumPy arrays out; copied only where dtype or layout require it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast._expect import brief, choice, kind_of

_FLOAT32, _INT32 = np.dtype(np.float32), np.dtype(np.int32)


def _as_array(value: Any, name: str) -> NDArray[Any]:
    if getattr(value, "requires_grad", False):
        value = value.detach()  # a torch parameter: its values are wanted, not its graph
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{name} has masked entries, which have no value: fill them, or leave out their rows")
    try:
        array = _numpy(value)
    except (ValueError, TypeError, RuntimeError, BufferError) as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from None
    if array.dtype.kind == "V" and array.dtype.name.startswith(("bfloat16", "float8")):  # of ml_dtypes, as JAX has
        return array.astype(np.float32)
    return array


def _numpy(value: Any) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # a type that NumPy does not have
        value = value.float()
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def own(array: NDArray[Any], given: Any) -> NDArray[Any]:
    """``array``, made from ``given``, or a copy of it if the caller could still write to its memory.

    Backward reads the array later, and must see the values that forward saw.
    """
    fresh = array.base is None and array is not given and isinstance(given, (np.ndarray, list, tuple))
    return array if fresh else array.copy()


def as_float32(value: Any, name: str) -> NDArray[np.float32]:
    """``value`` as float32; integers, bools and floats of other widths are converted, other types are refused.

    >>> as_float32([[1, 2]], "x").dtype.name
    'float32'
    """
    if type(value) is np.ndarray and value.dtype == _FLOAT32 and value.ndim and value.flags.c_contiguous:
        return value  # what the steps below would return, in a tenth of their time
    array = _as_array(value, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {array.dtype}, expected numbers (float32)")
    return np.ascontiguousarray(array, dtype=np.float32) if array.ndim else array.astype(np.float32)


def as_int32(value: Any, name: str) -> NDArray[np.int32]:
    """``value`` as int32; floats are refused, since a token id with a fraction is a mistake."""
    if type(value) is np.ndarray and value.dtype == _INT32 and value.ndim and value.flags.c_contiguous:
        return value  # as in as_float32: most of the time that a step of a stream spends in Python
    array = _integers(value, name)
    if array.size and (array.max() > np.iinfo(np.int32).max or array.min() < np.iinfo(np.int32).min):
        wrong = array.max() if array.max() > np.iinfo(np.int32).max else array.min()
        raise IndexError(
            f"{name} holds {wrong}, which does not fit in int32"
        )  # checked first: the conversion truncates
    return np.ascontiguousarray(array, dtype=np.int32)


def as_ids(
    value: Any, name: str, vocab_size: int | None = None, *, least: int = 0, ndim: int | None = None
) -> NDArray[Any]:
    """``value`` as an array of token ids, keeping its integer type.

    Each id must be an integer from ``least`` to ``vocab_size - 1``, or an int32 if the vocabulary is not known. ``least`` is negative
    where a negative id has a documented meaning. Convert the result, never the value: conversions truncate silently.

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
    if array.dtype.kind in "iu" or (array.dtype == object and array.size and all(map(_is_integer, array.flat))):
        return array
    raise TypeError(f"{name} has dtype {array.dtype}, expected integers (int32)")


def _is_integer(value: Any) -> bool:
    # To NumPy a timedelta is an integer.
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def row_lengths(value: Any, rows: int, steps: int) -> list[int]:
    """``lengths`` of ``rows`` rows, each from 0 to ``steps``."""
    lengths = _integers(value, "lengths")
    if lengths.shape != (rows,):
        raise ValueError(f"lengths has shape {lengths.shape}, expected ({rows},): one per row")
    counts: list[int] = lengths.tolist()
    for n, count in enumerate(counts):
        if not 0 <= count <= steps:
            raise ValueError(f"lengths[{n}] is {count}: expected 0 to {steps} (the input's steps)")
    return counts


def positive(value: Any, name: str) -> int:
    """``value`` as an int from 1 to the largest size, 2**31 - 1."""
    if at_least(value, 1, name) > 2**31 - 1:
        raise ValueError(f"{name} is {value}, expected at most {2**31 - 1}")
    return int(value)


def at_least(value: Any, least: int, name: str) -> int:
    """``value`` as an int of at least ``least``; errors name the argument."""
    if _integer(value, name) < least:
        raise ValueError(f"{name} is {value}, expected at least {least}")
    return int(value)


def between(value: Any, least: int, most: int, name: str) -> int:
    """``value`` as an int from ``least`` to ``most``."""
    if not least <= _integer(value, name) <= most:
        raise ValueError(f"{name} is {value}, expected {least} to {most}")
    return int(value)


def _integer(value: Any, name: str) -> int:
    if not _is_integer(value):
        raise TypeError(f"{name} is {brief(value)}, expected an integer")
    return int(value)


def real(value: Any, name: str) -> float:
    """``value`` as a float; strings are refused, even of digits."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {brief(value)}, expected a number") from None


def new_seed(seed: int | None) -> int:
    """``seed``, or a seed drawn from NumPy's global generator, which ``np.random.seed`` controls."""
    if seed is None:
        return int(np.random.randint(0, 2**31))  # noqa: NPY002 np.random.seed seeds this generator
    return between(seed, 0, 2**64 - 1, "seed")


def dropout_share(value: Any, name: str = "dropout") -> float:
    """``value`` as a float in [0, 1)."""
    share = real(value, name)
    if not 0 <= share < 1:
        raise ValueError(f"{name} is {value}, expected at least 0 and less than 1")
    return share


def precision(weights: Any) -> str:
    """``weights`` if it is the name of a precision."""
    return choice(weights, ("f32", "bf16", "int8"), "weights")


def load_parameters(core: Any, state: Mapping[str, Any], *, strict: bool = True) -> None:
    """Copies ``state`` into ``core``'s parameters, all or none: names and shapes are checked before anything is written."""
    own = core.parameters()
    if isinstance(state, type) or not (hasattr(state, "keys") and hasattr(state, "__getitem__")):
        raise TypeError(f"state_dict is {kind_of(state)}, expected a mapping from names to arrays")
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    # PyTorch's BatchNorm1d counts its batches, which a fixed momentum does not need.
    unexpected = [name for name in unexpected if name.rpartition(".")[2] != "num_batches_tracked"]
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
