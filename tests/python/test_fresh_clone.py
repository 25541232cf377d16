"""A fresh clone in an empty folder: the first command of README and Get started, and their code, print what the pages say."""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import rnnfast as rf
from rnnfast.text import datasets

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


def clone_command(page):
    """The line that clones, and what the page says it prints."""
    return re.search(r"^```\n(git clone ADDRESS .*)\n```\n\n```\n(.*)\n```$", text_of(page), re.MULTILINE).groups()


def first_lines(page):
    """The lines that the page shows beneath the first command, and the version of their Python."""
    shown = re.search(r"^```\n(Python ([\d.]+)'s help texts.*?)^\.\.\.\n```", text_of(page), re.DOTALL | re.MULTILINE)
    return shown[1].splitlines(), shown[2]


def numbers_of_versions(page):
    """Tokens, vocabulary and the perplexities of two epochs, by the versions of Python in the page's table."""
    rows = re.findall(r"^\| (\d+\.\d+\.\d+) \| (.+) \|$", text_of(page), re.MULTILINE)
    return {version: cells.split(" | ") for version, cells in rows}


def expected_lines(version):
    """The first lines with a Python that the table of Get started has, without what the machine decides; None for another one."""
    numbers = numbers_of_versions("docs/get-started.md").get(version)
    if numbers is None:
        return None
    lines = [without_speed(line) for line in first_lines("README.md")[0]]
    lines[0] = f"Python {version}'s help texts: {numbers[0]} char tokens, vocabulary of {numbers[1]}"
    lines[1] = re.sub(r"[\d,]+(?= parameters)", f"{parameters(int(numbers[1])):,}", lines[1])
    for i in (2, 3):
        words = f"train perplexity {numbers[2 * i - 2]:>8}  validation {numbers[2 * i - 1]:>8}"
        lines[i] = re.sub(r"train perplexity.*", words, lines[i])
    return lines


def parameters(vocabulary, units=256):
    """Those of a model of one RNN that reads token ids, and its output layer."""
    return units * vocabulary + units * units + 2 * units + units * vocabulary + vocabulary


def without_speed(line):
    """A line of training without what the machine decides: threads, instruction set, tokens a second."""
    return re.sub(r" +[\d,]+ tokens/s.*|, \d+ threads?, \w+", "", line)


def cloned(folder):
    """A clone by the command of README, and what the command printed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout: nothing to clone")
    command = clone_command("README.md")[0].replace("ADDRESS", shlex.quote(str(ROOT)))
    run = subprocess.run(["bash", "-c", f"{command} && pwd -P"], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return Path(run.stdout.strip()), run.stderr


def test_the_line_that_clones_leads_to_a_folder_with_the_project_and_prints_what_the_pages_say(tmp_path):
    assert len({clone_command(page) for page in PAGES}) == 1
    folder, printed = cloned(tmp_path)
    assert printed.splitlines()[0] == clone_command("README.md")[1]
    assert folder == (tmp_path / "rnnfast").resolve()
    assert (folder / "README.md").exists()
    assert "nothing to commit" in subprocess.run(["git", "status"], cwd=folder, capture_output=True, text=True).stdout


def test_the_table_of_get_started_has_the_numbers_of_readme_in_both_languages():
    lines, version = first_lines("README.md")
    assert all(first_lines(page) == (lines, version) for page in PAGES)
    assert expected_lines(version) == [without_speed(line) for line in lines]
    table = numbers_of_versions("docs/get-started.md")
    assert len(table) == 6
    assert table == numbers_of_versions("docs/get-started.zh-CN.md")


def test_the_help_texts_of_this_python_have_the_size_that_get_started_gives():
    pytest.importorskip("pydoc_data.topics", reason="this Python has no help texts")
    numbers = numbers_of_versions("docs/get-started.md").get(platform.python_version())
    if numbers is None:
        pytest.skip(f"the table of Get started has no Python {platform.python_version()}")
    text = datasets.python_topics()
    assert [f"{len(text):,}", str(len(rf.Corpus.from_text(text).vocab))] == numbers[:2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone in which the first command ran, and what it printed."""
    folder, _ = cloned(tmp_path_factory.mktemp("empty"))
    (command, _) = commands("README.md")
    run = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return folder, run.stdout


@pytest.mark.large
def test_the_first_command_prints_the_lines_of_readme(clone):
    """All of them where Get started has the numbers of this Python; else lines of the same form."""
    printed = clone[1].splitlines()
    shown, _ = first_lines("README.md")
    at = next(i for i, line in enumerate(printed) if re.match(r"Python [\d.]+\S*'s help texts", line))
    lines = [without_speed(line) for line in printed[at : at + len(shown)]]
    version = lines[0].split("'")[0].split()[1]
    expected = expected_lines(version)
    if expected is None:
        print(f"the table of Get started has no Python {version}: {lines[0]}")
        lines = [re.sub(r"[\d.,]+", "0", line) for line in lines]
        expected = [re.sub(r"[\d.,]+", "0", without_speed(line)) for line in shown]
    assert lines == expected


@pytest.mark.large
def test_the_model_of_the_first_command_continues_the_prompt_of_get_started(clone):
    (command,) = re.findall(r"^\.venv/bin/rnnfast generate .*$", text_of("docs/get-started.md"), re.MULTILINE)
    assert command in text_of("docs/get-started.zh-CN.md")
    run = subprocess.run(["bash", "-c", command], cwd=clone[0], capture_output=True, text=True)
    assert run.stdout.startswith("The "), run.stderr


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
