"""What the server counts, as text for Prometheus."""

from __future__ import annotations

from typing import Any, Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = [1e-4 * 2**i for i in range(18)]  # 0.1 ms to 13 s


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        of: dict[str, Any] = {"registry": self._registry}
        self.requests = Counter("rnnfast_requests", "Answers, by route and status.", ["route", "status"], **of)
        self.request_seconds = Histogram("rnnfast_request_seconds", "From request to answer.", buckets=SECONDS, **of)
        self.wait_seconds = Histogram("rnnfast_wait_seconds", "A stream's wait for a step.", buckets=SECONDS, **of)
        self.step_seconds = Histogram("rnnfast_step_seconds", "A step of a batch.", buckets=SECONDS, **of)
        self.batch_streams = Histogram("rnnfast_batch_streams", "Streams of a step.", buckets=[1, 2, 4, 8, 16, 32, 64, 128], **of)  # fmt: skip
        self.tokens = Counter("rnnfast_tokens", "Tokens, read and generated.", ["kind"], **of)
        self.missed = Counter("rnnfast_deadlines_missed", "Requests that ended at their deadline.", **of)
        self.idle = Counter("rnnfast_streams_idle", "Idle streams that were closed.", ["state"], **of)
        self.reloads = Counter("rnnfast_reloads", "Models loaded while running.", ["result"], **of)

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A gauge that reads ``value`` whenever Prometheus asks."""
        Gauge(name, meaning, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        return generate_latest(self._registry)
