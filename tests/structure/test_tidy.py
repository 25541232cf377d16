"""The source tree and its documents."""

from __future__ import annotations

import re
import subprocess
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


def test_every_option_of_the_command_line_is_in_the_readme_or_its_help():
    readme = (ROOT / "README.md").read_text()
    for command in ("train", "train-translation", "eval", "generate", "quantize", "stats", "compare", "info"):
        assert f"rnnfast {command}" in readme


def test_no_file_of_code_is_longer_than_a_person_reads():
    for name in tracked():
        if Path(name).suffix in {".py", ".cpp", ".h", ".hpp", ".inc"}:
            assert len((ROOT / name).read_text().splitlines()) <= 600, name
