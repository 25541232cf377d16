"""The server's command line: ``python -m server model.safetensors``.

SIGHUP loads the model file again. SIGTERM and SIGINT stop the server when every request that it accepted is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
from dataclasses import fields
from pathlib import Path
from types import FrameType

import uvicorn

import rnnfast as rf

from .app import Service
from .limits import Limits


class Server(uvicorn.Server):
    """Stops after a pause in which /readyz reports it and requests are still answered; ends with status 0."""

    def __init__(self, config: uvicorn.Config, service: Service, linger: float) -> None:
        super().__init__(config)
        self._service, self._linger = service, linger
        self._end = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self._service.leaving:
            self._service.leaving = True
            self._end = time.monotonic() + self._linger

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or time.monotonic() >= self._end
        return await super().on_tick(counter)


async def serve(server: Server, service: Service) -> None:
    loop, loads = asyncio.get_running_loop(), set()

    def reload() -> None:
        loads.add(task := loop.create_task(service.reload()))
        task.add_done_callback(loads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    await server.serve()


def main() -> None:
    parser = argparse.ArgumentParser(prog="server", description="Serves a language model over HTTP.")
    parser.add_argument("model", help="a file of LanguageModel.save or rnnfast train")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--weights", choices=["f32", "bf16", "int8"], help="precision; the default is that of the file")
    parser.add_argument("--threads", type=int, default=1, help="of a step of 16 streams or more")
    parser.add_argument("--state-dir", type=Path, help="keeps the states of idle streams, and of all at the end")
    parser.add_argument("--linger", type=float, default=0.0, help="seconds between SIGTERM and the end of listening")
    for limit in fields(Limits):
        kind = type(limit.default)
        parser.add_argument(f"--{limit.name}", type=kind, default=limit.default, help=limit.metadata["help"])
    given = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    rf.set_num_threads(given.threads)
    sys.setswitchinterval(
        5e-4
    )  # a step that ends waits less for the thread of the event loop; Python's default is 5 ms
    try:
        limits = Limits(**{limit.name: getattr(given, limit.name) for limit in fields(Limits)})
        service = Service(given.model, limits, weights=given.weights, folder=given.state_dir)
    except (OSError, ValueError) as error:
        sys.exit(f"server: {error}")
    config = uvicorn.Config(
        service.app(), given.host, given.port, log_level="warning", access_log=False, limit_concurrency=limits.connections
    )  # fmt: skip
    asyncio.run(serve(Server(config, service, given.linger), service))


if __name__ == "__main__":
    main()
