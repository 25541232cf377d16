"""Convolution, recurrence and self-attention: what theory predicts for n tokens of d dimensions, and measurements.

================  ===========  =====================  ============
layer             cost         sequential operations  longest path
================  ===========  =====================  ============
convolution       O(k·n·d²)    O(1)                   O(n/k)
recurrent         O(n·d²)      O(n)                   O(n)
linear scan       O(n·d²)      O(log n)               O(n)
self-attention    O(n²·d)      O(1)                   O(1)
================  ===========  =====================  ============

Source: A. Zhang et al., Dive into Deep Learning, section 11.6; A. Vaswani et al., arXiv:1706.03762, table 1.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
from numpy.typing import NDArray

from rnnfast.files import PathLike
from rnnfast.info import get_num_threads, set_num_threads
from rnnfast.nn.layer import Array
from rnnfast.nn.recurrent import LAYERS, TABLE
from rnnfast.nn.sequence import Conv1d, SelfAttention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COUNTS = {name: cell.gates * (1 + cell.recurrent) for name, cell in TABLE.items()}
# Products of a step with a d × d matrix, fewest first.
PRODUCTS = dict(sorted(_COUNTS.items(), key=lambda item: item[1]))
# Cells that differ only in the nonlinearity cost the same: one of them is enough.
RECURRENT = {name: LAYERS[name] for name in PRODUCTS if isinstance(LAYERS[name], type)}
KINDS = ("conv", *RECURRENT, "attention")
THEORY = {kind: {"n": 2 if kind == "attention" else 1, "d": 1 if kind == "attention" else 2} for kind in KINDS}
HEAD = 64  # dimensions of a head if d is a multiple, so that the share of the softmax is the same for every d
# Of the recurrent layers.
_SHADES = ("#fdb863", "#e66101", "#b2182b", "#f4a582", "#7f3b08", "#d6604d", "#c51b7d", "#40004b")
# 97.5% points of Student's t distribution by degrees of freedom, for confidence intervals of a slope
_STUDENT = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class _Projections:
    """The part of attention whose cost grows with n, not n²: the projections to queries, keys and values, and of the output."""

    def __init__(self, d: int) -> None:
        self.into, self.out = Conv1d(d, 3 * d, 1, seed=0), Conv1d(d, d, 1, seed=0)

    def __call__(self, x: Array) -> Array:
        self.into(x)
        return self.out(x)


def make_layer(kind: str, d: int, k: int) -> Any:
    """A layer that maps d dimensions to d: causal Conv1d with kernel k, recurrent, or SelfAttention with heads of 64.

    ``"projections"`` are those of attention alone.
    """
    if kind == "projections":
        return _Projections(d)
    if kind == "conv":
        return Conv1d(d, d, k, padding="causal", seed=0)
    if kind == "attention":
        return SelfAttention(d, d // HEAD if d % HEAD == 0 else 1, seed=0)
    return RECURRENT[kind](d, d, seed=0)


def multiplications(kind: str, n: int, d: int, k: int) -> float:
    """For one row of n tokens; those of attention include its four projections, those of a cell the product with the input."""
    if kind == "conv":
        return float(k * n * d * d)
    if kind == "attention":
        return float(2 * n * n * d + 4 * n * d * d)
    return float(PRODUCTS[kind] * n * d * d)


def _noise(n: int, rows: int, d: int) -> Array:
    return np.random.default_rng(n + d).normal(size=(n, rows, d)).astype(np.float32)


@dataclass(frozen=True)
class Point:
    """One size of a sweep: seconds of the best and the median run, for `rows` sequences of n tokens."""

    kind: str
    n: int
    d: int
    rows: int
    best: float
    median: float


def sweep(sizes: Sequence[tuple[str, int, int, int]], k: int, rounds: int) -> list[Point]:
    """Forward times for (kind, n, d, rows), interleaved: every round measures all sizes, so a slow moment affects all of them."""
    programs: list[Callable[[], Any]] = []
    for kind, n, d, rows in sizes:
        layer, x = make_layer(kind, d, k), _noise(n, rows, d)
        programs.append(lambda layer=layer, x=x: layer(x))  # type: ignore[misc]
    times: list[list[float]] = [[] for _ in sizes]
    for turn in range(rounds + 1):
        for program, own in zip(programs, times):
            spent, started = 0, time.perf_counter()
            while True:  # short programs run several times, so that the resolution of the clock does not matter
                program()
                spent += 1
                seconds = time.perf_counter() - started
                if seconds > 2e-3:
                    break
            if turn:  # the first round warms up
                own.append(seconds / spent)
    return [Point(*size, min(own), statistics.median(own)) for size, own in zip(sizes, times)]


@dataclass(frozen=True)
class Fit:
    """time ∝ size^exponent by least squares in logarithms, with the half-width of its 95% confidence interval."""

    exponent: float
    confidence: float
    theory: float
    sizes: list[int]
    residuals: list[float]  # measured / fitted - 1, by size

    @property
    def agrees(self) -> bool:
        """Within ±0.15 of theory."""
        return abs(self.exponent - self.theory) <= 0.15


def fit(sizes: Sequence[int], seconds: Sequence[float], theory: float) -> Fit | None:
    """The exponent of a power law through the points; None for fewer than three, which give no confidence interval.

    >>> fit([1, 2, 4, 8], [3, 12, 48, 192], 2).exponent
    2.0
    """
    if len(set(sizes)) < 3:
        return None
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, float))
    spread = ((x - x.mean()) ** 2).sum()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    rest = y - y.mean() - slope * (x - x.mean())
    freedom = len(x) - 2
    error = math.sqrt(float((rest**2).sum()) / freedom / float(spread))
    student = _STUDENT[min(freedom, len(_STUDENT)) - 1]
    return Fit(round(slope, 6), student * error, theory, [int(s) for s in sizes], [float(r) for r in np.exp(rest) - 1])


def asymptotic(kind: str, n: int, d: int) -> bool:
    """Where the leading term dominates: for attention n ≥ 8·d, where projections are at most a fifth of the cost."""
    return n >= 8 * d if kind == "attention" else n >= 128


def _both(layer: Any, state: Array) -> Any:
    """(1, d) as the state of a layer, for both parts of a pair."""
    part = state[None].astype(np.float32)
    return (part, part) if TABLE[layer._cell].has_c else part


def _joined_states(layer: Any, x: Array) -> tuple[Any, int] | None:
    """The states before all steps (n, 1, d), and the rounds of joining that it took; None if steps cannot be joined.

    Where a step, run alone, changes any state to a·state + b, two neighbors are one such step, (a, b) and (a', b') joined
    to (a'a, a'b + b'): joining over distances 1, 2, 4, ... leaves in each place all steps up to it.
    """

    def after(state: NDArray[Any]) -> NDArray[np.float64]:
        finals = [layer(x[t : t + 1], _both(layer, state))[1] for t in range(len(x))]
        return np.array([final[-1] if isinstance(final, tuple) else final for final in finals], np.float64)[:, 0]

    other = np.random.default_rng(2).normal(size=x[0].shape)
    b = after(np.zeros_like(other))
    a = after(np.ones_like(other)) - b
    if not np.allclose(after(other), a * other + b, atol=1e-5):
        return None
    distance, rounds = 1, 0
    while distance < len(x):
        b[distance:] += a[distance:] * b[:-distance]
        a[distance:] = a[distance:] * a[:-distance]
        distance, rounds = 2 * distance, rounds + 1
    return np.concatenate([np.zeros_like(b[:1]), b[:-1]]), rounds


def sequential_operations(kind: str, n: int, d: int = 16, k: int = 3) -> int:
    """The longest chain of dependent steps, counted while the output of the layer is computed step by step.

    Every step is computed from the inputs alone if that is possible; a recurrent step needs the state of the previous
    step, so its chain is one longer, unless neighbors can be joined before their states are known. The outputs of the
    steps must equal those of the layer.
    """
    layer, x = make_layer(kind, d, k), _noise(n, 1, d)
    if kind in RECURRENT and (joined := _joined_states(layer, x)) is not None:
        states, rounds = joined
        outputs = [layer(x[t : t + 1], _both(layer, states[t]))[0] for t in range(n)]
        if not np.allclose(np.concatenate(outputs), layer(x)[0], atol=1e-5):
            raise AssertionError(f"{kind}: the joined steps do not add up to the layer")
        return rounds
    outputs, chain, longest, state = [], 0, 0, None
    for t in range(n):
        if kind in RECURRENT:
            y, state = layer(x[t : t + 1], state)
            chain += 1  # needs the state of step t - 1
        else:
            first = max(0, t - k + 1) if kind == "conv" else 0
            y = layer(x[first : t + 1])[-1:] if kind == "conv" else layer(x)[t : t + 1]
            chain = 1  # needs no other step
        outputs.append(y)
        longest = max(longest, chain)
    whole = layer(x)
    if not np.array_equal(np.concatenate(outputs), whole[0] if kind in RECURRENT else whole):
        raise AssertionError(f"{kind}: the outputs of the steps differ from those of the layer")
    return longest


def longest_path(kind: str, n: int, d: int = 16, k: int = 3) -> int:
    """The number of layers (for a recurrent layer: steps) until the gradient of the last output reaches the first input.

    Only whether a gradient is zero matters. Gradients that are not are replaced by random numbers, so that they cannot vanish
    in hundreds of layers.
    """
    layer, x = make_layer(kind, d, k), _noise(n, 1, d)
    random = np.random.default_rng(1)
    dy = np.zeros_like(x)
    dy[-1] = random.normal(size=(1, d))
    if kind in RECURRENT:
        step = layer.forward(x[:1])[0]
        dstate: Any = None
        for count in range(1, n + 1):
            _, _, backward = layer.forward(x[n - count : n - count + 1])
            dx, dstate = backward(dy[-1:] if count == 1 else np.zeros_like(step), dstate)
            if count == n:
                return count if np.any(dx) else -1
            parts = dstate if isinstance(dstate, tuple) else (dstate,)
            fresh = tuple(np.where(part != 0, random.normal(size=part.shape), 0).astype(np.float32) for part in parts)
            dstate = fresh if isinstance(dstate, tuple) else fresh[0]
    for count in range(1, n + 1):
        _, backward = layer.forward(x)
        dx = backward(dy)
        if np.any(dx[0]):
            return count
        dy = np.where(np.any(dx != 0, axis=2, keepdims=True), random.normal(size=x.shape), 0).astype(np.float32)
    return -1


def _peak(program: Callable[[], Any]) -> int | None:
    """The increase of the process's peak resident memory by a program in bytes; None except on Linux."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")

    def read(field: str) -> int:
        return int(next(line for line in status.read_text().splitlines() if line.startswith(field)).split()[1]) * 1024

    try:
        before = read("VmRSS")
        reset.write_text("5")
    except OSError:
        return None
    program()
    return read("VmHWM") - before


def _memory_child() -> None:
    """Reads sizes and threads from stdin, prints the peak memory of a training step for each size."""
    request = json.loads(sys.stdin.read())
    set_num_threads(request["threads"])
    peaks = []
    for kind, n, d, k in request["sizes"]:
        layer, x = make_layer(kind, d, k), _noise(n, 1, d)

        def train(layer: Any = layer, x: Array = x) -> None:
            result = layer.forward(x)
            result[-1](result[0])

        layer.forward(x[:64])[-1](np.zeros((64, 1, d), np.float32))  # weights packed, threads started
        peaks.append(_peak(train))
    print(json.dumps(peaks))


def memory(sizes: Sequence[tuple[str, int, int, int]]) -> list[int | None]:
    """Peak bytes of forward and backward for (kind, n, d, k), in a separate process that returns freed memory immediately."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    request = json.dumps({"threads": get_num_threads(), "sizes": [list(s) for s in sizes]})
    child = [sys.executable, "-c", "from rnnfast.study.compare import _memory_child; _memory_child()"]
    done = subprocess.run(child, input=request, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the process that measures memory failed: {done.stderr.strip()[-300:]}")
    peaks: list[int | None] = json.loads(done.stdout)
    return peaks


def crossover(points: Sequence[Point], kind: str) -> float | None:
    """The n from which attention takes longer than a recurrent layer, interpolated linearly in logarithms.

    None if there is none within the sweep; the smallest size if attention always takes longer.
    """
    own = {p.n: p.best for p in points if p.kind == kind}
    ratio = [(p.n, math.log(p.best / own[p.n])) for p in points if p.kind == "attention" and p.n in own]
    ratio.sort()
    if not ratio or ratio[-1][1] <= 0:
        return None
    last_cheaper = max((i for i, (_, r) in enumerate(ratio) if r <= 0), default=-1)
    if last_cheaper < 0:
        return float(ratio[0][0])
    (n0, r0), (n1, r1) = ratio[last_cheaper], ratio[last_cheaper + 1]
    return float(math.exp(math.log(n0) + (math.log(n1) - math.log(n0)) * -r0 / (r1 - r0)))


def attending(points: Sequence[Point]) -> list[Point]:
    """The n²·d part of attention, called ``attention``: its time minus that of the projections; and the recurrent kinds."""
    projections = {p.n: p for p in points if p.kind == "projections"}
    parts = [p for p in points if p.kind in RECURRENT]
    for p in points:
        if p.kind == "attention" and p.n in projections:
            other = projections[p.n]
            least = 0.01 * p.best  # the difference of two measured times may be negative
            parts.append(
                Point(p.kind, p.n, p.d, p.rows, max(p.best - other.best, least), max(p.median - other.median, least))
            )
    return parts


def predicted_crossover(points: Sequence[Point], kind: str, d: int, k: int) -> float:
    """Where multiplications divided by measured rates are equal: (2 n d + 4 d²) / rate of attention = P d² / rate of cell,
    with P products a step.

    With equal rates and without the projections this is n = P d / 2: for the plain RNN n = d.
    """

    def rate(which: str) -> float:
        largest = max((p for p in points if p.kind == which), key=lambda p: p.n)
        return multiplications(which, largest.n, d, k) / largest.best

    return d * (PRODUCTS[kind] / 2 * rate("attention") / rate(kind) - 2)


@dataclass(frozen=True)
class Comparison:
    """The measurements of :func:`compare`."""

    d: int  # of the sweep over n
    k: int
    threads: int
    over_n: list[Point]
    over_d: list[Point]
    fits: dict[str, dict[str, Fit | None]]  # kind -> "n", "d", "memory"
    memory: list[dict[str, Any]]  # kind, n, bytes
    sequential: dict[str, dict[int, int]]
    path: dict[str, dict[int, int]]
    crossovers: dict[str, dict[str, float | None]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(
    *,
    n: Sequence[int] = (64, 128, 256, 512, 1024, 2048, 4096, 8192),
    d: Sequence[int] = (64, 128, 192, 256, 384, 512),
    k: int = 3,
    rounds: int = 7,
) -> Comparison:
    """Measures everything: times over n (at d = 128, one row) and over d, memory, chains of sequential steps, paths, crossover.

    Over d, convolution and the recurrent layers process 1,024 tokens; the latter in 32 rows, since with one row a step only
    waits for its weights, which are in L1, L2 or L3 depending on d. Attention processes max(n) / 2 tokens, for d up to an
    eighth of that.
    """
    if min(*n, *d, k, rounds) < 1:
        raise ValueError("n, d, k and rounds must be at least 1")
    width, long = 128, max(max(n) // 2, 64)
    kinds = (*KINDS, "projections")
    over_n = sweep([(kind, size, width, 1) for size in sorted(set(n)) for kind in kinds], k, rounds)
    tokens = {"conv": (1024, 1), "attention": (long, 1)}
    at_d = [
        (kind, length, size, rows)
        for size in sorted(set(d))
        for kind in KINDS
        for length, rows in [tokens.get(kind, (32, 32))]
    ]
    over_d = sweep([s for s in at_d if s[0] != "attention" or asymptotic(*s[:3])], k, rounds)
    lengths = [max(max(n) * 2 // 2**i, 64) for i in (3, 2, 1, 0)]
    asked = [(kind, size, 64, k) for kind in KINDS for size in lengths]
    peaks: list[dict[str, Any]] = [
        {"kind": kind, "n": size, "d": width_, "bytes": peak}
        for (kind, size, width_, _), peak in zip(asked, memory(asked))
    ]
    fits: dict[str, dict[str, Fit | None]] = {}
    for kind in KINDS:
        by_n = [p for p in over_n if p.kind == kind and asymptotic(kind, p.n, p.d)]
        by_d = [p for p in over_d if p.kind == kind and (p.n >= 16 * p.d if kind == "attention" else p.d >= 128)]
        used = [m for m in peaks if m["kind"] == kind and m["bytes"]]
        fits[kind] = {
            "n": fit([p.n for p in by_n], [p.best for p in by_n], THEORY[kind]["n"]),
            "d": fit([p.d for p in by_d], [p.best for p in by_d], THEORY[kind]["d"]),
            "memory": fit([m["n"] for m in used], [m["bytes"] for m in used], 1),
        }
    return Comparison(
        d=width,
        k=k,
        threads=get_num_threads(),
        over_n=over_n,
        over_d=over_d,
        fits=fits,
        memory=peaks,
        sequential={kind: {size: sequential_operations(kind, size, k=k) for size in (16, 64)} for kind in KINDS},
        path={kind: {size: longest_path(kind, size, k=k) for size in (16, 64, 256)} for kind in KINDS},
        crossovers={
            kind: {
                "part_by_multiplications": PRODUCTS[kind] / 2 * width,
                "part_measured": crossover(attending(over_n), kind),
                "whole_by_rates": predicted_crossover(over_n, kind, width, k),
                "whole_measured": crossover(over_n, kind),
            }
            for kind in RECURRENT
        },
    )


def plot(result: Mapping[str, Any] | Comparison, path: PathLike | None = None) -> Figure:
    """Log-log curves of time over n and over d and of memory over n, with the fitted exponents (extra: ``plot``)."""
    from rnnfast.plot import finish, new_figure

    r = result if isinstance(result, Comparison) else Comparison(**result)
    figure, (left, middle, right) = new_figure(3)
    colours = {"conv": "#1b7837", "attention": "#2166ac", **dict(zip(RECURRENT, itertools.cycle(_SHADES)))}
    panels = (
        (left, "n", [(p.kind, p.n, p.best * 1e3) for p in r.over_n], f"tokens n  (d = {r.d}, one row)", "milliseconds"),
        (middle, "d", [(p.kind, p.d, p.best * 1e3) for p in r.over_d], "dimensions d", "milliseconds"),
        (
            right,
            "memory",
            [(m["kind"], m["n"], m["bytes"] / 2**20) for m in r.memory if m["bytes"]],
            "tokens n  (d = 64, training)",
            "MiB at the peak",
        ),
    )
    for axes, fitted, values, label, unit in panels:
        for kind in KINDS:
            own = [(size, value) for name, size, value in values if name == kind]
            if not own:
                continue
            found = r.fits[kind][fitted]
            name = f"{kind} {fitted if fitted != 'memory' else 'n'}^{found.exponent:.2f}" if found else kind
            axes.loglog(*zip(*own), "o-", ms=4, lw=1.6, color=colours[kind], label=name)
        ticks = sorted({size for _, size, _ in values})
        axes.set_xticks(ticks[:: max(1, len(ticks) // 7)])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.minorticks_off()
        axes.set_xlabel(label)
        axes.set_ylabel(unit)
        axes.legend(fontsize=8)
    part = [(p.n, p.best * 1e3) for p in attending(r.over_n) if p.kind == "attention"]
    if part:
        left.plot(*zip(*part), "--", lw=1.2, color=colours["attention"], label="attention without projections")
        left.legend(fontsize=8)
    left.set_title("Time over tokens", fontsize=10)
    middle.set_title("Time over dimensions", fontsize=10)
    right.set_title("Memory", fontsize=10)
    return finish(figure, path, dpi=150)
