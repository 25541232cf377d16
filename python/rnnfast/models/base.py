"""What making a model needs, whatever its kind."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnfast._expect import kind_of
from rnnfast.text.vocab import Vocab


def check_memory(numbers: int) -> None:
    """``MemoryError`` of one sentence if a model of about so many weights does not fit into this machine."""
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows; systems that do not tell
        installed = 1 << 46
    if 4 * numbers > installed:
        raise MemoryError(
            f"a model of {numbers:,} weights needs {4 * numbers / 1e9:,.1f} GB of memory, and {16 * numbers / 1e9:,.1f} GB to be "
            f"trained with Adam; this machine has {installed / 1e9:,.1f} GB: choose smaller sizes"
        )


def initialise(model: Any, scale: float, seed: int) -> None:
    """Makes every weight of ``model`` uniform in plus or minus ``scale``."""
    if not 0 < scale < float("inf"):
        raise ValueError(f"init_scale is {scale}, expected more than 0")
    random = np.random.default_rng(seed)
    model.load_state_dict({name: random.uniform(-scale, scale, w.shape) for name, w in model.parameters().items()})


def as_json(options: Mapping[str, Any]) -> str:
    """The configuration that a compiled model is made from.

    >>> as_json({"cell": b"gru"})
    Traceback (most recent call last):
    TypeError: cell is a bytes, expected a name
    """
    for name, value in options.items():
        if not isinstance(value, (str, int, float, list)):
            raise TypeError(f"{name} is {kind_of(value)}, expected a name")
    return json.dumps(options)


def options_with(config: Mapping[str, Any], vocabularies: Mapping[str, Vocab | None]) -> dict[str, Any]:
    """The arguments that make a model: ``config`` with its vocabularies, or their sizes, by the names of the arguments."""
    options = dict(config)
    for name, vocab in vocabularies.items():
        size = options.pop(f"{name}_size")
        options[name] = size if vocab is None else vocab
    return options
