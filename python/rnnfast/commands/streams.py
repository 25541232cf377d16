"""The standard streams: output is not lost, and a closed pipe ends only those commands that do nothing but print."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

READER_GONE = 141  # 128 + SIGPIPE, as a shell reports for `cat file | head`


class ReaderGone(Exception):
    """Standard output is closed."""


def prepare() -> None:
    """Makes the standard streams usable in any environment.

    A closed stream becomes the null device, so that no file that is opened later gets its descriptor and its text. Characters that
    the encoding of a stream lacks are written as ``\\xNN`` or ``\\uNNNN``.
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
    """Writes text to standard output immediately. Raises ``ReaderGone`` if it is closed."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        _silence(sys.stdout)
        raise ReaderGone from None
    except OSError as error:
        _silence(sys.stdout)
        raise OSError(f"standard output cannot be written: {error.strerror}") from None


def note(text: str) -> None:
    """Writes text to standard error; if that fails, the text is dropped and the command continues."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def write_json(value: Any) -> None:
    """Writes the line of :func:`to_json` to standard output."""
    utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") in ("utf8", "utf8sig")
    write(to_json(value, ensure_ascii=not utf8))


def to_json(value: Any, *, ensure_ascii: bool = False) -> str:
    """JSON in one line; infinity and NaN, which JSON does not have, become null."""
    return json.dumps(_finite(value), ensure_ascii=ensure_ascii, allow_nan=False)


def finish() -> bool:
    """Flushes the standard streams; False if standard output is closed."""
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
    """Redirects ``stream`` to the null device: otherwise Python would fail again when it flushes it at exit."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # not a file: a replacement of the process's own stream
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
