"""Peak memory of training, each program in a new process: a step compared with PyTorch, and a sequence of a million steps."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.measure import Worker
from benchmarks.peers import Peer, Unsupported

STEP = Case("train", "LSTM", 64, 64, 512, 512)
MILLION = Case("million", "LSTM", 1_000_000, 1, 1, 64)


def status(key: str) -> int:
    """Bytes of VmRSS (current) or VmHWM (peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {key}")


def peak_of(peer: Peer, case: Case) -> dict[str, float]:
    """Peak bytes in addition to the import: weights, inputs, outputs, gradients, and everything saved for backward."""
    if sys.platform != "linux":
        raise Unsupported("peak memory is read from Linux's /proc")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the current use
    before = status("VmRSS")
    started = time.perf_counter()
    if case.kind == "million":
        _train_a_million(case)
    else:
        peer.prepare(case).run()
    return {"peak": status("VmHWM") - before, "import": before, "seconds": time.perf_counter() - started}


def _train_a_million(case: Case) -> None:
    """Trains on one long sequence with a loss on every output; the saved data grow with the square root of T."""
    import rnnfast as rf

    try:
        layer = rf.LSTM(case.D, case.H, seed=0, recompute="sqrt")
    except TypeError as error:
        raise Unsupported("this rnnfast has no LSTM(recompute=...)") from error
    x = np.random.default_rng(0).normal(size=(case.T, case.N, case.D)).astype(np.float32)
    y, _, backward = layer.forward(x)
    backward(np.broadcast_to(np.float32(1e-3), y.shape))
    if not all(np.isfinite(gradient).all() and gradient.any() for gradient in layer.grads.values()):
        raise ArithmeticError("a gradient is zero or not finite")


def main(args: argparse.Namespace) -> None:
    threads = args.threads[0]
    for case in (STEP, MILLION):
        names = ["rnnfast", "torch"] if case is STEP else ["rnnfast"]
        for name in names:
            worker = Worker(name, threads)
            try:
                answer: dict[str, Any] = (
                    {"unsupported": worker.missing} if worker.missing else worker.ask("memory", case=asdict(case))
                )
            finally:
                worker.close()
            title = f"{'train' if case is STEP else 'train a million steps of'} {case.cell} {case.size}"
            if args.json:
                print(json.dumps({"case": title, "program": name, "threads": threads, **answer}), flush=True)
            elif "memory" in answer:
                memory = answer["memory"]
                used, imported = memory["peak"] / 2**20, memory["import"] / 2**20
                print(
                    f"{title:46}{name:>10} {used:8.1f} MiB at the peak, above {imported:.0f} MiB after import;"
                    f" {memory['seconds']:.2f} s with set-up",
                    flush=True,
                )
            else:
                print(f"{title:46}{name:>10} skipped: {answer['unsupported']}", flush=True)
