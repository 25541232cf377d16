"""Functions are short and take few arguments."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_LINES = 60
MOST_PARAMETERS = 7
# File and function of each exception, and why it is one.
LONG: dict[str, str] = {}
WIDE: dict[str, str] = {
    "cpp/src/models/language_model.h LanguageModel::loss": "the golden hashes of test_same_bits are taken through it",
    "cpp/src/models/language_model.cpp LanguageModel::loss": "the golden hashes of test_same_bits are taken through it",
    "cpp/include/rnnfast/rnnfast.h rnnfast_generate_ids": "C has no default arguments; the signature is public",
    "cpp/src/api/c_api.cpp rnnfast_generate_ids": "C has no default arguments; the signature is public",
    "python/rnnfast/torch/attention.py forward": "the signature of torch.nn.MultiheadAttention",
}
# A definition or declaration that clang-format lays out: a name, its parameters, and what follows them.
HEAD = re.compile(
    r"^(?P<indent> *)(?!(?:return|else|throw|new|delete|struct|class|enum|if|for|while|switch|using|namespace)\b|#)[\w:<>,*&~\[\] ]*?(?P<name>[\w:~]+|operator[^\w\s(]+)\("
)


def cpp_files():
    files = [p for p in sorted((ROOT / "cpp").rglob("*")) if p.suffix in {".h", ".hpp", ".cpp", ".inc"}]
    assert files
    return files


def parameters_of(text: str) -> tuple[int, int]:
    """How many parameters a list has, from just behind its opening bracket, and where it ends."""
    depth, count, seen = 0, 0, False
    for i, c in enumerate(text):
        if c in "([{" or (c == "<" and text[i - 1].isalnum()):
            depth += 1
        elif c in ")]}" or (c == ">" and text[i - 1] not in "-=" and depth):
            if depth == 0:
                return (count + 1 if seen else 0), i
            depth -= 1
        elif c == "," and depth == 0:
            count += 1
        seen = seen or not c.isspace()
    return 0, len(text)


def body_end(text: str, start: int) -> int:
    """Where the body of a function ends whose parameters end at `start`; `start` itself if it is only declared."""
    at = start
    while (opened := re.compile(r"[^;{]*\{").match(text, at)) is not None:
        depth, at = 1, opened.end()
        while depth and at < len(text):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        if not re.compile(r"\s*[,{]").match(text, at):  # that was a member's initial value
            return at
    return start


def cpp_functions(file: Path):
    """(name, lines, parameters) of what looks like a function in a clang-formatted file; a class's own are Class::name."""
    blank = lambda found: re.sub(r"[^\n]", "_", found[0])  # noqa: E731
    source = re.sub(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)+\'|//[^\n]*', blank, file.read_text())
    owner, start = "", 0
    for line in source.splitlines(keepends=True):
        if opened := re.match(r"(?:class|struct) (?:RNNFAST_API )?([\w:]+)[^;]*\{$", line):
            owner = opened[1]
        if line.startswith("};"):
            owner = ""
        head = HEAD.match(line)
        if head and not head["name"].isupper() and len(head["indent"]) <= (4 if owner else 0):
            rest = source[start + head.end() :]
            count, end = parameters_of(rest)
            last = body_end(rest, end)
            lines = rest.count("\n", 0, last) + 1 if last > end else 0
            yield (f"{owner}::" if owner else "") + head["name"], lines, count
        start += len(line)


def python_functions(file: Path):
    """(name, lines without docstring, parameters that may be given by position)."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = (first.end_lineno - first.lineno + 1) if documented else 0
            given = [a.arg for a in [*node.args.posonlyargs, *node.args.args] if a.arg not in {"self", "cls"}]
            yield node.name, node.end_lineno - node.lineno + 1 - docstring, len(given)


def functions():
    for file in cpp_files():
        for found in cpp_functions(file):
            yield str(file.relative_to(ROOT)), *found
    for file in sorted((ROOT / "python").rglob("*.py")):
        for found in python_functions(file):
            yield str(file.relative_to(ROOT)), *found


def test_no_function_is_longer_than_a_screen():
    long = {f"{file} {name}": lines for file, name, lines, _ in functions() if lines > MOST_LINES}
    assert not {k: v for k, v in long.items() if k not in LONG}
    assert not set(LONG) - set(long), "exceptions that are none any more"


def test_no_function_has_more_than_seven_parameters():
    """Options that can only be given by keyword, in Python, are named where they are used and do not count."""
    wide = {f"{file} {name}": n for file, name, _, n in functions() if n > MOST_PARAMETERS}
    assert not {k: v for k, v in wide.items() if k not in WIDE}
    assert not set(WIDE) - set(wide), "exceptions that are none any more"


def test_the_count_finds_long_functions_and_wide_lists(tmp_path):
    body = "".join(f"    x{i} = {i};\n" for i in range(70))
    file = tmp_path / "a.cpp"
    file.write_text(
        f"void f(int a, std::pair<int, int> b,\n       int c) {{\n{body}}}\n\nint g() {{ return h(1, 2); }}\n"
    )
    found = {name: (lines, n) for name, lines, n in cpp_functions(file)}
    assert found["f"] == (73, 3)
    assert found["g"][1] == 0
