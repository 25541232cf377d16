"""Compares the outputs of all workers, then times them in turn, A B C A B C, so that drift favors no worker."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.peers import PEERS

ROOT = Path(__file__).parents[1]
ALONE = "rnnfast_one_thread"  # rnnfast again, on one thread, for the speed-up
STOPPABLE = hasattr(signal, "SIGSTOP")


class WorkerFailed(Exception):
    """A worker ended or answered with an error; the message contains its output."""


class Worker:
    """The parent's end of one ``benchmarks.worker`` process. It is stopped while it is idle, so that its pool cannot spin."""

    def __init__(self, name: str, threads: int, environment: dict[str, str] | None = None) -> None:
        self.name, self.threads = name, threads
        counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RNNFAST_NUM_THREADS")
        env = {**os.environ, **dict.fromkeys(counts, str(threads)), **(environment or {})}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=env, cwd=ROOT, text=True,
        )  # fmt: skip
        first = self._receive()
        self.missing: str | None = first.get("missing")
        self.version = str(first.get("version", ""))
        self._pause()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Returns the worker's answer; raises WorkerFailed if there is none."""
        assert self._process.stdin is not None
        self._signal("SIGCONT")
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerFailed(f"{self.name}: the process has ended. {self._said()}") from error
        reply = self._receive()
        self._pause()
        if "error" in reply:
            raise WorkerFailed(f"{self.name}: {reply['error']}")
        return reply

    def close(self) -> None:
        self._signal("SIGCONT")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"{self.name}: the process ended with status {self._process.wait()}. {self._said()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-2000:]

    def _pause(self) -> None:
        self._signal("SIGSTOP")

    def _signal(self, name: str) -> None:
        if STOPPABLE and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))


def largest_difference(reference: dict[str, np.ndarray], other: dict[str, np.ndarray], names: Any = None) -> float:
    """Over all common arrays, the largest difference relative to the largest element of the reference."""
    worst = 0.0
    for name in names or sorted(reference.keys() & other.keys()):
        a, b = np.asarray(reference[name], np.float64), np.asarray(other[name], np.float64)
        if a.shape != b.shape:
            raise ValueError(f"{name} has shape {b.shape}, expected {a.shape}")
        difference = np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)
        worst = max(worst, math.inf if math.isnan(difference) else float(difference))
    return worst


@dataclass
class Measured:
    """Samples in seconds by framework, and the reasons why others were not measured."""

    times: dict[str, list[float]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    rounds: int = 0


BF16_TOLERANCE = 3e-2  # numbers of 8 significant bits: 1e-3 to 1e-2 after 100 steps, gradients of 64 steps 2.3e-2


def prepare(workers: dict[str, Worker], case: Case, result: Measured) -> dict[str, Worker]:
    """Returns the workers that can do the case and agree with the first one."""
    able, reference = {}, {}
    for name, worker in workers.items():
        if not PEERS[worker.name].supports(case):
            continue
        with tempfile.TemporaryDirectory() as folder:
            target = str(Path(folder) / "arrays.npz")
            reply = worker.ask("prepare", case=asdict(case), to=target)
            if "unsupported" in reply:
                result.skipped[name] = reply["unsupported"]
                continue
            with np.load(target) as arrays:
                if not reference:
                    reference = dict(arrays)
                result.differences[name] = difference = largest_difference(reference, arrays)
        tolerance = BF16_TOLERANCE if name.endswith("_bf16") else case.tolerance
        if difference <= tolerance:
            able[name] = worker
        else:
            result.wrong[name] = f"outputs differ by {difference:.1e}, more than {tolerance:.0e}: not timed"
    return able


def measure(workers: dict[str, Worker], case: Case, seconds: float, least_rounds: int = 3) -> Measured:
    """Times every worker that can do the case for `seconds` each; the first worker is the reference."""
    result = Measured()
    able = prepare(workers, case, result)
    once = {name: min(worker.ask("time", seconds=0.0, least=3)["times"]) for name, worker in able.items()}
    result.times = {name: [] for name in able}
    # A turn is much longer than the time to fill the caches again after the others; one untimed run does that.
    turn = max(0.03, 2 * max(once.values(), default=0.0))
    result.rounds = max(least_rounds, round(seconds / turn))
    for _ in range(result.rounds):
        for name, worker in able.items():
            inner = max(1, math.ceil(5e-5 / once[name]))  # reading the clock takes 0.1 µs
            warm = inner if once[name] < 0.5 else 0
            result.times[name] += worker.ask("time", seconds=turn, inner=inner, warm=warm)["times"]
    return result
