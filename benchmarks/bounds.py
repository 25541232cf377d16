"""A time that no program can beat: the arithmetic at the rate of the machine, the weights at the bandwidth of their cache."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.cells import GATES


@dataclass(frozen=True)
class Level:
    """A cache or the main memory: the capacity and the read bandwidth for all threads together."""

    name: str
    bytes: float
    bytes_per_second: float


@dataclass(frozen=True)
class Rates:
    """The rates of `threads` threads together; bf16 is 0 if the CPU has no instruction for it."""

    threads: int
    fma_flops: float
    bf16_flops: float
    levels: tuple[Level, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cache_sizes() -> dict[str, tuple[int, bool]]:
    """Bytes of L1 (data), L2 and L3, and whether cores share it; common sizes if the system does not report them."""
    sizes = {"L1": (32 << 10, False), "L2": (1 << 20, False), "L3": (32 << 20, True)}
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        level, kind, size, shared = (
            (index / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
        )
        number = re.fullmatch(r"(\d+)([KMG])", size)
        if kind != "Instruction" and number and f"L{level}" in sizes:
            sizes[f"L{level}"] = (int(number[1]) * units[number[2]], bool(re.search("[,-]", shared)) and level == "3")
    return sizes


def measure_rates(core: Any, threads: int, seconds: float = 0.3) -> Rates:
    """``core`` is ``rnnfast._core``, whose kernels run the multiply-adds and loads of the active instruction set."""
    sizes = cache_sizes()
    (l1, _), (l2, _), (l3, l3_shared) = sizes["L1"], sizes["L2"], sizes["L3"]
    # Each thread reads a buffer much smaller than this cache and much larger than the previous one.
    inside = {"L1": l1 // 2, "L2": l2 // 2, "L3": min(4 * l2, l3 // (2 * threads)), "DRAM": min(4 * l3, 128 << 20)}
    read = {name: core.read_rate(size, threads, seconds) for name, size in inside.items()}
    return Rates(
        threads,
        core.multiply_add_rate(threads, seconds),
        core.bf16_rate(threads, seconds),
        (
            Level("L1", l1 * threads, read["L1"]),
            Level("L2", l2 * threads, read["L2"]),
            Level("L3", l3 if l3_shared else l3 * threads, read["L3"]),
            Level("DRAM", float("inf"), read["DRAM"]),
        ),
    )


def product_seconds(rates: Rates, rows: float, weights: float, *, resident: float = 0, bf16: bool = False) -> float:
    """Least time of a product of rows with a matrix of `weights` numbers, read once and split over the threads.

    resident: how many other numbers the cache must keep, because they are read again before this matrix.
    """
    size = 2 if bf16 else 4
    flops = rates.bf16_flops if bf16 and rates.bf16_flops else rates.fma_flops
    level = next(level for level in rates.levels if size * (weights + resident) <= level.bytes)
    return max(2 * rows * weights / flops, size * weights / level.bytes_per_second)


def bound_seconds(case: Case, rates: Rates, *, bf16: bool = False) -> float:
    """The sum over phases of the larger of two times: the arithmetic, and reading the weights.

    Forward is a product of all T N rows with W_ih, then T products of N rows with W_hh. Backward repeats the T products (for
    the state's gradient) and adds two over all rows for the weights' gradients and one for the input's. A streaming step
    reads both matrices every time. Pointwise work, activations and updates cost nothing here.
    """
    gate_rows = GATES[case.cell] * case.H
    parts = [(width * gate_rows, case.H * gate_rows) for width in case.widths() for _ in range(case.directions)]

    def product(rows: float, weights: float, resident: float = 0) -> float:
        return product_seconds(rates, rows, weights, resident=resident, bf16=bf16)

    if case.kind == "stream":
        matrices = [matrix for part in parts for matrix in part]
        return sum(product(case.N, matrix, resident=sum(matrices) - matrix) for matrix in matrices)
    seconds = 3 * sum(product(rows, weights) for rows, weights in case.output_products())
    for input_part, recurrent in parts:
        over_rows = product(case.tokens, input_part)
        over_time = case.T * product(case.tokens / case.T, recurrent)
        seconds += over_rows + over_time
        if case.kind != "forward":
            seconds += over_time + 2 * over_rows + product(case.tokens, recurrent)
    return seconds
