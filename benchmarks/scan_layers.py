"""Compares layers without a recurrent product with LSTMs and with other programs, interleaved in one process.

python -m benchmarks.scan_layers [--threads 1] [--seconds 1] [--json]
pip install minGRU-pytorch sru          what else is compared, if it is installed (sru compiles a part of itself)

A case is inference, training (forward, backward and all gradients) or one step of a stream, of T steps, N rows and H features to
H features. Each ratio is the time of rnnfast's LSTM divided by that of the program: the median of runs taken in turn.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from typing import Any, Callable

import numpy as np

# torch before rnnfast, so that both use torch's OpenMP runtime. Two runtimes in one process slow each other down.
try:
    import torch
except ImportError:
    sys.exit("this comparison needs torch: pip install 'rnnfast[bench]'")

import rnnfast as rf

OURS = ("LSTM", "MinGRU", "MinLSTM", "SRU", "QRNN")
CASES = [
    ("forward", 35, 1, 512), ("forward", 1024, 1, 256), ("forward", 64, 64, 512), ("forward", 35, 32, 512),
    ("train", 35, 1, 512), ("train", 1024, 1, 256), ("train", 64, 64, 512), ("train", 35, 32, 512),
    ("stream", 1, 1, 128), ("stream", 1, 1, 512),
]  # fmt: skip

Program = Callable[[], Any]


def program(kind: str, name: str, x: np.ndarray, dy: np.ndarray) -> Program:
    """One of rnnfast's layers."""
    layer = getattr(rf, name)(x.shape[2], x.shape[2], seed=0)
    if kind == "forward":
        return lambda: layer(x)
    if kind == "stream":
        step, row, out = layer.stream(), x[0], np.empty_like(x[0])
        return lambda: step(row, out=out)

    def train() -> Any:
        layer.zero_grad()
        return layer.forward(x)[2](dy)

    return train


def others(kind: str, x: np.ndarray, dy: np.ndarray) -> dict[str, Program]:
    """The same work by programs in torch; those that are not installed are missing."""
    H = x.shape[2]
    modules: dict[str, tuple[torch.nn.Module, bool]] = {"torch LSTM": (torch.nn.LSTM(H, H), False)}
    for package, name, batch_first in (("minGRU_pytorch", "minGRU", True), ("sru", "SRU", False)):
        try:
            made = getattr(importlib.import_module(package), name)
        except (ImportError, RuntimeError, OSError) as error:
            print(f"{package} is not measured: {error}", file=sys.stderr)
            continue
        modules[f"{package} {name}"] = (made(H) if batch_first else made(H, H, num_layers=1), batch_first)
    return {name: _torch_program(kind, module, first, x, dy) for name, (module, first) in modules.items()}


def _torch_program(kind: str, module: Any, batch_first: bool, x: np.ndarray, dy: np.ndarray) -> Program:
    arrays = [torch.from_numpy(np.ascontiguousarray(a.swapaxes(0, 1) if batch_first else a)) for a in (x, dy)]
    given, gradient = arrays[0].requires_grad_(kind == "train"), arrays[1]

    def run() -> Any:
        y = module(given)
        return y[0] if isinstance(y, tuple) else y

    def train() -> None:
        module.zero_grad()
        given.grad = None
        run().backward(gradient)

    def infer() -> Any:
        with torch.inference_mode():
            return run()

    if kind == "train":
        return train
    module.eval()
    return infer


def measure(case: tuple[str, int, int, int], seconds: float) -> dict[str, Any]:
    """Milliseconds of every program, and how many times faster than rnnfast's LSTM it is."""
    kind, T, N, H = case
    random = np.random.default_rng(0)
    x, dy = (random.normal(size=(T, N, H)).astype(np.float32) for _ in range(2))
    programs = {name: program(kind, name, x, dy) for name in OURS}
    programs |= others(kind, x, dy)
    repeats = {name: _repeats(run) for name, run in programs.items()}
    times: dict[str, list[float]] = {name: [] for name in programs}
    deadline = time.perf_counter() + seconds * len(programs)
    while time.perf_counter() < deadline or len(times["LSTM"]) < 5:
        for name, run in programs.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            times[name].append((time.perf_counter() - started) / repeats[name])
    median = {name: 1e3 * statistics.median(t) for name, t in times.items()}
    ratio = {name: median["LSTM"] / t for name, t in median.items()}
    return {"case": f"{kind} {T}x{N}x{H}", "threads": rf.get_num_threads(), "median_ms": median, "ratio": ratio}


def _repeats(run: Program) -> int:
    """So many runs that the clock's step does not count; the first run warms up."""
    run()
    started = time.perf_counter()
    run()
    return max(1, int(1e-3 / (time.perf_counter() - started)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of measurement for each program and case")
    parser.add_argument("--json", action="store_true", help="print one JSON object per case")
    args = parser.parse_args()
    rf.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    for case in CASES:
        r = measure(case, args.seconds)
        if args.json:
            print(json.dumps(r), flush=True)
            continue
        print(r["case"])
        for name, ms in r["median_ms"].items():
            print(f"    {name:24}{ms:>12.4f} ms{r['ratio'][name]:>8.2f} times as fast as LSTM", flush=True)


if __name__ == "__main__":
    main()
