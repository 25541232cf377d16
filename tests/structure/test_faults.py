"""Every fixed fault in CHANGELOG.md has a test that is marked with its number."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUMBER = r"[MNCR]\d{1,2}"


def mended() -> set[str]:
    """The numbers in brackets at the ends of CHANGELOG's lines: ``(M1)``, ``(N2, R7)``."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return {n for group in re.findall(rf"\(({NUMBER}(?:, {NUMBER})*)\)", text) for n in group.split(", ")}


def guarded() -> set[str]:
    """The numbers that tests name: ``@pytest.mark.fault("M1")`` in Python, ``[R7]`` in the name of a C++ test."""
    found: set[str] = set()
    for file in (ROOT / "tests").rglob("*.py"):
        for arguments in re.findall(r"mark\.fault\(([^)]*)\)", file.read_text(encoding="utf-8")):
            found |= set(re.findall(rf'"({NUMBER})"', arguments))
    for file in (ROOT / "tests" / "cpp").glob("*.cpp"):
        for name in re.findall(r'TEST_CASE\("([^"]*)"', file.read_text(encoding="utf-8")):
            found |= {n for group in re.findall(r"\[([^]]*)\]", name) for n in re.findall(NUMBER, group)}
    return found


def test_every_fixed_fault_has_a_test():
    assert mended(), "CHANGELOG.md names no fault"
    assert not mended() - guarded(), f"no test is marked with {sorted(mended() - guarded())}"


def test_every_fault_that_a_test_guards_is_in_the_changelog():
    assert not guarded() - mended(), f"CHANGELOG.md does not name {sorted(guarded() - mended())}"
