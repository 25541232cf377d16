"""Checks the English of documents, docstrings and public headers: a glossary, and mistakes that spelling checkers miss.

    python tools/prose.py                every document, docstring, message, help text and public header of the repository
    python tools/prose.py FILE ...       these files

Prints ``file:line: found; write ...`` and ends with status 1 if there is anything to mend. Code, links, formulas and quotations are
skipped. ``nox -s lint`` runs it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

# A pattern, and what to write instead. One word for one thing, the field's own.
GLOSSARY = {
    r"\bbeside\b": "next to, alongside, or compared with",
    r"\bpeers\b": "other frameworks, or baselines",
    r"\blikeliest\b": "most probable, or argmax",
    r"\bwhole numbers?\b": "integer",
    r"\bcuts? up\b": "tokenize",
    r"\bat once\b": "at a time, together, or immediately",
    r"\bto the bit\b": "bit-identical",
    r"\btells\b": "reports, prints, or shows",
    r"\bof (?:its|their) own\b": "its own X",
    r"\bborders?\b": "boundary",
    r"\bwaiting steps\b": "sequential steps",
    r"\bdearer\b": "more expensive",
    r"\bstretch(?:es)?\b": "chunk",
    r"\bgo(?:es)? on\b": "continue",
    r"(?<!there\s)\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|better\b|worse\b|fewer\b|faster\b|slower\b)\w+": "is not a",
    r"\bin \w+'s manner\b": "X-style",
    r"\b(?:w)?hereof\b|\btherein\b|\bhenceforth\b|\bhitherto\b": "a plain word",
    r"\bsimply\b|\bjust\b|\bbasically\b|\bobviously\b|\bof course\b": "nothing: leave it out",
    r"\b(?:etc|i\.e|e\.g)\.": "and so on, that is, such as",
    r"\bcan not\b": "cannot",
    r"\blets (?:you|one) to\b": "lets you",
    r"\ballows? to\b": "lets you, or make X possible",
    r"\binformations\b|\bsoftwares\b|\bknowledges\b": "the singular",
    r"\bless (?:tokens|words|steps|layers|units|files|rows)\b": "fewer",
    r"\b(?:utilize|utilise)[sd]?\b": "use",
    r"\bcolour": "color",
    r"\bbehaviour\b|\bneighbour|\bfavour|\blearnt\b|\b(?:misspelt|spelt)\b|\blicence|\b(?:optimi|quanti|normali|seriali|initiali|recogni|organi)s(?:e|ed|es|ing|ation)\b": "the American spelling",
}
GRAMMAR = {
    r"\b(?!(?:that|had|is)\b)([A-Za-z]{2,}) \1\b": "the word once",
    r"\b[Aa] (?!(?:and|are|as|at|if|in|is|of|on|or|eu\w*|ewe\w*|one|once)\b)(?=[aeio][a-z]+\b)": "an",
    r"\b[Aa]n (?=[bcdfgjkpqtvwyz][a-z]+\b)": "a",
    r"\?\?|!!": "one mark",
}
GAP = r"(?: |\n *)"  # between words, also at the end of a line
RULES = [(re.compile(pattern.replace(" ", GAP), re.IGNORECASE), advice) for pattern, advice in GLOSSARY.items()]
RULES += [(re.compile(pattern.replace(" ", GAP)), advice) for pattern, advice in GRAMMAR.items()]

# What is not prose: code, formulas, links' targets, quoted text. Replaced by dots, so that lines and columns stay.
SKIPPED = re.compile(
    r"^ *```.*?^ *```|<!--.*?-->|\$\$.*?\$\$|\$[^$\n]+\$|``.+?``|`[^`]+`|\]\([^)]*\)|<[^>\n]+>|https?://\S+|\"[^\"\n]*\"|“[^”]*”"
    r"|:math:`.*?`|^ *\.\. math::.*?(?=^\S|\Z|\n\n)|^ *>>> .*?(?=\n\n|\Z)|^\|[ :|-]*\|$",
    re.DOTALL | re.MULTILINE,
)


def prose(text: str) -> str:
    """``text`` with dots for everything that is not prose."""
    return SKIPPED.sub(lambda match: re.sub(r"\S", "•", match[0]), text)


def problems(text: str, first: int = 1) -> Iterator[tuple[int, str]]:
    """Line and message of each place to mend; ``first`` is the number of the first line."""
    plain = prose(text)
    for rule, advice in RULES:
        for match in rule.finditer(plain):
            yield first + plain.count("\n", 0, match.start()), f"{' '.join(match[0].split())!r}; write {advice}"


def parts(file: Path) -> Iterator[tuple[int, str]]:
    """The prose of a file with the number of its first line: all of a document, the docstrings, messages and help texts of a module, the comments of a header."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        yield 1, re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)  # without indented code
    elif file.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
                first = node.body[0]
                if (
                    isinstance(first, ast.Expr)
                    and isinstance(first.value, ast.Constant)
                    and isinstance(first.value.value, str)
                ):
                    yield first.lineno, first.value.value
            elif isinstance(node, ast.Raise) or (isinstance(node, ast.keyword) and node.arg in ("help", "description")):
                for value in ast.walk(node):
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield value.lineno, value.value
    else:
        for match in re.finditer(r"(?:^ *//.*\n)+", text, re.MULTILINE):
            yield text.count("\n", 0, match.start()) + 1, re.sub(r"^ *//+", "", match[0], flags=re.MULTILINE)


def documents() -> list[Path]:
    """The files of the repository that have prose; Chinese pages are not English."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    wanted = re.compile(
        r"^[^/]*\.md$|^docs/.*\.md$|^python/rnnfast/.*\.py$|^(?:tools|docs|benchmarks)/.*\.py$|^cpp/include/.*\.h(?:pp)?$"
    )
    return [ROOT / name for name in listed if wanted.search(name) and "zh" not in name.replace(".", "/").split("/")]


def main(arguments: list[str]) -> int:
    found = 0
    for file in [Path(name) for name in arguments] or documents():
        for line, message in sorted(item for first, text in parts(file) for item in problems(text, first)):
            print(f"{file}:{line}: {message}")
            found += 1
    if found:
        print(f"{found} to mend")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
