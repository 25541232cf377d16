"""The source tree and its documents."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout here")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return listed.splitlines()


def test_nothing_generated_is_tracked():
    generated = re.compile(r"(^|/)(build|dist|__pycache__|\.venv)/|\.(so|o|a|pyc|orig|rej)$")
    assert not [f for f in tracked() if generated.search(f)]


def test_models_are_tracked_with_the_tests_or_the_package_alone():
    """One in the top folder is what an example wrote where it ran."""
    data = re.compile(r"\.(safetensors|onnx|h5|keras|npz|jsonl|png)$")
    homes = ("tests/", "python/rnnfast/", "docs/", "notebooks/")
    assert not [f for f in tracked() if data.search(f) and not f.startswith(homes)]


def test_readme_has_exactly_two_set_up_commands():
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    assert "rnnfast train" in commands[0]
    assert "pytest" in commands[1]


def test_ci_runs_readme_s_test_command():
    command = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.MULTILINE)[1]
    if not (ROOT / ".ci" / "run").exists():
        pytest.skip("a source distribution has no .ci")
    assert command in (ROOT / ".ci" / "run").read_text()


def test_the_version_is_in_the_changelog():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def options_of(parser):
    """(command, option, help) of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options_of(command)
        else:
            yield parser.prog, "/".join(action.option_strings) or action.dest, action.help


def test_the_page_of_the_command_line_lists_every_option_and_each_has_a_help_text():
    """Run ``python tools/command_line.py`` where this fails."""
    from rnnfast.cli import parser

    options = list(options_of(parser()))
    commands = {prog for prog, _, _ in options} - {"rnnfast"}
    assert len(commands) >= 8
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert not {command for command in commands if f"## {command}\n" not in page}
    assert not [f"{command} {option}" for command, option, text in options if not text or text == argparse.SUPPRESS]
    for command, names, _ in options:
        listed = page.partition(f"## {command}\n")[2].partition("\n## ")[0]
        own = [name for name in names.split("/") if name.startswith("-") and name not in ("-h", "--help")]
        assert all(name in listed for name in own), f"{command} {names}"
    run = subprocess.run(
        [sys.executable, ROOT / "tools" / "command_line.py", "--check"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_no_file_of_code_is_longer_than_a_person_reads():
    for name in tracked():
        if Path(name).suffix in {".py", ".cpp", ".h", ".hpp", ".inc"}:
            assert len((ROOT / name).read_text().splitlines()) <= 600, name


def test_the_architecture_page_names_files_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w/.]+/[\w.]+)`", text) if not name.endswith("/")}
    assert len(named) > 20
    folders = [ROOT, ROOT / "cpp" / "src", ROOT / "cpp"]
    missing = [n for n in named if not any(list(f.glob(n)) or list(f.glob(f"{n}.*")) for f in folders)]
    assert not missing


def test_the_page_of_the_command_line_lists_the_registered_cells():
    from typing import get_args

    from rnnfast._names import Cell

    listed = re.search(r"`--cell ([\w|]+)`\.", (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8"))
    assert listed
    assert listed[1].split("|") == list(get_args(Cell))


def test_every_page_is_in_the_site_s_contents():
    docs = ROOT / "docs"
    indexes = [(docs / name).read_text(encoding="utf-8") for name in ("index.md", "index.zh-CN.md")]
    listed = re.findall(r"^[\w/*.-]+$", "\n".join(indexes), re.MULTILINE)
    found = {file for pattern in listed for file in docs.glob(f"{pattern}.md")}
    assert found == set(docs.rglob("*.md")) - {docs / "index.md"}


def test_the_citation_has_the_version():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_page_of_environment_variables_lists_those_that_the_code_reads():
    sources = [*(ROOT / "cpp" / "src").rglob("*.cpp"), *(ROOT / "python").rglob("*.py")]
    read = {
        name
        for path in sources
        for name in re.findall(r'(?:getenv|environ\.get)\(\s*"(\w+)"', path.read_text(encoding="utf-8"))
    }
    page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    assert read == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))


def test_the_reference_of_cpp_includes_every_header():
    page = (ROOT / "docs" / "cpp-reference.md").read_text(encoding="utf-8")
    headers = {path.name for path in (ROOT / "cpp" / "include" / "rnnfast").iterdir()} - {"export.hpp"}
    assert headers == set(re.findall(r"^\.\. header:: (\S+)", page, re.MULTILINE))


def test_relative_links_of_the_documents_lead_somewhere():
    broken = []
    for file in tracked():
        if not file.endswith(".md"):
            continue
        text = re.sub(r"```.*?```", "", (ROOT / file).read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if (
                not re.match(r"https?:|mailto:|#", target)
                and not (ROOT / file).parent.joinpath(target.split("#")[0]).exists()
            ):
                broken.append(f"{file}: {target}")
    assert not broken
