"""Open streams, and the saved states of idle ones."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from .limits import Limits, Refused
from .metrics import Metrics
from .replica import Replica

NAME = re.compile(r"[\w-]{16}")


@dataclass
class Stream:
    """A text that the model reads or writes. It stays with the model that began it."""

    name: str
    replica: Replica
    row: int
    brief: bool  # closes with its only request
    last: int | None = None  # generated, and not read yet
    busy: bool = False  # has a request
    used: float = 0.0


class Streams:
    def __init__(self, limits: Limits, metrics: Metrics, folder: Path | None) -> None:
        """``folder`` keeps the states of idle streams; without it they are lost."""
        self._limits, self._metrics, self._folder = limits, metrics, folder
        self._open: OrderedDict[str, Stream] = OrderedDict()  # the least recently used one first
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self._open)

    def open(self, replica: Replica, *, brief: bool = False, saved: bytes = b"", name: str = "") -> Stream:
        if len(self._open) >= self._limits.streams:
            raise Refused(503, f"{len(self._open)} streams are open", retry_after=1)
        stream = Stream(name or secrets.token_urlsafe(12), replica, replica.open_row(), brief)
        try:
            stream.last = replica.restore(stream.row, saved) if saved else None
        except ValueError as error:
            replica.close_row(stream.row)
            raise Refused(409, str(error)) from None
        self._open[stream.name] = stream
        stream.used = time.monotonic()
        return stream

    def find(self, name: str, replica: Replica) -> Stream:
        """The open stream of this name that has no request, or a saved one, opened again."""
        stream = self._open.get(name)
        if stream is None:
            path = self._path(name)
            if path is None or not path.exists():
                raise Refused(404, "no such stream; it may have been closed, or idle for too long")
            stream = self.open(replica, saved=path.read_bytes(), name=name)
            path.unlink()
        if stream.busy:
            raise Refused(409, "the stream has another request")
        return stream

    def close(self, stream: Stream) -> None:
        del self._open[stream.name]
        stream.replica.close_row(stream.row)

    def release(self, stream: Stream) -> None:
        """The stream was used now, and has no request any more."""
        stream.used = time.monotonic()
        self._open.move_to_end(stream.name)
        if stream.brief:
            self.close(stream)

    def close_idle(self) -> None:
        limit = time.monotonic() - self._limits.idle
        for stream in list(self._open.values()):
            if stream.used > limit:
                break
            if not stream.busy:
                self._put_away(stream)

    def close_all(self) -> None:
        for stream in list(self._open.values()):
            self._put_away(stream)

    def delete_old(self) -> None:
        limit = time.time() - self._limits.keep
        for path in self._folder.glob("*.state*") if self._folder else ():
            if path.stat().st_mtime < limit:
                path.unlink()

    def _put_away(self, stream: Stream) -> None:
        path = self._path(stream.name)
        if path is not None:
            part = path.with_suffix(".state-part")
            part.write_bytes(stream.replica.save(stream.row, stream.last))
            os.replace(part, path)
        self._metrics.idle.labels("lost" if path is None else "saved").inc()
        self.close(stream)

    def _path(self, name: str) -> Path | None:
        return self._folder / f"{name}.state" if self._folder and NAME.fullmatch(name) else None
