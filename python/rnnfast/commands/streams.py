"""The standard streams: what is printed is not lost, and a reader that has gone ends only the commands that do nothing but print."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

READER_GONE = 141  # 128 + SIGPIPE, what a shell reports of `cat file | head`


class ReaderGone(Exception):
    """Nobody reads standard output any more."""


def prepare() -> None:
    """Makes the standard streams usable, whatever the program was started with.

    A closed stream becomes the null device, so that no file opened later gets its number and the text meant for it. Characters
    that a stream's encoding lacks are written as ``\\xNN`` or ``\\uNNNN``.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, this one
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 for good
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write(text: str, end: str = "\n") -> None:
    """Text on standard output, at once. ``ReaderGone`` when nobody reads it."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        _silence(sys.stdout)
        raise ReaderGone from None
    except OSError as error:
        _silence(sys.stdout)
        raise OSError(f"standard output cannot be written: {error.strerror}") from None


def note(text: str) -> None:
    """Text on standard error; where that cannot be written the text is dropped and the work continues."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def write_json(value: Any) -> None:
    """One line of JSON on standard output, as :func:`to_json` makes it."""
    utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") in ("utf8", "utf8sig")
    write(to_json(value, ensure_ascii=not utf8))


def to_json(value: Any, *, ensure_ascii: bool = False) -> str:
    """JSON of one line; numbers that JSON does not have, infinity and NaN, are null."""
    return json.dumps(_finite(value), ensure_ascii=ensure_ascii, allow_nan=False)


def finish() -> bool:
    """Writes what is still in the buffers; False if nobody reads standard output."""
    read = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _silence(stream)
            read = read and stream is not sys.stdout
    return read


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(part) for part in value]
    return value


def _silence(stream: Any) -> None:
    """Sends what ``stream`` still gets to the null device: a second attempt would fail too, at the latest when Python ends."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # not a file: a stream that was put in the place of the process's own
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
