"""Runs the code of a documentation page and compares what it prints with the page.

    python docs/pages.py docs/learn/01-sequences.md            runs it, and names the first difference
    python docs/pages.py --write docs/learn/*.md               writes what it printed into the page
    python docs/pages.py --notebooks notebooks docs/learn/*.md     writes each page as a notebook, with its outputs

A page is one program: its ```` ```python ```` blocks, in order. A ```` ```output ```` block directly after one holds what that block prints.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n*```output\n(?P<output>.*?)^```\n)?", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """``code`` at its own lines of the page, so that a traceback names the right one; ``output`` is None without a block of it."""

    code: str
    output: str | None
    line: int
    span: tuple[int, int]


def blocks(text: str) -> list[Block]:
    """The Python blocks of a page with their outputs."""
    found = []
    for match in BLOCK.finditer(text):
        line = text[: match.start("code")].count("\n")
        found.append(Block("\n" * line + match["code"], match["output"], line + 1, match.span()))
    return found


def run(page: Path, names: dict[str, object] | None = None) -> list[str]:
    """What each block prints. Runs in a temporary folder, where a page may write files."""
    text = page.read_text(encoding="utf-8")
    names = {"__name__": "__page__"} if names is None else names
    printed, before = [], os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for block in blocks(text):
                out = io.StringIO()
                with contextlib.redirect_stdout(out):
                    exec(compile(block.code, str(page), "exec"), names)
                printed.append(out.getvalue())
        finally:
            os.chdir(before)
    return printed


def differences(page: Path, printed: list[str]) -> list[str]:
    """The blocks whose output is not that of the page."""
    wrong = []
    for block, actual in zip(blocks(page.read_text(encoding="utf-8")), printed):
        expected = block.output or ""
        if _stripped(expected) != _stripped(actual):
            wrong.append(f"{page.name}:{block.line} prints\n{actual}expected\n{expected}")
    return wrong


def _stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def write(page: Path, printed: list[str]) -> None:
    """Puts the outputs into the page."""
    text = page.read_text(encoding="utf-8")
    for block, actual in reversed(list(zip(blocks(text), printed))):
        code = text[slice(*block.span)].partition("\n```\n")[0]
        output = f"\n```output\n{chr(10).join(_stripped(actual))}\n```\n" if actual.strip() else ""
        text = text[: block.span[0]] + code + "\n```\n" + output + text[block.span[1] :]
    page.write_text(text, encoding="utf-8")


def notebook(page: Path) -> dict[str, object]:
    """The page as a Jupyter notebook: its words, its code, its outputs."""
    text, cells, at = page.read_text(encoding="utf-8"), [], 0

    def words(piece: str) -> None:
        piece = re.sub(
            r"</?details>|<summary>.*?</summary>|^\[(English|中文)\]\(.*\)\n\n", "", piece, flags=re.MULTILINE
        ).strip()
        if piece:
            cells.append({"cell_type": "markdown", "metadata": {}, "source": piece})

    for block in blocks(text):
        words(text[at : block.span[0]])
        at = block.span[1]
        shown = [{"output_type": "stream", "name": "stdout", "text": block.output}] if block.output else []
        code = block.code.strip("\n")
        cells.append({"cell_type": "code", "metadata": {}, "execution_count": None, "source": code, "outputs": shown})
    words(text[at:])
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--notebooks"]:
        folder = Path(arguments[1])
        folder.mkdir(parents=True, exist_ok=True)
        for page in map(Path, arguments[2:]):
            (folder / f"{page.stem}.ipynb").write_text(
                json.dumps(notebook(page), ensure_ascii=False, indent=1), encoding="utf-8"
            )
        return 0
    wrong = []
    for name in [a for a in arguments if a != "--write"]:
        page = Path(name).resolve()
        printed = run(page)
        if "--write" in arguments:
            write(page, printed)
        else:
            wrong += differences(page, printed)
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
