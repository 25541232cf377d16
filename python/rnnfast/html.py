"""Tables that notebooks display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_MOST_ROWS = 40


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table; with many rows, only the first and last ones."""
    hidden = len(rows) - _MOST_ROWS
    if hidden > 0:
        rows = [*rows[: _MOST_ROWS // 2], [f"… {hidden:,} more"], *rows[len(rows) - _MOST_ROWS // 2 :]]
    lines = [f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows]
    head = "".join(f"<th>{escape(head)}</th>" for head in heads)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def of_parameters(caption: str, parameters: Mapping[str, Any]) -> str:
    """Names, shapes and sizes of the weights of a layer or model, and their total."""
    rows: list[list[Any]] = [[name, " × ".join(map(str, w.shape)), int(w.size)] for name, w in parameters.items()]
    total = sum(row[2] for row in rows)
    return table(f"{caption}: {total:,} parameters, {4 * total / 1e6:,.2f} MB", ("parameter", "shape", "size"), rows)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else escape(str(value))
