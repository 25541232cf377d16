"""No instruction of a higher ISA may leave its object file, except through the one table."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = re.findall(r"rnnfast_add_isa\((\w+)([^)]*)\)", (ROOT / "CMakeLists.txt").read_text())
X86 = {"baseline", "avx2", "avx512", "avx512_bf16", "wide"}


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize(("isa", "flags"), CALLS)
def test_an_isa_object_has_one_global_symbol_no_weak_one_and_no_initialiser(tmp_path, compiler, isa, flags):
    found = [c for c in (compiler, f"{compiler}-16", f"{compiler}-14") if shutil.which(c)]
    if not found or not shutil.which("nm"):
        pytest.skip(f"no {compiler} or nm here")
    if (isa in X86) != (platform.machine() == "x86_64"):
        pytest.skip(f"{isa} is not of this machine")
    target = tmp_path / "isa.o"
    command = [
        found[0],
        "-std=c++17",
        "-O3",
        "-fPIC",
        "-fno-exceptions",
        "-fno-rtti",
        "-ffp-contract=off",
        *flags.split(),
    ]
    source = ROOT / "cpp" / "src" / "kernels" / f"isa_{isa}.cpp"
    subprocess.run([*command, f"-I{ROOT / 'cpp' / 'src'}", "-w", "-c", source, "-o", target], check=True, timeout=300)
    symbols = subprocess.run(["nm", target], check=True, capture_output=True, text=True).stdout
    kinds = {line.split()[-1]: line.split()[-2] for line in symbols.splitlines()}
    leaving = {name: kind for name, kind in kinds.items() if kind.isupper() and kind != "U"}
    assert list(leaving) == [f"_ZN7rnnfast{len(isa)}{isa}7kernelsE"], leaving
    assert not {name for name, kind in kinds.items() if kind in "wWvV"}
    needed = {name for name, kind in kinds.items() if kind == "U"} - {"_GLOBAL_OFFSET_TABLE_"}
    assert needed <= {"memcpy", "memset", "fmaf", "sqrtf"}, needed
    sections = subprocess.run(["objdump", "-h", target], check=True, capture_output=True, text=True).stdout
    assert ".init_array" not in sections
