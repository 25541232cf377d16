"""docs/real-time.md says of every function of the C API what a call may do."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_c_function_is_listed_once():
    header = (ROOT / "cpp" / "include" / "rnnfast" / "rnnfast.h").read_text(encoding="utf-8")
    functions = set(re.findall(r"^RNNFAST_C_API [^(]*?(rnnfast_\w+)\(", header, re.MULTILINE))
    rows = [
        line for line in (ROOT / "docs" / "real-time.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"
    ]
    listed = Counter(name for row in rows for name in re.findall(r"`(rnnfast_\w+)`", row))
    assert len(functions) > 100
    assert functions == set(listed)
    assert not [name for name, count in listed.items() if count > 1]
