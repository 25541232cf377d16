"""Writes tables of Python's character classes for C++: \\w and \\s of its regular expressions, marks, and str.lower().

python tools/unicode_tables.py words > cpp/src/files/unicode.inc
python tools/unicode_tables.py lower > cpp/src/files/lower_case.inc
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable

SIGMA, FINAL_SIGMA = "\u03a3", "\u03c2"  # the only letter whose lower case depends on its neighbours


def ranges(holds: Callable[[str], object]) -> list[tuple[int, int]]:
    """Runs of code points for which ``holds`` is true, as (first, last)."""
    found: list[tuple[int, int]] = []
    for code in range(0x110000):
        if not holds(chr(code)):
            continue
        if found and found[-1][1] == code - 1:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return found


def shifts() -> list[tuple[int, int, int, int]]:
    """Runs of capitals as (first, last, step, shift), where ``shift`` leads to lower case."""
    found: list[tuple[int, int, int, int]] = []
    for code in range(0x110000):
        small = chr(code).lower()
        if small == chr(code) or len(small) > 1:  # only U+0130 becomes two characters
            continue
        shift = ord(small) - code
        if found:
            first, last, step, known = found[-1]
            if known == shift and (code - last == step or (first == last and code - last <= 2)):
                found[-1] = (first, code, code - last, shift)
                continue
        found.append((code, code, 1, shift))
    return found


def table(kind: str, name: str, rows: list[tuple[int, ...]]) -> str:
    cells = ["{" + ", ".join(f"{n:#x}" if i < 2 else str(n) for i, n in enumerate(row)) + "}" for row in rows]
    lines = [", ".join(cells[i : i + 6]) + "," for i in range(0, len(cells), 6)]
    return f"constexpr {kind} {name}[] = {{\n" + "\n".join(lines) + "\n};\n"


def is_ignored(c: str) -> bool:
    """Whether a capital sigma ignores ``c`` when it looks for a letter."""
    return ("A" + c + SIGMA).lower().endswith(FINAL_SIGMA) and not is_cased(c)


def is_cased(c: str) -> bool:
    return (c + SIGMA).lower().endswith(FINAL_SIGMA)


def continues(c: str) -> bool:
    """Whether the tokenizer "word" never separates ``c`` from the character before it."""
    return unicodedata.category(c)[0] == "M" or c in "\u200c\u200d"


def head(what: str) -> str:
    return (
        f"// Made by tools/unicode_tables.py with Unicode {unicodedata.unidata_version}: {what}.\n// clang-format off\n"
    )


if sys.argv[1] == "words":
    sys.stdout.write(head("Python's \\w and \\s, and marks"))
    sys.stdout.write(table("CodeRange", "word_characters", ranges(re.compile(r"\w").match)))
    sys.stdout.write(table("CodeRange", "spaces", ranges(re.compile(r"\s").match)))
    sys.stdout.write(table("CodeRange", "marks", ranges(continues)))
else:
    sys.stdout.write(head("Python's str.lower()"))
    sys.stdout.write(table("CaseRange", "capitals", shifts()))
    sys.stdout.write(table("CodeRange", "cased", ranges(is_cased)))
    sys.stdout.write(table("CodeRange", "ignored", ranges(is_ignored)))
