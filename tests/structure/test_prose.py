"""The English of documents, docstrings and messages follows the glossary of tools/prose.py."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("prose", ROOT / "tools" / "prose.py")
prose = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prose)


def found(text):
    return [message.partition(";")[0].strip("'") for _, message in prose.problems(text)]


def test_the_project_s_prose_is_clean(capsys):
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this copy is not a git repository")
    assert len(prose.documents()) > 100
    assert prose.main([]) == 0, capsys.readouterr().out


def test_words_of_the_glossary_are_found_with_their_line():
    assert found("one\nbeside the file, the the likeliest token") == ["beside", "likeliest", "the the"]
    assert [line for line, _ in prose.problems("one\ntwo beside three", 10)] == [11]
    assert found("| a | b |\n| --- | --: |\n| one | beside |") == ["beside"]
    assert found("the optimisation has learnt") == ["optimisation", "learnt"]
    assert found("A answer of its own is no answer") == ["of its own", "is no answer", "A"]
    assert found("an table, a example, less tokens, can not") == ["can not", "less tokens", "a", "an"]


def test_code_formulas_links_and_quotations_are_not_prose():
    for text in (
        "`beside` and ``a = beside``",
        "```\nbeside\n```",
        "[here](beside.md)",
        'it says "beside"',
        "$beside$ and\n\n$$beside$$",
        "<img alt=beside>",
        "text\n\n>>> beside\nbeside\n\nmore",
        "there is no beginning",
        "it is no longer there",
        "a one-hot vector, a European, a and b",
    ):
        assert not found(text), text


def test_docstrings_messages_help_texts_and_comments_of_headers_are_read(tmp_path, capsys):
    module, header, document = (tmp_path / name for name in ("a.py", "a.h", "a.md"))
    module.write_text(
        '"""Beside."""\n\nbeside = "beside"\nf(help="beside")\n\n\ndef g():\n    """At\n    once."""\n    raise ValueError(f"beside {1}")\n'
    )
    header.write_text("// fine\nint beside;\n\n// the\n// the\n")
    document.write_text("# Beside\n\n    beside\n")
    assert prose.main([str(module), str(header), str(document)]) == 1
    lines = [line.split(": ")[0].rpartition("/")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["a.py:1", "a.py:4", "a.py:8", "a.py:10", "a.h:4", "a.md:1", "6 to mend"]
