"""Draws the ratios: one row per case, one column per thread count; rnnfast loses to the left of 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.report import LABELS

TITLES = {
    "forward": "Forward, whole sequences",
    "train": "Training: forward, backward, all gradients",
    "stream": "Streaming: one row, one step",
    "lm": "Language model: a whole training step",
}
STYLES = {
    "torch": ("#d1495b", "o"), "torch_bf16": ("#d1495b", "v"), "torch_cell": ("#b07aa1", "s"), "torch_compile": ("#f28e2b", "P"),
    "onnxruntime": ("#2e86ab", "D"), "openvino": ("#59a14f", "^"), "openvino_bf16": ("#59a14f", "v"),
    "jax": ("#edae49", "X"),
}  # fmt: skip
INK, GRID, LOSING = "#22313f", "#e3e6ea", "#fbe9e7"


def plot(results: Sequence[dict[str, Any]], path: str) -> None:
    """Needs matplotlib: ``pip install 'rnnfast[bench]'``."""
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit("--plot needs matplotlib: pip install 'rnnfast[bench]'") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with_peers = [result for result in results if result["ratio"]]
    if not with_peers:
        raise SystemExit("--plot: no case was measured with another framework")
    kinds = list(dict.fromkeys(result["case_kind"] for result in with_peers))
    threads = sorted({result["threads"] for result in with_peers})
    rows = {kind: _cases(with_peers, kind) for kind in kinds}
    heights = [len(rows[kind]) + 2.2 for kind in kinds]
    figure, axes = plt.subplots(
        len(kinds), len(threads), squeeze=False, sharex="row", layout="constrained",
        figsize=(3.4 + 4.6 * len(threads), 0.26 * sum(heights) + 1.5), gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for line, kind in enumerate(kinds):
        ratios = [ratio for r in with_peers if r["case_kind"] == kind for ratio in r["ratio"].values()]
        for column, count in enumerate(threads):
            chosen = [r for r in with_peers if (r["case_kind"], r["threads"]) == (kind, count)]
            axis = axes[line][column]
            if not chosen:
                axis.set_axis_off()
                continue
            _panel(axis, chosen, rows[kind], labelled=column == 0, ends=(min(ratios), max(ratios)))
            axis.set_title(f"{TITLES[kind]} · {count} thread{'s' * (count > 1)}", loc="left", fontsize=10, color=INK)
    _frame(figure, [name for name in PEERS if any(name in result["ratio"] for result in with_peers)], with_peers[0])
    figure.savefig(path, dpi=150, facecolor="white")
    plt.close(figure)


def _label(result: dict[str, Any]) -> str:
    name = result["case"].split(" ", 1)[1]
    if result["case_kind"] == "lm":
        T, N, V, E, H, layers = (result[f"case_{key}"] for key in ("T", "N", "V", "D", "H", "layers"))
        name = f"{result['case_cell']} {T}x{N}, V {V:,}, {f'E {E}' if E else 'one-hot'}, {layers}x{H}"
    return name.replace("x", "×") + (" bf16" if result["weights"] == "bf16" else "")


def _cases(results: Sequence[dict[str, Any]], kind: str) -> list[str]:
    return list(dict.fromkeys(_label(result) for result in results if result["case_kind"] == kind))


def _panel(axis: Any, results: Sequence[dict[str, Any]], rows: list[str], *, labelled: bool, ends: Any) -> None:
    """Draws a dot for every framework; a thin line joins the dots of a case, so that the nearest to 1 is easy to see."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    low, high = min(0.8, ends[0] / 1.1), max(2.2, ends[1] * 1.15)
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.axvspan(low, 1, color=LOSING, zorder=0)
    axis.axvline(1, color=INK, linewidth=1, zorder=1)
    for result in results:
        y = rows.index(_label(result))
        values = result["ratio"]
        axis.plot([min(values.values()), max(values.values())], [y, y], color="#c9d0d6", linewidth=1.2, zorder=2)
        for name, ratio in values.items():
            color, marker = STYLES[name]
            axis.scatter(ratio, y, s=30, color=color, marker=marker, edgecolor="white", linewidth=0.5, zorder=3)
    axis.text(0.985, -0.5, "slower", ha="right", va="top", fontsize=7, style="italic", color="#b0615a", rotation=90)
    wide = (0.5, 0.8, 1, 1.5, 2, 3, 5, 10, 20, 50)
    ticks = [tick for tick in (wide if high / low > 6 else (0.5, 0.8, 1, 1.25, 1.5, 2, 3, 5)) if low <= tick <= high]
    axis.set_xticks(ticks)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.tick_params(axis="both", length=0, labelsize=8, colors=INK, labelbottom=True)
    axis.set_yticks(range(len(rows)), rows if labelled else [""] * len(rows))
    axis.grid(axis="x", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    for a, b in zip(range(len(rows)), range(1, len(rows))):  # a line between cells
        if rows[a].split()[0] != rows[b].split()[0]:
            axis.axhline(a + 0.5, color=GRID, linewidth=1.2)
    for side in axis.spines.values():
        side.set_visible(False)


def _frame(figure: Any, peers: list[str], result: dict[str, Any]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], linestyle="", marker=STYLES[name][1], color=STYLES[name][0], markersize=6, label=LABELS[name])
        for name in peers
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=len(marks), frameon=False, fontsize=9)
    text = f"Time of a framework / time of rnnfast, log scale; in the shaded area rnnfast is slower. {result['info']['isa_active']}."
    figure.supxlabel(text, fontsize=9, color=INK)
