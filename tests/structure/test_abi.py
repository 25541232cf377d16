"""What rnnfast.h declared in an earlier build of this ABI, it still declares: the same types, layouts and numbers."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEADER = ROOT / "cpp" / "include" / "rnnfast" / "rnnfast.h"
KEPT = ROOT / "tests" / "golden" / "abi" / "c_declarations.txt"
HINT = "add to tests/golden/abi what is new; change RNNFAST_ABI_VERSION before you change or remove what is there"


def declarations(header: str) -> list[str]:
    """One line for each declaration, without comments; structs and enums with their fields."""
    header = re.sub(r"/\*.*?\*/", " ", header, flags=re.DOTALL)
    version = re.findall(r"#define RNNFAST_ABI_VERSION \d+", header)
    header = re.sub(r"^[ \t]*#.*?(?<!\\)$", " ", header, flags=re.MULTILINE)
    header = header.replace('extern "C" {', " ").replace("RNNFAST_C_API ", "")
    parts = re.findall(r"[^;{}]+(?:\{[^}]*\}[^;]*)?;", header)
    return version + [re.sub(r"\s+", " ", part).strip() for part in parts]


def test_the_c_api_keeps_its_declarations():
    now = declarations(HEADER.read_text(encoding="utf-8"))
    kept = KEPT.read_text(encoding="utf-8").splitlines()
    assert not [line for line in kept if line not in now], HINT
    assert now == kept, HINT


def test_a_changed_field_or_type_is_found():
    text = "typedef struct a { size_t n; /* rows */ int k; } a;\nRNNFAST_C_API int f(const a* x,\n    int y);"
    assert declarations(text) == ["typedef struct a { size_t n; int k; } a;", "int f(const a* x, int y);"]
    assert declarations(text.replace("int k", "long k"))[0] != declarations(text)[0]


def test_the_dump_for_abidiff_has_every_function_of_the_header():
    """`nox -s abi` compares sizes and offsets with it; `python tools/abi.py --write` writes it."""
    dump = (KEPT.parent / "c_api.abi").read_text(encoding="utf-8")
    assert "path='/" not in dump, "a folder of the machine that wrote it"
    functions = set(re.findall(r"RNNFAST_C_API [^(;]*\b(rnnfast_\w+)\(", HEADER.read_text(encoding="utf-8")))
    assert set(re.findall(r"<elf-symbol name='(\w+)' type='func-type'", dump)) == functions
