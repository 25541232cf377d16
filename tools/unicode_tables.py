"""Writes cpp/src/models/unicode.inc: the characters Python's regular expressions call \\w and \\s.

python tools/unicode_tables.py > cpp/src/models/unicode.inc
"""

from __future__ import annotations

import re
import sys
import unicodedata


def ranges(pattern: str) -> list[tuple[int, int]]:
    """Runs of code points that match, first and last."""
    match, found = re.compile(pattern).match, []
    for code in range(0x110000):
        if not match(chr(code)):
            continue
        if found and found[-1][1] == code - 1:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return found


def table(name: str, pattern: str) -> str:
    cells = [f"{{{first:#x}, {last:#x}}}" for first, last in ranges(pattern)]
    lines = [", ".join(cells[i : i + 6]) + "," for i in range(0, len(cells), 6)]
    return f"constexpr CodeRange {name}[] = {{\n" + "\n".join(lines) + "\n};\n"


sys.stdout.write(
    f"// Made by tools/unicode_tables.py with Unicode {unicodedata.unidata_version}: Python's \\w and \\s.\n"
    "// clang-format off\n" + table("word_characters", r"\w") + table("spaces", r"\s")
)
