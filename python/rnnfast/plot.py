"""Pictures: one place that knows matplotlib."""

from __future__ import annotations

from typing import Any


def new_figure(columns: int = 1) -> tuple[Any, Any]:
    """A matplotlib figure and its axes, outside pyplot, so no window and no global state (extra: ``plot``)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("a plot needs matplotlib: pip install 'rnnfast[plot]'") from None
    figure = Figure(figsize=(7 * columns, 4), layout="constrained")
    axes = figure.subplots(1, columns)
    for one in axes if columns > 1 else [axes]:
        one.grid(alpha=0.3, which="both")
    return figure, axes
