"""The learning pages: every block runs, prints what the page says, and the answers to the exercises hold."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
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
@pytest.mark.parametrize(
    "page",
    [DOCS.parent / "README.md", DOCS / "get-started.md", DOCS / "networks.md", *CHAPTERS],
    ids=lambda page: page.stem,
)
def test_a_page_runs_and_prints_what_it_says(page, threads):
    threads(1)  # results do not depend on it
    wrong = pages.differences(page, pages.run(page))
    assert not wrong, "\n".join([*wrong, f"if the page is to change: python docs/pages.py --write {page}"])


@pytest.mark.parametrize("page", [page for page in CHAPTERS if "```python torch" in page.read_text(encoding="utf-8")])
def test_an_answer_with_pytorch_holds(page):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    names = {"__name__": "__page__"}
    pages.run(page, names)
    for code in re.findall(r"^```python torch\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        exec(compile(code, str(page), "exec"), names)


def test_there_are_eleven_chapters_and_each_has_its_parts():
    assert [page.stem[:2] for page in CHAPTERS] == [f"{n:02}" for n in range(1, 12)]
    index = (DOCS / "learn" / "index.md").read_text(encoding="utf-8")
    for page in CHAPTERS:
        text = page.read_text(encoding="utf-8")
        assert page.name in index
        parts = ("## The formula", "$$", "| the book | ", "## From scratch", "## Exercises")
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
    pages_with_pictures = [
        *(DOCS / "learn").rglob("[01]*.md"),
        DOCS.parent / "README.md",
        DOCS.parent / "README.zh-CN.md",
    ]
    shown = (re.findall(r"pictures/([\w/-]+\.svg)", page.read_text(encoding="utf-8")) for page in pages_with_pictures)
    assert {name for names in shown for name in names} == set(drawn)


def test_the_drawings_of_chinese_pages_have_chinese_words():
    labels = {label for drawing in diagrams.drawings().values() for label in drawing.labels()}
    words = {label for label in labels if re.search("[A-Za-z]{2,}", re.sub(r"_\w+|log P", "", label))}
    translated = script("diagram_labels")
    assert words - translated.UNCHANGED == set(translated.CHINESE)
    assert all(re.search("[\u4e00-\u9fff]", text) for text in translated.CHINESE.values())
    for page in [*(DOCS / "learn" / "zh").glob("*.md"), DOCS.parent / "README.zh-CN.md", DOCS / "index.zh-CN.md"]:
        for picture in re.findall(r"pictures/([\w/-]+\.svg)", page.read_text(encoding="utf-8")):
            assert "zh" in picture.split("/"), page


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
CHINESE.update({DOCS / f"{name}.zh-CN.md": DOCS / f"{name}.md" for name in ("get-started", "releases")})
CHINESE.update({DOCS / "learn" / "zh" / page.name: page for page in CHAPTERS})


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_a_chinese_page_has_the_code_the_outputs_and_the_parts_of_the_english_one(page):
    assert fenced(page) == fenced(CHINESE[page])
    text, english = page.read_text(encoding="utf-8"), CHINESE[page].read_text(encoding="utf-8")
    assert len(re.findall(r"[\u4e00-\u9fff]", text)) > 100
    for part in (r"^#+ ", r"^\*\*\d\.\*\* ", "^<details><summary>", r"^!\[.*?\]", r"^\$\$", r"^\|"):
        assert len(re.findall(part, text, re.MULTILINE)) == len(re.findall(part, english, re.MULTILINE)), part


@pytest.mark.parametrize("page", [*CHINESE, DOCS / "learn" / "zh" / "index.md"], ids=lambda page: page.name)
def test_chinese_has_full_width_marks_and_a_space_beside_latin_letters(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL))
    shown = re.sub(r"!?\[|[]*]", "", text)
    character = "[\u4e00-\u9fff]"
    wrong = re.findall(rf".{{0,9}}(?:{character}[,.;:!?()]|[,;:!?()]{character}).{{0,9}}", shown)
    wrong += re.findall(rf".{{0,9}}(?:{character}[A-Za-z0-9`$]|[A-Za-z0-9`$]{character}).{{0,9}}", shown)
    assert not wrong


def test_a_page_in_both_languages_links_to_the_other():
    index = DOCS / "learn" / "zh" / "index.md"
    for chinese, english in {**CHINESE, index: DOCS / "learn" / "index.md"}.items():
        for page, other, name in ((chinese, english, "English"), (english, chinese, "中文")):
            link = f"[{name}]({os.path.relpath(other, page.parent)})"
            assert link in "".join(page.read_text(encoding="utf-8").splitlines(keepends=True)[:4]), page


# The book's sections: their names in both languages, the chapter that covers each, and a term that its page must have.
SECTIONS = [
    ("Sequence models", "序列模型", "01-sequences.md", "sequence model", "序列模型"),
    ("Text preprocessing", "文本预处理", "03-text.md", "text preprocessing", "文本预处理"),
    ("Language models and the data set", "语言模型和数据集", "02-markov.md", "language model", "语言模型"),
    ("Recurrent neural networks", "循环神经网络", "05-hidden-state.md", "recurrent network", "循环神经网络"),
    ("Recurrent neural networks from scratch", "循环神经网络的从零开始实现", "05-hidden-state.md", "from scratch", "从零开始实现"),
    ("Concise recurrent neural networks", "循环神经网络的简洁实现", "05-hidden-state.md", "concise implementation", "简洁实现"),
    ("Back-propagation through time", "通过时间反向传播", "05-hidden-state.md", "back-propagation through time", "通过时间反向传播"),
    ("Gated recurrent units (GRU)", "门控循环单元（GRU）", "08-gates.md", "gru", "门控循环单元"),
    ("Long short-term memory (LSTM)", "长短期记忆网络（LSTM）", "08-gates.md", "lstm", "长短期记忆网络"),
    ("Deep recurrent neural networks", "深度循环神经网络", "08-gates.md", "*deep* network", "深度循环神经网络"),
    ("Bidirectional recurrent neural networks", "双向循环神经网络", "08-gates.md", "*bidirectional* network", "双向循环神经网络"),
    ("Machine translation and the data set", "机器翻译与数据集", "09-encoder-decoder.md", "machine translation data set", "机器翻译数据集"),
    ("The encoder-decoder architecture", "编码器-解码器架构", "09-encoder-decoder.md", "encoder-decoder", "编码器-解码器"),
    ("Sequence to sequence learning (seq2seq)", "序列到序列学习（seq2seq）", "09-encoder-decoder.md", "sequence to sequence", "序列到序列"),
    ("Beam search", "束搜索", "10-attention.md", "beam search", "束搜索"),
    ("Bahdanau attention", "Bahdanau 注意力", "10-attention.md", "bahdanau", "bahdanau"),
    (
        "Convolution, recurrence and self-attention compared", "比较卷积神经网络、循环神经网络和自注意力", "11-compared.md",
        "self-attention", "自注意力",
    ),
]  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section[0])
def test_a_section_of_the_book_has_a_place_in_both_languages(section):
    *names, page, term, chinese_term = section
    for folder, name, word in zip((DOCS / "learn", DOCS / "learn" / "zh"), names, (term, chinese_term)):
        index = (folder / "index.md").read_text(encoding="utf-8").splitlines()
        assert any(line.startswith(f"| {name} |") and f"({page})" in line for line in index)
        assert word in " ".join((folder / page).read_text(encoding="utf-8").lower().split())


def test_a_notebook_has_the_code_and_the_outputs_of_its_page(tmp_path):
    page = CHAPTERS[0]
    assert pages.main(["--notebooks", str(tmp_path), str(page)]) == 0
    cells = json.loads((tmp_path / f"{page.stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    found = pages.blocks(page.read_text(encoding="utf-8"))
    assert [cell["source"] for cell in code] == [block.code.strip("\n") for block in found]
    assert ["".join(o["text"] for o in cell["outputs"]) or None for cell in code] == [block.output for block in found]
    assert cells[0]["source"].startswith("# 1. ")
    assert "[中文]" not in cells[0]["source"]  # a notebook stands alone


NOTEBOOKS = pages.notebooks()


def test_the_notebooks_are_those_of_the_chapters():
    """Run ``python docs/pages.py --notebooks`` where this fails."""
    assert len(NOTEBOOKS) == 22
    assert set(pages.NOTEBOOKS.rglob("*.ipynb")) == set(NOTEBOOKS)
    old = [
        file for file, page in NOTEBOOKS.items() if file.read_text(encoding="utf-8") != pages.notebook_text(page, file)
    ]
    assert not old
    assert sum(file.stat().st_size for file in NOTEBOOKS) < 1_000_000


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: "-".join(file.relative_to(pages.NOTEBOOKS).parts))
def test_links_of_a_notebook_lead_to_files(file):
    words = [
        cell["source"]
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    ]
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", "\n".join(words)) if not t.startswith(("http", "#"))]
    assert targets
    assert not [target for target in targets if not (file.parent / target.partition("#")[0]).exists()]


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: "-".join(file.relative_to(pages.NOTEBOOKS).parts))
def test_a_chapter_s_notebook_runs_in_jupyter_and_prints_what_it_holds(file, tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    stored = nbformat.read(file, 4)
    nbformat.validate(stored)
    again = copy.deepcopy(stored)
    nbclient.NotebookClient(again, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for before, after in zip(stored.cells, again.cells):
        printed, expected = (
            "".join(o.get("text", "") for o in cell.get("outputs", []) if o.get("name") != "stderr")
            for cell in (after, before)
        )
        assert [line.rstrip() for line in printed.rstrip().splitlines()] == [
            line.rstrip() for line in expected.rstrip().splitlines()
        ]
