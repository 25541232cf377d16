"""docs/platforms.md has a row for every target of tools/platforms.py."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("platforms", ROOT / "tools" / "platforms.py")
platforms = importlib.util.module_from_spec(spec)
sys.modules["platforms"] = platforms  # a dataclass looks its module up there
spec.loader.exec_module(platforms)


def rows():
    """(built, test ran, instruction sets) of each target's row."""
    page = (ROOT / "docs" / "platforms.md").read_text(encoding="utf-8")
    return {
        name: [cell.strip() for cell in cells.split("|")]
        for name, cells in re.findall(r"^\| `([\w.]+-[\w.-]+)` \|(.*)\|$", page, re.MULTILINE)
    }


def test_every_target_has_its_row_of_the_page_in_the_same_order():
    assert [*rows()] == [target.name for target in platforms.TARGETS]


def test_the_page_says_which_targets_are_refused_and_which_do_not_run():
    for target in platforms.TARGETS:
        built, ran, tables, *_ = rows()[target.name]
        assert built.startswith("refused") == bool(target.refused), target.name
        assert (ran in ("", "no")) == (not target.runner), target.name
        assert set(target.tables) <= set(re.findall(r"`(\w+)`", tables)), target.name


def test_an_argument_names_a_target_or_one_of_its_tables():
    assert platforms.asked([]) == platforms.TARGETS
    one, other = platforms.asked(["x86_64-linux-musl:baseline", "wasm32-wasi"])
    assert (one.name, one.tables, other.name) == ("x86_64-linux-musl", ("baseline",), "wasm32-wasi")
    for wrong in ("x86_64-linux-musl:neon", "wasm32-wasi:neon", "plan9"):
        with pytest.raises(SystemExit, match="no such target: plan9|has no table neon"):
            platforms.asked([wrong])
