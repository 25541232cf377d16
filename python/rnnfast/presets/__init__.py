"""Settings of published models for ``rnnfast train --preset NAME``; each is a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Returns the names of the presets.

    >>> names()
    ['d2l-rnn', 'hour-ptb', 'hour-wikitext2', 'mikolov', 'ten-minutes-shakespeare', 'zaremba-medium', 'zaremba-small']
    """
    return sorted(file.stem for file in _FOLDER.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    """Returns the settings of a preset, by the names of the command-line options with ``_`` for ``-``.

    >>> load("zaremba-small")["hidden_size"]
    200
    """
    if name not in names():
        raise ValueError(f"unknown preset {name!r}: expected one of {', '.join(names())}")
    settings: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    del settings["about"]
    return settings
