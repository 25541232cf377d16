"""Reads the public C++ and C headers and writes their reference: an entry for each declaration, with its documentation.

    python docs/headers.py cpp/include/rnnfast/rnnfast.hpp       prints the entries as reStructuredText

``conf.py`` uses it for the pages of the site. The headers have one style, which this relies on: a comment stands above the declarations
that it describes, which follow it without an empty line, or after a declaration on the same line. Indented lines of a comment are code.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HIDDEN = re.compile(r"\bImpl\b|\bimpl\(\)|^using ")  # what a program does not use
FRAME = re.compile(r"(inline )?namespace\b|extern \"C\"|#(?!define RNNFAST_ABI_VERSION)")
OPENS = re.compile(r"(?:typedef )?(class|struct|enum class|enum) (\w+)(?: : public ([\w:]+))? \{")


class Entry(NamedTuple):
    """Declarations that share a documentation; without declarations, a paragraph. ``inside``: the members of a class, struct or enum."""

    kind: str  # of the directive: class, struct, enum, enum-class, enumerator, function, member, type, macro; "" for a paragraph
    declarations: list[str]
    text: list[str]  # the lines of the comment
    inside: list[Entry]


class Line(NamedTuple):
    """A line of a header without its marks; an empty one has neither part."""

    code: str
    comment: str | None


# Reading -------------------------------------------------------------------------------------------------------------


def read(header: Path) -> tuple[list[str], list[Entry]]:
    """The comment at the top of a header, and its entries."""
    lines = list(_lines(header.read_text(encoding="utf-8")))
    first = next(i for i, line in enumerate(lines) if line.code)
    return [line.comment or "" for line in lines[:first]], _entries(iter(lines[first:]))


def _lines(text: str) -> Iterator[Line]:
    inside = False
    for line in text.splitlines():
        if inside or line.lstrip().startswith("/*"):  # of C, and longer than a line
            inside = "*/" not in line
            yield Line("", re.sub(r"^\s*(?:/\*| \*(?!/)) ?|\s*\*/\s*$", "", line).rstrip())
        else:
            code, mark, comment = re.sub(r"/\*(.*?)\*/", r"//\1", line).partition("//")
            code = re.sub(r"\bRNNFAST_(?:C_)?API ", "", code)
            yield Line(code.strip(), re.sub("^ ", "", comment).rstrip() if mark else None)


def _entries(lines: Iterator[Line], *, enumeration: bool = False) -> list[Entry]:
    """The entries up to the end of a class, struct, enum or header."""
    found: list[Entry] = []
    above: list[str] = []  # the comment that waits for its declaration
    public, together = True, False  # together: no empty line and no comment since the last declaration
    for line in lines:
        if not line.code:
            if line.comment is not None:
                above.append(line.comment)
            elif above:
                found.append(Entry("", [], above, []))
                above = []
            together = False
        elif line.code.startswith("}"):
            if line.code != "}" or found:
                return found
        elif line.code in ("public:", "private:"):
            public = line.code == "public:"
        elif FRAME.match(line.code):
            above = []
        else:
            code, after = _statement(line, lines, enumeration)
            text, above = above + after, []
            if not public or HIDDEN.search(code):
                continue
            entry = _entry(code, text, lines, enumeration)
            alone = entry.inside or text
            if together and not alone and found[-1].kind == entry.kind:
                found[-1].declarations.extend(entry.declarations)
            else:
                found.append(entry)
            together = not (after or entry.inside)
    return found


def _statement(line: Line, lines: Iterator[Line], enumeration: bool) -> tuple[str, list[str]]:
    """A declaration, which may take several lines, and the comments after them."""
    code, comments = line.code, [line.comment] if line.comment is not None else []
    while not (enumeration or code.startswith("#") or (code.count("(") == code.count(")") and code[-1] in ";{}")):
        line = next(lines)
        code = f"{code}{'' if code.endswith('(') else ' '}{line.code}"
        comments += [line.comment] if line.comment is not None else []
    return code, comments


def _entry(code: str, text: list[str], lines: Iterator[Line], enumeration: bool) -> Entry:
    if enumeration:
        return Entry("enumerator", [code.rstrip(",")], text, [])
    if code.startswith("#define "):
        return Entry("macro", [code.split()[1]], text, [])
    if opened := OPENS.match(code):
        kind, name, base = opened.groups()
        declaration = f"{name} : public {base}" if base else name
        if "}" in code:  # an enum in one line
            names = code[code.index("{") + 1 : code.index("}")].split(",")
            inside = [Entry("enumerator", [each.strip()], [], []) for each in names]
        else:
            inside = _entries(lines, enumeration=kind.startswith("enum"))
        return Entry(kind.replace(" ", "-"), [declaration], text, inside)
    if code.startswith("typedef struct "):
        return Entry("type", [code.rstrip(";").split()[-1]], text, [])
    if code.startswith("typedef "):  # of a pointer to a function
        return Entry("type", [code[len("typedef ") :].rstrip(";")], text, [])
    if "(" in code and not re.match(r"std::function<", code):
        plain = re.sub(r"(?: : \w+\(\w+\))? \{.*\}$", "", code)  # without a body and what initializes members
        return Entry("function", [plain.rstrip(";")], text, [])
    first, *others = re.split(r", (?![^<]*>)", code.rstrip(";"))
    kind = re.match(r"(.*?)\s*[*&]*\s?\w+(?: = .*|\{.*)?$", first)[1]
    return Entry("member", [re.sub(r"\{\}$", "", first), *(f"{kind} {other}" for other in others)], text, [])


# Writing -------------------------------------------------------------------------------------------------------------


def written(entries: list[Entry], domain: str, depth: int = 0) -> Iterator[str]:
    """The lines of the entries as reStructuredText, in Sphinx's domain ``cpp`` or ``c``."""
    margin = "   " * depth
    for entry in entries:
        inner = margin
        if entry.declarations:
            start = f"{margin}.. {domain}:{entry.kind}:: "
            yield start + entry.declarations[0]
            yield from (" " * len(start) + declaration for declaration in entry.declarations[1:])
            yield ""
            inner += "   "
        for line in paragraphs(entry.text):
            yield f"{inner}{line}" if line else ""
        yield ""
        yield from written(entry.inside, domain, depth + 1)


def paragraphs(comment: list[str]) -> Iterator[str]:
    """The lines of a comment as reStructuredText: names between accents as code, indented lines as a block of code."""
    code = False
    for line in comment:
        if line.startswith("    "):
            if not code:
                yield from ("", ".. code-block:: cpp", "")
            code = True
            yield f"   {line[4:]}"
            continue
        if code:
            yield ""
        code = False
        parts = line.split("`")
        yield "``".join(re.sub(r'([\\*_|"])', r"\\\1", part) if i % 2 == 0 else part for i, part in enumerate(parts))


def page(header: Path) -> str:
    """The reference of a header."""
    about, entries = read(header)
    domain = "c" if header.suffix == ".h" else "cpp"
    space = [] if domain == "c" else [".. cpp:namespace:: rnnfast", ""]
    return "\n".join([*paragraphs(about), "", *space, *written(entries, domain)]) + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(page(Path(name)))
