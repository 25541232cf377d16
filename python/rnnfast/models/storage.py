"""What a model file holds: weights, rounded or not, configuration and vocabularies."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._expect import brief
from rnnfast.files import PathLike, replacing
from rnnfast.nn.layer import Array
from rnnfast.text.vocab import Vocab

FORMAT, FORMAT_VERSION = "rnnfast", "1"
SCALE = ".scale"  # ends the name of the tensor with an int8 matrix's scales
WEIGHTS = ("f32", "bf16", "int8")
VERSION_OF_ROUNDED = "2"  # of a file whose matrices are stored rounded


def rounded(parameters: Mapping[str, Array], weights: str, exact: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """Parameters as a file stores them: every matrix of bf16 as uint16, or of int8 beside ``NAME.scale``, one a row.

    Those named in ``exact`` stay as they are.
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
    """The float32 numbers of what :func:`rounded` made: exact, so rounding them again changes nothing."""
    values = dict(stored)
    for name, value in stored.items():
        if value.dtype == np.int8 and name + SCALE in stored:
            scale = values.pop(name + SCALE)
            if scale.dtype != np.float32 or value.ndim != 2 or scale.shape != value.shape[:1]:
                raise ValueError(f"{name}{SCALE} has shape {scale.shape}, expected {value.shape[:1]}: one for each row")
            values[name] = value.astype(np.float32) * scale[:, None]
    return values


def write_model(
    model: Any,
    path: PathLike,
    vocabularies: Mapping[str, Vocab | None],
    *,
    tensors: Mapping[str, Array] | None = None,
    metadata: Mapping[str, str] | None = None,
    weights: str = "f32",
) -> None:
    """``model``'s weights, configuration and vocabularies (by their names in the file) as one safetensors file."""
    stored = rounded(model.parameters(), weights, model.exact)
    config = {**model.config, **({} if weights == "f32" else {"weights": weights})}
    own = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION if weights == "f32" else VERSION_OF_ROUNDED,
        "kind": model.kind,
        "config": json.dumps(config),
    }
    for name, vocab in vocabularies.items():
        if vocab is not None:
            own[name] = json.dumps(vocab.description(), ensure_ascii=False)
    write_tensors(path, {**stored, **(tensors or {})}, {**own, **(metadata or {})})


def write_tensors(path: PathLike, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """A safetensors file that takes the place of what is at ``path`` when it is whole."""
    with replacing(path) as file:
        _core.write_safetensors_to(file.fileno(), os.fsdecode(path), dict(tensors), dict(metadata))
