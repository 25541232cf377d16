"""Runs the code of a documentation page and compares what it prints with the page.

    python docs/pages.py docs/learn/01-sequences.md            runs it, and names the first difference
    python docs/pages.py --write docs/learn/*.md               writes what it printed into the page
    python docs/pages.py --notebooks                           writes every chapter as a notebook with its outputs, into notebooks/
    python docs/pages.py --notebooks FOLDER PAGE ...           writes these pages as notebooks

A page is one program: its ```` ```python ```` blocks, in order. A ```` ```output ```` block directly after one holds what that block prints.
Blocks of ```` ```python torch ```` need PyTorch; only a test runs them, after the others.
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


DOCS = Path(__file__).parent
NOTEBOOKS = DOCS.parent / "notebooks"


def notebooks() -> dict[Path, Path]:
    """The chapters in both languages by their notebooks."""
    chapters = sorted((DOCS / "learn").rglob("[01]*.md"))
    return {NOTEBOOKS / page.relative_to(DOCS / "learn").with_suffix(".ipynb"): page for page in chapters}


def _moved(text: str, page: Path, folder: Path) -> str:
    """Links of the page's text, seen from a notebook in ``folder``: to other chapters as notebooks, to anything else as it is."""
    chapters = {chapter.resolve(): file for file, chapter in notebooks().items()}

    def link(match: re.Match[str]) -> str:
        target, mark, part = match[1].partition("#")
        file = (page.parent / target).resolve()
        if "://" in match[1] or not target or not file.exists():
            return match[0]
        if file in chapters and file.parent == page.parent.resolve():
            return f"]({chapters[file].name}{mark}{part})"
        return f"]({Path(os.path.relpath(file, folder.resolve())).as_posix()}{mark}{part})"

    return re.sub(r"\]\(([^)\s]+)\)", link, text)


def notebook(page: Path, folder: Path) -> dict[str, object]:
    """The page as a Jupyter notebook in ``folder``: its words, its code, its outputs."""
    text, cells, at = page.read_text(encoding="utf-8"), [], 0

    def words(piece: str) -> None:
        piece = re.sub(
            r"</?details>|<summary>.*?</summary>|^\[(English|中文)\]\(.*\)\n\n", "", piece, flags=re.MULTILINE
        ).strip()
        if piece:
            cells.append({"cell_type": "markdown", "metadata": {}, "source": _moved(piece, page, folder)})

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


def notebook_text(page: Path, file: Path) -> str:
    """The notebook of a page as its file holds it."""
    return json.dumps(notebook(page, file.parent), ensure_ascii=False, indent=1) + "\n"


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--notebooks"]:
        given = {Path(arguments[1]) / f"{Path(page).stem}.ipynb": Path(page) for page in arguments[2:]}
        for file, page in (given or notebooks()).items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(notebook_text(page, file), encoding="utf-8")
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
