"""The tensors of a model file: weights in float32, or quantized."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._expect import brief
from rnnfast.files import PathLike, replacing
from rnnfast.nn.layer import Array

FORMAT, FORMAT_VERSION = "rnnfast", "1"
SCALE = ".scale"  # ends the name of the tensor with an int8 matrix's scales
WEIGHTS = ("f32", "bf16", "int8")
VERSION_OF_ROUNDED = "2"  # of a file whose matrices are stored quantized
VERSION_OF_SPARSE = "3"  # of a file with matrices that are stored without their blocks of zeros
_STRIP = 16  # rows of a block


def rounded(parameters: Mapping[str, Array], weights: str, exact: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """Parameters as a file stores them: every matrix as bf16 (in uint16), or as int8 with ``NAME.scale``, one scale per row.

    Those named in ``exact`` stay float32.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {brief(weights)}, expected one of {', '.join(WEIGHTS)}")
    stored: dict[str, NDArray[Any]] = dict(parameters)
    for name, value in parameters.items():
        if value.ndim != 2 or name in exact:
            continue
        if weights == "bf16":
            stored[name] = _core.bf16_rows(value)
        elif weights == "int8":
            stored[name], stored[name + SCALE] = _core.int8_rows(value)
    return stored


def restored(stored: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """The float32 values of what :func:`rounded` returned; exact, so quantizing them again changes nothing."""
    values = dict(stored)
    for name, value in stored.items():
        if value.dtype == np.int8 and name + SCALE in stored:
            scale = values.pop(name + SCALE)
            if scale.dtype != np.float32 or value.ndim != 2 or scale.shape != value.shape[:1]:
                raise ValueError(f"{name}{SCALE} has shape {scale.shape}, expected {value.shape[:1]}: one for each row")
            values[name] = value.astype(np.float32) * scale[:, None]
    return values


def without_zeros(stored: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, list[int]]]:
    """The tensors of a file in which ``NAME.blocks`` and ``NAME.index`` replace matrices with many blocks of zeros, and the shapes
    of these matrices."""
    tensors, shapes = dict(stored), {}
    for name, value in stored.items():
        smaller = _blocks(value) if value.ndim == 2 and value.size and value.shape[0] % _STRIP == 0 else None
        if smaller is not None:
            del tensors[name]
            tensors[f"{name}.blocks"], tensors[f"{name}.index"] = smaller
            shapes[name] = list(value.shape)
    return tensors, shapes


def _blocks(matrix: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int8]] | None:
    """The blocks of a matrix that are not +0 and a bit for each block, with the block that takes the least bytes; None if that
    saves less than a tenth."""
    best, least = None, 0.9 * matrix.nbytes
    bits = np.ascontiguousarray(matrix).view(f"u{matrix.itemsize}")
    for inputs in (1, 2, 4, 8):
        if matrix.shape[1] % inputs:
            continue
        split = bits.reshape(-1, _STRIP, matrix.shape[1] // inputs, inputs).transpose(0, 2, 1, 3)
        full = split.any(axis=(2, 3))
        index = np.packbits(full, axis=1, bitorder="little").view(np.int8)
        size = int(full.sum()) * _STRIP * inputs * matrix.itemsize + index.size
        if size < least:
            best, least = (split[full].view(matrix.dtype), index), size
    return best


def write_tensors(path: PathLike, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file, which replaces what is at ``path`` once it is complete."""
    with replacing(path) as file:
        _core.write_safetensors_to(file.fileno(), os.fsdecode(path), dict(tensors), dict(metadata))
