"""A fresh clone in an empty folder: the first command of README and Get started, and their code, print what the pages say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "README.zh-CN.md", "docs/get-started.md", "docs/get-started.zh-CN.md"]


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def commands(page):
    """The shell commands of a page: its blocks without a language that do not hold an output."""
    found = re.findall(r"^```\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)
    return [block.strip() for block in found if block.startswith("python3 -m venv")]


def test_readme_has_two_commands_and_get_started_the_first_of_them():
    install, tests = commands("README.md")
    assert install.endswith("rnnfast train")
    assert tests.endswith("pytest -q")
    assert commands("README.zh-CN.md") == [install, tests]
    assert commands("docs/get-started.md") == commands("docs/get-started.zh-CN.md") == [install]


def without_speed(line):
    """A line of training without what the machine decides: threads, instruction set, tokens a second."""
    return re.sub(r" +[\d,]+ tokens/s.*|, \d+ threads?, \w+", "", line)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone in which the first command ran, and what it printed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout: nothing to clone")
    folder = tmp_path_factory.mktemp("empty") / "rnnfast"
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    (command, _) = commands("README.md")
    run = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return folder, run.stdout


@pytest.mark.large
def test_the_first_command_prints_the_lines_of_readme(clone):
    printed = clone[1].splitlines()
    shown = re.search(r"^```\n(Python's help texts.*?)^\.\.\.\n```", text_of("README.md"), re.DOTALL | re.MULTILINE)[1]
    at = next(i for i, line in enumerate(printed) if line.startswith("Python's help texts"))
    lines = [(without_speed(a), without_speed(b)) for a, b in zip(shown.splitlines(), printed[at:])]
    assert len(lines) == 4
    same_text = lines[0][0] == lines[0][1]
    for expected, actual in lines:
        if same_text:  # then every bit is the same
            assert actual == expected
        else:
            assert re.sub(r"[\d.,]+", "0", actual) == re.sub(r"[\d.,]+", "0", expected)
    print("the text is that of README" if same_text else f"another Python, another text: {lines[0][1]}")


@pytest.mark.large
@pytest.mark.parametrize("page", PAGES)
def test_the_code_prints_the_outputs_of_the_page(clone, tmp_path, page):
    blocks = re.findall(
        r"^```python\n(.*?)^```\n(?:\n*```output\n(.*?)^```\n)?", text_of(page), re.DOTALL | re.MULTILINE
    )
    program = tmp_path / "program.py"
    program.write_text("\n".join(code for code, _ in blocks), encoding="utf-8")
    python = clone[0] / ".venv" / "bin" / "python"
    run = subprocess.run([python, program], cwd=tmp_path, capture_output=True, text=True)
    expected = "".join(output for _, output in blocks)  # without spaces at the ends of lines
    assert [line.rstrip() for line in run.stdout.splitlines()] == expected.splitlines(), run.stderr
    if "get-started" in page:
        command = re.search(r"`(rnnfast generate .*?)`", text_of(page))[1]
        run = subprocess.run(["bash", "-c", f"{python.parent}/{command}"], cwd=tmp_path, capture_output=True, text=True)
        assert run.stdout.startswith("hello "), run.stderr
