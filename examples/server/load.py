"""A load test: ``python -m server.load model.safetensors`` starts the server in several ways and prints a table.

Clients stream texts. A token's time is that from the token before to its arrival at the client. The first row is one client alone, the
second has all clients with steps of one stream at a time, and the third with steps of all streams together. With ``--hold``, that many
streams are then open at the same time, and each is stepped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1]


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def _head(self, path: str, body: Any) -> dict[str, str]:
        data = json.dumps(body).encode() if body is not None else b""
        head = f"POST {path} HTTP/1.1\r\nHost: load\r\nContent-Length: {len(data)}\r\n\r\n"
        self._writer.write(head.encode() + data)
        status = await self._reader.readline()
        fields: dict[str, str] = {}
        while line := (await self._reader.readline()).decode().strip():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        if status.split()[1][:1] != b"2":
            raise RuntimeError(f"{path}: {status.decode()}{await self._reader.read(500)!r}")
        return fields

    async def ask(self, path: str, body: Any = None) -> Any:
        fields = await self._head(path, body)
        return json.loads(await self._reader.readexactly(int(fields["content-length"])))

    async def token_times(self, body: Any) -> list[float]:
        """The times at which the tokens of a text arrived."""
        await self._head("/v1/generate", {**body, "stream": True})
        times = []
        while size := int(await self._reader.readline(), 16):
            lines = await self._reader.readexactly(size + 2)
            times += [time.perf_counter()] * lines.count(b'"token"')
        await self._reader.readline()
        return times


async def generate(port: int, clients: int, seconds: float, body: Any) -> tuple[float, list[float]]:
    """Tokens a second, and the times between tokens."""
    gaps: list[float] = []
    counts: list[int] = []
    end = time.perf_counter() + seconds

    async def write(seed: int) -> None:
        async with Client(port) as client:
            while time.perf_counter() < end:
                times = await client.token_times({**body, "seed": seed})
                gaps.extend(after - before for before, after in zip(times, times[1:]))
                counts.append(len(times))

    started = time.perf_counter()
    await asyncio.gather(*map(write, range(clients)))
    return sum(counts) / (time.perf_counter() - started), sorted(gaps)


async def hold(port: int, streams: int, connections: int = 64) -> tuple[float, float]:
    """Opens the streams, then steps each of them; seconds of both."""
    shares: list[list[str]] = [[] for _ in range(connections)]

    async def open_some(share: list[str], size: int) -> None:
        async with Client(port) as client:
            for _ in range(size):
                share.append((await client.ask("/v1/streams"))["stream"])

    async def step_some(share: list[str]) -> None:
        async with Client(port) as client:
            for name in share:
                await client.ask(f"/v1/streams/{name}/step", {"tokens": [1]})

    times = [time.perf_counter()]
    await asyncio.gather(*(open_some(share, len(range(i, streams, connections))) for i, share in enumerate(shares)))
    times.append(time.perf_counter())
    await asyncio.gather(*map(step_some, shares))
    times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1]


class Running:
    """A server on a free port, for the duration of a ``with``."""

    def __init__(self, *options: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "server", *map(str, options), "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=EXAMPLES)

    def __enter__(self) -> Running:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError("the server did not start") from None
                time.sleep(0.1)
        raise RuntimeError("the server did not start in a minute")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def resident(self) -> float:
        """Megabytes of memory, on Linux."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="server.load", description="Load-tests the server.")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each row")
    parser.add_argument("--text", default="the ", help="with which every text begins")
    parser.add_argument("--length", type=int, default=50, help="tokens of a text")
    parser.add_argument("--weights", default="f32")
    parser.add_argument("--hold", type=int, default=0, help="streams to hold open")
    given = parser.parse_args()
    body = {"text": given.text, "length": given.length}
    print("clients  batch  tokens/s  ms a token: median   99%")
    for clients, batch in ((1, 1), (given.clients, 1), (given.clients, given.clients)):
        with Running(given.model, "--weights", given.weights, "--batch", batch) as server:
            asyncio.run(generate(server.port, clients, 1.0, body))
            rate, gaps = asyncio.run(generate(server.port, clients, given.seconds, body))
        middle, high = (1e3 * gaps[int(len(gaps) * share)] for share in (0.5, 0.99))
        print(f"{clients:7}  {batch:5}  {rate:8.0f}  {middle:18.2f}  {high:5.2f}")
    if given.hold:
        with Running(given.model, "--weights", given.weights, "--streams", given.hold) as server:
            before = server.resident()
            opened, stepped = asyncio.run(hold(server.port, given.hold))
            print(f"{given.hold} streams: opened in {opened:.1f} s, each stepped in {stepped:.1f} s, ", end="")
            print(f"{server.resident() - before:.0f} MB more than {before:.0f} MB")


if __name__ == "__main__":
    main()
