"""The learning pages: every block runs, prints what the page says, and the answers to the exercises hold."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def script(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages, diagrams = script("pages"), script("diagrams")
CHAPTERS = sorted((DOCS / "learn").glob("[01]*.md"))


@pytest.mark.filterwarnings("ignore:training diverges")  # the chapter on clipping shows it
@pytest.mark.parametrize("page", [DOCS.parent / "README.md", *CHAPTERS], ids=lambda page: page.stem)
def test_a_page_runs_and_prints_what_it_says(page, threads):
    threads(1)  # results do not depend on it
    wrong = pages.differences(page, pages.run(page))
    assert not wrong, "\n".join([*wrong, f"if the page is to change: python docs/pages.py --write {page}"])


def test_there_are_eleven_chapters_and_each_has_its_parts():
    assert [page.stem[:2] for page in CHAPTERS] == [f"{n:02}" for n in range(1, 12)]
    index = (DOCS / "learn" / "index.md").read_text(encoding="utf-8")
    for page in CHAPTERS:
        text = page.read_text(encoding="utf-8")
        assert page.name in index
        parts = ("## The formula", "$$", "| the chapter | ", "## From scratch", "## Exercises")
        for part in parts:
            assert part in text, f"{page.name} has no {part}"
        assert re.search("^## Where .* wins?$", text, re.MULTILINE), page.name
        assert "< 1e-6" in text or "array_equal" in text, page.name  # the code from scratch agrees
        assert 3 <= len(re.findall(r"^\*\*\d\.\*\* ", text, re.MULTILINE)) <= 5, page.name
        assert text.count("<details><summary>Answer</summary>") == len(
            re.findall(r"^\*\*\d\.\*\* ", text, re.MULTILINE)
        )
        assert re.search(r"!\[.*\]\(\.\./pictures/learn/.*\.svg\)", text), page.name


def test_the_diagrams_are_those_that_the_program_draws(tmp_path):
    """Run ``python docs/diagrams.py`` where this fails."""
    diagrams.main(tmp_path)
    drawn = {str(file.relative_to(tmp_path)): file.read_text(encoding="utf-8") for file in tmp_path.rglob("*.svg")}
    pictures = DOCS / "pictures"
    assert drawn == {str(f.relative_to(pictures)): f.read_text(encoding="utf-8") for f in pictures.rglob("*.svg")}
    used = {name for page in CHAPTERS for name in re.findall(r"learn/[\w-]+\.svg", page.read_text(encoding="utf-8"))}
    assert used == set(drawn) - {"speed.svg"}


def test_links_between_pages_lead_to_files():
    for page in [DOCS.parent / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http", "#", "mailto")):
                assert (page.parent / target.partition("#")[0]).exists(), f"{page}: {target}"


def test_an_output_that_differs_is_named(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n\n```output\n2\n```\n\n```python\nx = 1\n```\n", encoding="utf-8")
    printed = pages.run(page)
    assert printed == ["1\n", ""]
    assert pages.differences(page, printed) == ["page.md:2 prints\n1\nexpected\n2\n"]
    pages.write(page, printed)
    assert page.read_text(encoding="utf-8").startswith("```python\nprint(1)\n```\n\n```output\n1\n```\n\n```python")
    assert not pages.differences(page, pages.run(page))


def fenced(page):
    return re.findall(r"^```.*?^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


CHINESE = {DOCS.parent / "README.zh-CN.md": DOCS.parent / "README.md"}
CHINESE.update({page: DOCS / "learn" / page.name for page in sorted((DOCS / "learn" / "zh").glob("[01]*.md"))})


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_a_chinese_page_has_the_code_and_the_outputs_of_the_english_one(page):
    assert fenced(page) == fenced(CHINESE[page])
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"[\u4e00-\u9fff]", text)) > 300


def test_a_notebook_has_the_code_and_the_outputs_of_its_page(tmp_path):
    page = CHAPTERS[0]
    assert pages.main(["--notebooks", str(tmp_path), str(page)]) == 0
    cells = json.loads((tmp_path / f"{page.stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    found = pages.blocks(page.read_text(encoding="utf-8"))
    assert [cell["source"] for cell in code] == [block.code.strip("\n") for block in found]
    assert ["".join(o["text"] for o in cell["outputs"]) or None for cell in code] == [block.output for block in found]
    assert cells[0]["source"].startswith("# 1. ")


@pytest.mark.slow
@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_a_chapter_s_notebook_runs_in_jupyter(page, tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    made = nbformat.from_dict(pages.notebook(page))
    nbformat.validate(made)
    nbclient.NotebookClient(made, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
