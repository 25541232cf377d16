"""One framework in its own process, with commands over a pipe: ``python -m benchmarks.worker PEER THREADS``.

Two thread pools in one process slow each other down. The worker reads a line of JSON and answers with a line of JSON:

    {"do": "prepare", "case": {...}, "to": "file.npz"}      prepares and does the work; writes its arrays to the file
    {"do": "time", "seconds": 0.05, "inner": 1, ...}        {"times": seconds of each sample}
    {"do": "rates"}                                         the rates of the machine, measured with rnnfast's kernels
    {"do": "where"}                                         {"file": path of the imported rnnfast}
    {"do": "memory", "case": {...}}                         peak memory of the work, in bytes
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable

import numpy as np

from benchmarks.cases import Case
from benchmarks.peers import Program, Unsupported, load


def time_program(run: Callable[[], Any], seconds: float, inner: int, warm: int, least: int) -> list[float]:
    """Seconds per run, averaged over `inner` runs per sample: at least `least` samples, and more until the time is over."""
    for _ in range(warm):
        run()
    times: list[float] = []
    gc.collect()
    gc.disable()
    try:
        deadline = time.perf_counter() + seconds
        while len(times) < least or time.perf_counter() < deadline:
            started = time.perf_counter()
            for _ in range(inner):
                run()
            times.append((time.perf_counter() - started) / inner)
    finally:
        gc.enable()
    return times


class Worker:
    """Answers one request after another, each with a plain dict."""

    def __init__(self, name: str, threads: int) -> None:
        self._peer = load(name, threads)
        self._threads = threads
        self._program: Program | None = None

    def hello(self) -> dict[str, Any]:
        return {"ready": True, "version": self._peer.version}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        return getattr(self, "_" + request.pop("do"))(**request)

    def _prepare(self, case: dict[str, Any], to: str) -> dict[str, Any]:
        self._program = None  # frees the previous case first
        gc.collect()
        try:
            program = self._peer.prepare(Case(**case))
            arrays = program.check()
        except Unsupported as reason:
            return {"unsupported": str(reason)}
        np.savez(to, **arrays)
        self._program = program
        return {"prepared": True}

    def _time(self, seconds: float, inner: int = 1, warm: int = 1, least: int = 1) -> dict[str, Any]:
        if self._program is None:
            raise RuntimeError("nothing is prepared")
        with self._program.context():
            return {"times": time_program(self._program.run, seconds, inner, warm, least)}

    def _rates(self) -> dict[str, Any]:
        import rnnfast as rf
        from benchmarks.bounds import measure_rates
        from rnnfast import _core

        return {"rates": measure_rates(_core, self._threads).as_dict(), "info": rf.info()}

    def _where(self) -> dict[str, Any]:
        import rnnfast

        return {"file": rnnfast.__file__}

    def _memory(self, case: dict[str, Any]) -> dict[str, Any]:
        from benchmarks.memory import peak_of

        try:
            return {"memory": peak_of(self._peer, Case(**case))}
        except Unsupported as reason:
            return {"unsupported": str(reason)}


def bind_to_cores(threads: int) -> None:
    """As many cores as threads, physical cores first: some frameworks start a thread for every core that they see."""
    if not hasattr(os, "sched_setaffinity"):
        return
    allowed = sorted(os.sched_getaffinity(0))
    first, second = [], []
    for core in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        lowest = siblings.read_text().replace("-", ",").split(",")[0].strip() if siblings.exists() else str(core)
        (first if lowest == str(core) else second).append(core)
    # Starts from the end: core 0 handles most interrupts.
    os.sched_setaffinity(0, [*first[::-1], *second][:threads])


def die_with_parent() -> None:
    """If the parent is killed, nobody wakes its stopped workers; Linux can end them."""
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def main() -> None:
    name, threads = sys.argv[1], int(sys.argv[2])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of a framework must not mix with the replies

    def reply(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=replies, flush=True)

    die_with_parent()
    bind_to_cores(threads)
    try:
        worker = Worker(name, threads)
    except ImportError as error:
        reply({"missing": str(error)})
        return
    reply(worker.hello())
    for line in sys.stdin:
        try:
            reply(worker.answer(json.loads(line)))
        except Exception:
            reply({"error": traceback.format_exc()})


if __name__ == "__main__":
    main()
