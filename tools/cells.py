"""Writes what follows from the table of cells: names for type checkers, the list of the benchmarks, and the lists in the documentation.

python tools/cells.py            after a change of cpp/src/ops/cell.cpp and a build
python tools/cells.py --check    exits with status 1 if a file is not what the table says
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from rnnfast import _core
from rnnfast.nn import LAYERS

ROOT = Path(__file__).parents[1]
NAMES = ROOT / "python" / "rnnfast" / "_names.py"
BENCHMARKS = ROOT / "benchmarks" / "cells.py"
DOCUMENT, COMMANDS = ROOT / "docs" / "model-file.md", ROOT / "docs" / "command-line.md"
MARKS = ("<!-- cells: written by tools/cells.py -->\n", "<!-- end of the cells -->")


def written() -> dict[Path, str]:
    """Each file, and what it should hold."""
    cells = _core.cells()
    names = ", ".join(f'"{cell.name}"' for cell in cells)
    rows = [f"| `{cell.name}` | {cell.description} | {cell.gates} ({cell.gate_order}) |\n" for cell in cells]
    table = "".join(["| `cell` | what it is | G gates, in this order |\n| --- | --- | --- |\n", *rows])
    document = replaced(DOCUMENT, f"({re.escape(MARKS[0])}).*({re.escape(MARKS[1])})", table)
    commands = replaced(COMMANDS, r"(`--cell )[\w|]+(`\.)", "|".join(cell.name for cell in cells))
    head = '"""Names of the compiled core for type checkers; written by tools/cells.py."""\n\n'
    files = {
        NAMES: f"{head}from typing import Literal\n\nCell = Literal[\n    {names}\n]\n",
        DOCUMENT: document,
        COMMANDS: commands,
    }
    if BENCHMARKS.parent.exists():  # not in a source distribution
        files[BENCHMARKS] = benchmarked()
    return files


def replaced(file: Path, pattern: str, text: str) -> str:
    """The file with ``text`` between the two groups of ``pattern``."""
    changed, count = re.subn(
        pattern, lambda found: found[1] + text + found[2], file.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{file} has {count} places for its list of cells, expected one like {pattern}")
    return changed


def benchmarked() -> str:
    """A file, since the benchmarks also run revisions that have another table. Cells that share a class are measured once,
    and those without a recurrent product by benchmarks/scan_layers.py.
    """
    cells = [cell for cell in _core.cells() if cell.recurrent and isinstance(LAYERS[cell.name], type)]
    gates = {LAYERS[cell.name].__name__: cell.gates for cell in cells}
    listed = ", ".join(f'"{name}": {count}' for name, count in gates.items())
    return f'"""The gates of each recurrent layer, by its class in rnnfast; written by tools/cells.py."""\n\nGATES = {{{listed}}}\n'


def main() -> None:
    stale = {
        file: text for file, text in written().items() if not file.exists() or file.read_text(encoding="utf-8") != text
    }
    if "--check" in sys.argv[1:]:
        sys.exit(f"run python tools/cells.py: {', '.join(map(str, stale))}" if stale else 0)
    for file, text in stale.items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
