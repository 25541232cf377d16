"""Compares layers without a recurrent product with LSTMs and with other programs, interleaved in one process.

python -m benchmarks.scan_layers [layers] [--threads 1] [--seconds 1] [--json]
python -m benchmarks.scan_layers stacks        stacks at one row, on one thread and on two
python -m benchmarks.scan_layers scan          the scan's share of a layer at few rows, on one thread and on two
pip install minGRU-pytorch sru          what else is compared, if it is installed (sru compiles a part of itself)

A case is inference, training (forward, backward and all gradients) or one step of a stream, of T steps, N rows and H features to
H features. Each ratio is the time of rnnfast's LSTM divided by that of the program: the median of runs taken in turn.

`stacks` compares two threads that share the units of each layer with the best that two threads could do with a layer each, one step behind
the layer below (a wavefront): half of one thread's time, since each step still reads all weights of its layer. A prototype of the forward, in
Python's threads and by blocks of steps, runs too (narrower stacks than these run a compiled one). `scan` is the time of a layer minus that of the product with its weights alone.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import queue
import statistics
import sys
import threading
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


def program(kind: str, name: str, x: np.ndarray, dy: np.ndarray, layers: int = 1) -> Program:
    """One of rnnfast's layers, or a stack of them."""
    layer = getattr(rf, name)(x.shape[2], x.shape[2], layers, seed=0)
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
    median = {name: 1e3 * statistics.median(t) for name, t in in_turn(programs, seconds).items()}
    ratio = {name: median["LSTM"] / t for name, t in median.items()}
    return {"case": f"{kind} {T}x{N}x{H}", "threads": rf.get_num_threads(), "median_ms": median, "ratio": ratio}


def in_turn(programs: dict[str, Program], seconds: float) -> dict[str, list[float]]:
    """Seconds of every run; each round runs all programs."""
    repeats = {name: _repeats(run) for name, run in programs.items()}
    times: dict[str, list[float]] = {name: [] for name in programs}
    deadline, rounds = time.perf_counter() + seconds * len(programs), 0
    while time.perf_counter() < deadline or rounds < 5:
        rounds += 1
        for name, run in programs.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            times[name].append((time.perf_counter() - started) / repeats[name])
    return times


def on(threads: int, run: Program) -> Program:
    """The program on so many threads."""

    def limited() -> Any:
        rf.set_num_threads(threads)
        return run()

    return limited


def wavefront(name: str, x: np.ndarray, layers: int) -> Program:
    """The forward of a stack whose upper half runs on a second thread, a block of steps behind the lower half."""
    lower, upper = (getattr(rf, name)(x.shape[2], x.shape[2], layers // 2, seed=0) for _ in range(2))
    blocks = np.array_split(x, min(8, len(x)))

    def run() -> None:
        between: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()

        def second() -> None:
            state = None
            for _ in blocks:
                _, state = upper(between.get(), state)

        other = threading.Thread(target=second)
        other.start()
        state = None
        for block in blocks:
            y, state = lower(block, state)
            between.put(y)
        other.join()

    return run


def stacks(seconds: float) -> None:
    """Two threads that share each layer, and a wavefront over the layers: its bound, and a prototype of its forward."""
    print(f"{'':34}{'1 thread':>11}{'2 threads':>11}{'wavefront':>12}{'at best':>11}{'gain':>7}{'at best':>9}")
    random = np.random.default_rng(0)
    for kind, name, layers, T, H in itertools.product(
        ("forward", "train"), ("LSTM", "SRU", "MinGRU"), (2, 4), (35, 256), (128, 256, 512)
    ):
        x, dy = (random.normal(size=(T, 1, H)).astype(np.float32) for _ in range(2))
        run = program(kind, name, x, dy, layers)
        programs = {str(count): on(count, run) for count in (1, 2)}
        if kind == "forward":
            programs["wavefront"] = on(1, wavefront(name, x, layers))
        best = {key: 1e3 * min(times) for key, times in in_turn(programs, seconds).items()}
        one, two, bound = best["1"], best["2"], best["1"] * (T + layers - 1) / T / 2
        made = best.get("wavefront")
        shown = "" if made is None else f"{made:.3f} ms"
        gain = "" if made is None else f"{two / made:.2f}"
        case = f"{kind} {name} {layers} layers {T}x1x{H}"
        print(
            f"{case:34}{one:>8.3f} ms{two:>8.3f} ms{shown:>12}{bound:>8.3f} ms{gain:>7}{two / bound:>9.2f}", flush=True
        )


def share_of_scan(seconds: float) -> None:
    """What a layer takes besides the product with its weights."""
    print(f"{'':30}{'layer':>10}{'product':>10}{'scan':>8}{'of the layer':>14}")
    for name, (T, N, H) in itertools.product(("MinGRU", "SRU"), ((35, 1, 512), (1024, 1, 256), (256, 2, 512))):
        x = np.random.default_rng(0).normal(size=(T, N, H)).astype(np.float32)
        gates = len(getattr(rf, name)(H, H, seed=0).state_dict()["weight_ih_l0"])
        product = rf.Linear(H, gates, seed=0)
        for count in (1, 2):
            programs = {"layer": program("forward", name, x, x), "product": lambda product=product, x=x: product(x)}
            times = in_turn({key: on(count, run) for key, run in programs.items()}, seconds)
            layer, alone = (1e3 * min(times[key]) for key in programs)
            case = f"{name} {T}x{N}x{H}, {count} thread{'s' * (count > 1)}"
            print(
                f"{case:30}{layer:>7.3f} ms{alone:>7.3f} ms{layer - alone:>8.3f}{1 - alone / layer:>14.0%}", flush=True
            )


def _repeats(run: Program) -> int:
    """So many runs that the clock's step does not count; the first run warms up."""
    run()
    started = time.perf_counter()
    run()
    return max(1, int(1e-3 / (time.perf_counter() - started)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("layers", "stacks", "scan"), default="layers")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of measurement for each program and case")
    parser.add_argument("--json", action="store_true", help="print one JSON object per case")
    args = parser.parse_args()
    rf.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    if args.what != "layers":
        return (stacks if args.what == "stacks" else share_of_scan)(args.seconds)
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
