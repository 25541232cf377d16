"""Draws perplexity by epoch from the logs of ``benchmarks.ptb_pytorch``: one panel per log, with rnnfast and PyTorch.

python -m benchmarks.ptb_pytorch --preset d2l-rnn --cell gru > gru.json
python -m benchmarks.curves rnn.json gru.json lstm.json --published 1.3 1.1 1.1 --plot docs/pictures/timemachine.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.plot import GRID, INK, STYLES

PROGRAMS = {"rnnfast": (INK, "-", "rnnfast"), "torch": (STYLES["torch"][0], "--", "PyTorch")}


def read(path: Path) -> list[dict[str, float]]:
    """The epochs of a log."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    epochs = [line for line in lines if "epoch" in line]
    if not epochs:
        raise SystemExit(f"{path} holds no epoch: give what benchmarks.ptb_pytorch printed")
    return epochs


def plot(logs: list[Path], published: list[float], path: str) -> None:
    """Draws one panel per log, on a logarithmic scale; ``published``: a dotted line for each panel."""
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit("--plot needs matplotlib: pip install 'rnnfast[bench]'") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(logs), squeeze=False, sharey=True, layout="constrained", figsize=(3.4 * len(logs) + 0.6, 3.2)
    )
    for axis, log, figure_in_print in zip(axes[0], logs, [*published, *[0.0] * len(logs)]):
        _panel(axis, read(log), figure_in_print)
        axis.set_title(log.stem, loc="left", fontsize=10, color=INK)
    axes[0][0].set_ylabel("train perplexity")
    axes[0][-1].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, facecolor="white")
    plt.close(figure)


def _panel(axis: Any, epochs: list[dict[str, float]], published: float) -> None:
    for name, (colour, line, label) in PROGRAMS.items():
        key = f"{name}_train_perplexity"
        if key in epochs[0]:
            axis.plot(
                [e["epoch"] for e in epochs], [e[key] for e in epochs], line, color=colour, label=label, linewidth=1.2
            )
    if published:
        axis.axhline(published, color=INK, linestyle=":", linewidth=0.9, label="published")
    axis.set_yscale("log")
    axis.set_yticks([1, 1.3, 2, 5, 10, 20], labels=["1", "1.3", "2", "5", "10", "20"])
    axis.minorticks_off()
    axis.set_xlabel("epoch")
    axis.grid(color=GRID, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG")
    parser.add_argument("--published", nargs="*", type=float, default=[], help="a published figure for each log")
    parser.add_argument("--plot", required=True, metavar="PNG")
    args = parser.parse_args(argv)
    plot(args.logs, args.published, args.plot)


if __name__ == "__main__":
    main()
