"""Summarizes samples as one plain dict per case, and dicts as tables. A ratio above 1 means that rnnfast is faster."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.bounds import Rates, bound_seconds
from benchmarks.cases import Case
from benchmarks.measure import ALONE, Measured
from benchmarks.peers import PEERS

LABELS = {
    "torch": "PyTorch", "torch_bf16": "autocast", "torch_cell": "torch Cell", "torch_compile": "compiled",
    "onnxruntime": "ONNX RT",
    "openvino": "OpenVINO", "openvino_bf16": "OV bf16", "jax": "JAX",
}  # fmt: skip


def summarise(case: Case, rates: Rates, measured: Measured, weights: str = "f32") -> dict[str, Any]:
    """Everything about one case and one precision of the weights; bf16 is compared with the other frameworks' bf16."""
    bf16 = weights == "bf16"
    ours = "rnnfast_bf16" if bf16 else "rnnfast"
    own = {"rnnfast", "rnnfast_bf16", ALONE}
    peers = [name for name in measured.times if name not in own and name.endswith("_bf16") == bf16]
    median = {name: statistics.median(times) for name, times in measured.times.items()}
    best = {name: min(times) for name, times in measured.times.items()}
    bound = bound_seconds(case, rates, bf16=bf16)
    result: dict[str, Any] = {
        "case": case.name,
        "weights": weights,
        "threads": rates.threads,
        **{f"case_{name}": value for name, value in asdict(case).items()},
        "rounds": measured.rounds,
        "ours": ours,
        "median_ms": {name: 1e3 * median[name] for name in [ours, *peers]},
        "best_ms": {name: 1e3 * best[name] for name in [ours, *peers]},
        "differences": {name: measured.differences[name] for name in [ours, *peers]},
        "bound_ms": 1e3 * bound,
        "of_bound": bound / best[ours],
        "gflops": case.flops / best[ours] / 1e9,
        "ratio": {name: median[name] / median[ours] for name in peers},
        "best_ratio": {name: best[name] / best[ours] for name in peers},
        "skipped": measured.skipped,
        "wrong": measured.wrong,
        "rates": rates.as_dict(),
    }
    fastest = min(peers, key=lambda name: median[name], default=None)
    result["fastest_peer"] = fastest
    result["ratio_to_fastest"] = result["ratio"][fastest] if fastest else None
    result["loses_to"] = [name for name in peers if min(result["ratio"][name], result["best_ratio"][name]) < 1]
    if bf16:
        result["speedup_over_f32"] = median["rnnfast"] / median[ours]
    if ALONE in median and not bf16:
        result["speedup_over_one_thread"] = median[ALONE] / median[ours]
    return result


def columns(names: Iterable[str], kind: str) -> list[str]:
    """The frameworks that support this kind of case, in the order of LABELS."""
    names = set(names)
    return [name for name in LABELS if name in names and kind in PEERS[name].kinds]


def header(peers: Sequence[str], unit: str) -> list[str]:
    labels = [LABELS.get(name, name) for name in peers]
    tail = ["×PyTorch", "×fastest", f"bound {unit}", "of bound", "speed-up", ""]
    return ["case", "threads", f"rnnfast {unit}", *labels, *tail]


def row(result: dict[str, Any], peers: Sequence[str], unit: str) -> list[str]:
    """Cells of a table: medians, ratios of medians, the best run's fraction of the bound, and a mark if it loses."""
    scale = 1e3 if unit == "µs" else 1.0
    median = result["median_ms"]

    def number(value: float | None, digits: int = 3) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    times = [number(median[name] * scale if name in median else None) for name in [result["ours"], *peers]]
    more = result.get("speedup_over_f32") or result.get("speedup_over_one_thread")
    return [
        result["case"] + (" bf16" if result["weights"] == "bf16" else ""),
        str(result["threads"]),
        *times,
        number(result["ratio"].get("torch"), 2),
        number(result["ratio_to_fastest"], 2),
        number(result["bound_ms"] * scale),
        number(result["of_bound"], 2),
        number(more, 2),
        mark(result),
    ]


def mark(result: dict[str, Any]) -> str:
    notes = ["**loses** to " + ", ".join(LABELS.get(name, name) for name in result["loses_to"])] * bool(
        result["loses_to"]
    )
    return "; ".join(notes + [f"{name}: {why}" for name, why in result["wrong"].items()])


def aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return cells[0].ljust(widths[0]) + "".join(f"  {cell:>{width}}" for cell, width in zip(cells[1:], widths[1:]))


def widths_for(peers: Sequence[str]) -> list[int]:
    return [46, 7, 10, *[10] * len(peers), 9, 9, 10, 8, 8, 0]


def unit_of(kind: str) -> str:
    return "µs" if kind == "stream" else "ms"


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Tables for docs/performance.md: one for every kind of case, losing cases marked."""
    parts = []
    for kind in dict.fromkeys(result["case_kind"] for result in results):
        of_kind = [result for result in results if result["case_kind"] == kind]
        peers = columns({name for result in of_kind for name in result["ratio"]}, kind)
        unit = unit_of(kind)
        rows = [header(peers, unit), ["---"] * (len(peers) + 9), *[row(result, peers, unit) for result in of_kind]]
        parts.append("\n".join("| " + " | ".join(cells) + " |" for cells in rows))
    return "\n\n".join(parts)


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def summary(results: Sequence[dict[str, Any]]) -> list[str]:
    """For every kind, cell and thread count: smallest and mean ratio, and how many cases lose."""
    lines = []
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        key = (result["case_kind"], result["case_cell"], result["weights"], result["threads"])
        groups.setdefault(key, []).append(result)
    for (kind, cell, weights, threads), group in groups.items():
        text = f"{kind} {cell} {weights}, {threads} thread{'s' * (threads > 1)}:"
        to_torch = [result["ratio"]["torch"] for result in group if "torch" in result["ratio"]]
        to_fastest = [result["ratio_to_fastest"] for result in group if result["ratio_to_fastest"]]
        for label, ratios in (("PyTorch", to_torch), ("the fastest", to_fastest)):
            if ratios:
                text += f" {label} ≥ {min(ratios):.2f}, mean {geometric_mean(ratios):.2f};"
        lines.append(text + f" {sum(bool(result['loses_to']) for result in group)} of {len(group)} lose")
    return lines


def rates_line(rates: Rates, info: dict[str, Any]) -> str:
    levels = ", ".join(f"{level.name} {level.bytes_per_second / 1e9:.0f}" for level in rates.levels)
    bf16 = f", bf16 {rates.bf16_flops / 1e9:.0f}" if rates.bf16_flops else ""
    return (
        f"rnnfast {info['version']}, {info['isa_active']}, {info['compiler']}, {rates.threads} thread"
        f"{'s' * (rates.threads > 1)}: fp32 {rates.fma_flops / 1e9:.1f}{bf16} GFLOP/s; {levels} GB/s"
    )
