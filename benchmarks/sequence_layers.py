"""Compares Conv1d and SelfAttention with PyTorch, interleaved in one process.

python -m benchmarks.sequence_layers [conv] [attention] [causal] [--threads 1,2] [--seconds 1] [--json]

PyTorch has its best public form: its own (N, C, L) layout for the convolution, and scaled_dot_product_attention between its two
projections; inference mode, or autograd for training. One row, kernel 3, heads of 64. The benchmark compares the outputs (in training,
the gradients of the input) before it times both in turn; the median counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np

# torch before rnnfast, so that both use torch's OpenMP runtime. Two runtimes in one process slow each other down.
try:
    import torch
except ImportError:
    sys.exit("this comparison needs torch: pip install 'rnnfast[bench]'")

import rnnfast as rf

KINDS = ("conv", "attention", "causal")
GRID = [(n, d) for d in (64, 128, 256, 512) for n in (128, 512, 2048)]
KERNEL, HEAD = 3, 64


@dataclass
class Case:
    """The same work as two programs; ``flops`` counts all products."""

    name: str
    flops: float
    programs: dict[str, Callable[[], np.ndarray]] = field(default_factory=dict)


def conv(n: int, d: int) -> tuple[Any, Callable[[Any, dict[str, Any]], Any], float]:
    """A layer, the same layer in PyTorch, and the multiplications of forward. The memory of the swapped view is (N, C, L)."""

    def peer(x: Any, w: dict[str, Any]) -> Any:
        return torch.nn.functional.conv1d(x, w["weight"], w["bias"], padding=KERNEL // 2)

    return rf.Conv1d(d, d, KERNEL, padding="same", batch_first=True, seed=0), peer, float(n * KERNEL * d * d)


def attention(n: int, d: int, causal: bool) -> tuple[Any, Callable[[Any, dict[str, Any]], Any], float]:
    """The same for attention and its projections."""
    heads, F = d // HEAD, torch.nn.functional

    def peer(x: Any, w: dict[str, Any]) -> Any:
        projected = F.linear(x, w["in_proj_weight"], w["in_proj_bias"])
        q, k, v = (part.view(1, n, heads, HEAD).transpose(1, 2) for part in projected.chunk(3, -1))
        context = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(1, n, d)
        return F.linear(context, w["out_proj.weight"], w["out_proj.bias"])

    layer = rf.SelfAttention(d, heads, causal=causal, batch_first=True, seed=0)
    return layer, peer, 4.0 * n * d * d + 2.0 * n * n * d / (1 + causal)


def make(kind: str, n: int, d: int, train: bool) -> Case:
    """One row: inference, or forward, backward and all gradients."""
    layer, peer, products = conv(n, d) if kind == "conv" else attention(n, d, kind == "causal")
    swap = kind == "conv"
    random = np.random.default_rng(0)
    x, dy = (random.normal(size=(1, n, d)).astype(np.float32) for _ in range(2))

    def tensor(array: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array.swapaxes(1, 2)) if swap else array.copy())

    given, gradient = tensor(x).requires_grad_(train), tensor(dy)
    weights = {name: torch.from_numpy(value).requires_grad_(train) for name, value in layer.state_dict().items()}

    def ours() -> np.ndarray:
        if not train:
            return np.asarray(layer(x))
        layer.zero_grad()
        return np.asarray(layer.forward(x)[1](dy))

    def theirs() -> np.ndarray:
        if train:
            for leaf in (given, *weights.values()):
                leaf.grad = None
            peer(given, weights).backward(gradient)
            result = given.grad
        else:
            with torch.inference_mode():
                result = peer(given, weights)
        return (result.transpose(1, 2) if swap else result).numpy()

    name = f"{'train' if train else 'forward'} {kind} n={n} d={d}"
    # backward has the products of forward twice, and computes attention's scores a third time
    again = 2.0 * n * n * d / (1 + (kind == "causal")) / 2 if kind != "conv" else 0.0
    return Case(name, 2.0 * (3 * products + again if train else products), {"rnnfast": ours, "torch": theirs})


def measure(case: Case, threads: int, seconds: float) -> dict[str, Any]:
    """Times both programs in turn; returns milliseconds and the ratio of PyTorch to rnnfast."""
    outputs = [program().astype(np.float64) for program in case.programs.values()]
    difference = float(np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[1]).max())
    if not difference < 1e-5:
        raise AssertionError(f"{case.name}: outputs differ by {difference:.1e}, more than 1e-5")
    times: dict[str, list[float]] = {name: [] for name in case.programs}
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(times["torch"]) < 5:
        for name, program in case.programs.items():
            started = time.perf_counter()
            program()
            times[name].append(time.perf_counter() - started)
    median = {name: statistics.median(t) for name, t in times.items()}
    best = {name: min(t) for name, t in times.items()}
    return {
        "case": case.name,
        "threads": threads,
        "difference": difference,
        "median_ms": {name: 1e3 * t for name, t in median.items()},
        "ratio": median["torch"] / median["rnnfast"],
        "best_ratio": best["torch"] / best["rnnfast"],
        "gflops": case.flops / best["rnnfast"] / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="conv|attention|causal", help="default: conv attention")
    parser.add_argument("--threads", default="1,2", help="counts, separated by commas")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of measurement for each case")
    parser.add_argument("--json", action="store_true", help="print one JSON object per case")
    args = parser.parse_args()
    for kind in set(args.kinds) - set(KINDS):
        parser.error(f"unknown kind {kind!r}: expected some of {', '.join(KINDS)}")
    if not args.json:
        print(f"{'case':30}{'threads':>8}{'rnnfast ms':>12}{'torch ms':>11}{'ratio':>8}{'of best':>9}{'GF/s':>8}")
    for kind in args.kinds or KINDS[:2]:
        for n, d in GRID:
            for train in (False, True):
                for threads in map(int, args.threads.split(",")):
                    rf.set_num_threads(threads)
                    torch.set_num_threads(threads)
                    r = measure(make(kind, n, d, train), threads, args.seconds)
                    ms = r["median_ms"]
                    print(
                        json.dumps(r)
                        if args.json
                        else f"{r['case']:30}{threads:>8}{ms['rnnfast']:>12.3f}{ms['torch']:>11.3f}"
                        f"{r['ratio']:>8.2f}{r['best_ratio']:>9.2f}{r['gflops']:>8.1f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
