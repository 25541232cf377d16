"""HTTP: reads requests, gives them to the scheduler, writes answers."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from rnnfast.protocols import Precision
from rnnfast.text.vocab import Decoder

from .limits import Limits, Refused
from .metrics import Metrics
from .replica import Replica
from .sampling import Sampler, log_probabilities
from .scheduler import Job, Scheduler
from .streams import Stream, Streams

log = logging.getLogger("server")
Handler = Callable[[Request], Awaitable[Response]]


class Service:
    def __init__(
        self, path: str, limits: Limits, *, weights: Precision | None = None, folder: Path | None = None
    ) -> None:
        """``folder`` keeps the states of idle streams, and of all streams when the server stops."""
        self._path, self._limits, self._weights = path, limits, weights
        self.metrics = Metrics()
        self.streams = Streams(limits, self.metrics, folder)
        self.replica = self._load()
        self.leaving = False  # /readyz reports it, so that a load balancer sends requests elsewhere
        self.metrics.watch("rnnfast_streams_open", "Open streams.", lambda: len(self.streams))
        self.metrics.watch("rnnfast_jobs", "Requests in work.", lambda: self.scheduler.jobs)

    def app(self) -> Starlette:
        routes = [
            ("POST", "/v1/generate", self.generate), ("POST", "/v1/streams", self.open),
            ("POST", "/v1/streams/{name}/step", self.step), ("POST", "/v1/streams/{name}/generate", self.generate),
            ("GET", "/v1/streams/{name}/state", self.state), ("DELETE", "/v1/streams/{name}", self.close),
            ("GET", "/v1/model", self.model), ("GET", "/healthz", self.alive), ("GET", "/readyz", self.ready),
            ("GET", "/metrics", self.numbers),
        ]  # fmt: skip
        return Starlette(
            routes=[Route(path, self._answered(path, handler), methods=[method]) for method, path, handler in routes],
            lifespan=self._life,
        )

    @asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        self.scheduler = Scheduler(self._limits, self.metrics, self.streams.release)
        self._steps = asyncio.create_task(self.scheduler.run())
        sweep = asyncio.create_task(self._sweep())
        yield
        # Every answer is on its way: the server ends its connections first.
        for task in (sweep, self._steps):
            task.cancel()
        self.streams.close_all()

    async def _sweep(self) -> None:
        while True:
            self.streams.close_idle()
            self.streams.delete_old()
            await asyncio.sleep(min(self._limits.idle / 2, 10))

    async def reload(self) -> None:
        """Loads the file again. Open streams stay with the model that began them; if loading fails, so does everybody."""
        try:
            self.replica = await asyncio.to_thread(self._load)
            self.metrics.reloads.labels("good").inc()
            log.warning("loaded %s: %s", self._path, self.replica.name)
        except Exception as error:
            self.metrics.reloads.labels("failed").inc()
            log.error("%s was not loaded: %s", self._path, error)

    def _load(self) -> Replica:
        return Replica(self._path, self._weights, self._limits.streams)

    def _answered(self, route: str, handler: Handler) -> Handler:
        """Counts a handler's answers, and writes the refused ones."""

        async def answer(request: Request) -> Response:
            started = time.monotonic()
            try:
                response = await handler(request)
            except Refused as refused:
                headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
                response = JSONResponse({"error": refused.reason}, refused.status, headers)
            self.metrics.requests.labels(route, response.status_code).inc()
            self.metrics.request_seconds.observe(time.monotonic() - started)
            return response

        return answer

    async def generate(self, request: Request) -> Response:
        """Reads a text and continues it: with a stream's name as the next part of it, without as a text of its own."""
        given = Fields(await self._body(request, self._limits.body))
        sampler = Sampler(
            given.number("temperature", 1.0, 0, 100), given.integer("top_k", 0, 0, 2**31), given.integer("seed", 0, 0, 2**63)
        )  # fmt: skip
        length, flowing = given.integer("length", 100, 1, self._limits.length), given.true("stream")
        stream = self._stream(request)
        arrived: asyncio.Queue[int | None] = asyncio.Queue()
        job = self._start(stream, given, sampler, length, arrived.put_nowait if flowing else None)
        decoder = Decoder(stream.replica.vocab, before=job.unread[-1] if job.unread else job.next)
        if flowing:
            return StreamingResponse(self._lines(job, decoder, arrived), media_type="application/x-ndjson")
        await self._end_of(job)
        text = "".join(map(decoder.text, job.tokens)) + decoder.rest()
        return JSONResponse(
            {"text": text, "tokens": len(job.tokens), "reason": job.reason, "model": stream.replica.name}
        )

    async def _lines(self, job: Job, decoder: Decoder, arrived: asyncio.Queue[int | None]) -> AsyncIterator[str]:
        ended = asyncio.create_task(job.ended.wait())
        ended.add_done_callback(lambda _: arrived.put_nowait(None))
        try:
            while (token := await arrived.get()) is not None:
                yield json.dumps({"token": token, "text": decoder.text(token)}) + "\n"
            yield json.dumps({"text": decoder.rest(), "tokens": len(job.tokens), "reason": job.reason}) + "\n"
        finally:  # also if the client has gone
            self.scheduler.leave(job)
            ended.cancel()

    async def step(self, request: Request) -> Response:
        """Reads a text, or token ids, and answers with the most probable next tokens."""
        given = Fields(await self._body(request, self._limits.body))
        vocab = self.replica.vocab
        most, all_logits = given.integer("top", 1, 0, len(vocab)), given.true("logits")
        stream = self._stream(request)
        job = self._start(stream, given)
        await self._end_of(job)
        assert job.logits is not None
        logits = job.logits
        best = np.argsort(-logits, kind="stable")[:most].tolist()
        likely, vocab = log_probabilities(logits), stream.replica.vocab
        top = [{"token": i, "text": vocab.to_tokens(i), "log_probability": float(likely[i])} for i in best]
        answer: dict[str, Any] = {"read": job.read, "top": top}
        return JSONResponse({**answer, "logits": logits.tolist()} if all_logits else answer)

    async def open(self, request: Request) -> Response:
        """A new stream; with a body, the saved state with which it begins."""
        saved = await self._body(request, 2**24)
        stream = self.streams.open(self.replica, saved=saved)
        return JSONResponse({"stream": stream.name, "model": stream.replica.name}, 201)

    async def state(self, request: Request) -> Response:
        stream = self._stream(request)
        return Response(stream.replica.save(stream.row, stream.last), media_type="application/octet-stream")

    async def close(self, request: Request) -> Response:
        self.streams.close(self._stream(request))
        return Response(status_code=204)

    async def model(self, request: Request) -> Response:
        config = dict(self.replica.model.config)
        return JSONResponse({"model": self.replica.name, "config": config, "vocabulary": len(self.replica.vocab)})

    async def alive(self, request: Request) -> Response:
        return PlainTextResponse("no steps\n" if self._steps.done() else "ok\n", 500 if self._steps.done() else 200)

    async def ready(self, request: Request) -> Response:
        return PlainTextResponse("leaving\n" if self.leaving else "ok\n", 503 if self.leaving else 200)

    async def numbers(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _body(self, request: Request, limit: int) -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise Refused(413, f"the body has more than {limit} bytes")
        return bytes(body)

    def _stream(self, request: Request) -> Stream:
        name = request.path_params.get("name")
        if name is not None:
            return self.streams.find(name, self.replica)
        return self.streams.open(self.replica, brief=True)

    def _start(
        self,
        stream: Stream,
        given: Fields,
        sampler: Sampler | None = None,
        length: int = 0,
        on_token: Callable[[int], None] | None = None,
    ) -> Job:
        try:
            tokens = given.tokens(stream.replica, self._limits.length)
            seconds = given.number("deadline", self._limits.deadline, 0, self._limits.deadline)
            job = Job(time.monotonic() + seconds, stream, tokens, sampler, length, on_token)
            self.scheduler.submit(job)
        except Refused:
            if stream.brief:
                self.streams.close(stream)
            raise
        return job

    async def _end_of(self, job: Job) -> None:
        """Waits for the job; a text that its deadline cut short is an answer, too."""
        try:
            await job.ended.wait()
        finally:
            self.scheduler.leave(job)
        if job.reason == "failed":
            raise Refused(500, "the step failed; the server's log has the reason")
        if job.reason == "deadline" and not job.tokens:
            raise Refused(504, f"the deadline came after {job.read} of the tokens to read", retry_after=1)


class Fields:
    """The fields of a JSON object, checked one by one."""

    def __init__(self, body: bytes) -> None:
        try:
            self._given: dict[str, Any] = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"the body is not JSON: {error}") from None
        if not isinstance(self._given, dict):
            raise Refused(400, "the body is not a JSON object")

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value: float = self._given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise Refused(400, f"{name} is {value!r}, expected a number from {low} to {high}")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.number(name, default, low, high)
        if not isinstance(value, int):
            raise Refused(400, f"{name} is {value!r}, expected an integer")
        return value

    def true(self, name: str) -> bool:
        value = self._given.get(name, False)
        if not isinstance(value, bool):
            raise Refused(400, f"{name} is {value!r}, expected true or false")
        return value

    def tokens(self, replica: Replica, most: int) -> deque[int]:
        """``text`` as ids, or the ids ``tokens``."""
        text, ids = self._given.get("text", ""), self._given.get("tokens")
        if ids is None:
            if not isinstance(text, str):
                raise Refused(400, "text is not a string")
            try:
                ids = replica.vocab.encode_part(text).tolist()
            except ValueError as error:
                raise Refused(400, str(error)) from None
        size = len(replica.vocab)
        if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < size for i in ids):
            raise Refused(400, f"tokens is not a list of ids from 0 to {size - 1}")
        if len(ids) > most:
            raise Refused(413, f"{len(ids)} tokens to read, at most {most} at a time")
        return deque(ids)
