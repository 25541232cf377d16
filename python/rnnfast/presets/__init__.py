"""Settings of published models, one JSON file each: what ``rnnfast train --preset NAME`` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The presets there are.

    >>> names()
    ['d2l-rnn', 'mikolov', 'zaremba-medium', 'zaremba-small']
    """
    return sorted(file.stem for file in _FOLDER.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    """The settings of a preset by their names on the command line, ``_`` for ``-``.

    >>> load("zaremba-small")["hidden_size"]
    200
    """
    if name not in names():
        raise ValueError(f"unknown preset {name!r}: expected one of {', '.join(names())}")
    settings: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    del settings["about"]
    return settings
