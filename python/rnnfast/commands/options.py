"""What the commands share: kinds of option values, and where text goes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

JSON_HELP = "print one JSON object last on stdout, human text on stderr"


def say(text: str, args: argparse.Namespace) -> None:
    """Human text: on stdout, or on stderr when stdout belongs to JSON."""
    print(text, file=sys.stderr if args.json else sys.stdout, flush=True)


def sidecar(model: Path, ending: str) -> Path:
    """The file beside ``model`` that ends in ``ending``."""
    return model.with_name((model.stem if model.suffix == ".safetensors" else model.name) + ending)


def whole(least: int) -> Any:
    """An option's type: a whole number of at least ``least``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        return value

    return parse


def real(low: float, high: float = float("inf"), *, open_low: bool = False) -> Any:
    """An option's type: a number from ``low``, itself excluded if ``open_low``, to below ``high``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not (low < value if open_low else low <= value) or not value < high:
            raise argparse.ArgumentTypeError(f"{text} is outside {low} to {high}")
        return value

    return parse
