"""What a request and the server may take. Each limit is an option of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass(frozen=True)
class Limits:
    batch: int = field(default=8, metadata={"help": "streams that one step advances together"})
    wait: float = field(
        default=0.001, metadata={"help": "seconds for which an idle server waits for more streams before a step"}
    )
    queue: int = field(default=256, metadata={"help": "requests in work; further ones are answered 429"})
    streams: int = field(default=10_000, metadata={"help": "open streams; further ones are answered 503"})
    connections: int = field(default=4_096, metadata={"help": "open connections; further ones are answered 503"})
    body: int = field(default=65_536, metadata={"help": "bytes of a JSON body"})
    length: int = field(default=1_000, metadata={"help": "tokens that one request reads, and tokens that it generates"})
    deadline: float = field(
        default=30.0, metadata={"help": "seconds that a request may take; a request may ask for less"}
    )
    idle: float = field(
        default=600.0, metadata={"help": "seconds after which an unused stream is dropped; saved with --state-dir"}
    )
    keep: float = field(default=86_400.0, metadata={"help": "seconds after which a saved stream is deleted"})

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) < (0 if each.name == "wait" else 1e-3):
                raise ValueError(f"{each.name} is {getattr(self, each.name)}, expected more than 0")


class Refused(Exception):
    """A request that gets no result: the status of HTTP and the reason."""

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after = status, reason, retry_after
