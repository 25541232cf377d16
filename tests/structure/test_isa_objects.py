"""No instruction of a higher ISA may leave its object file, except through the one table."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import rnnfast

ROOT = Path(__file__).parents[2]
CALLS = re.findall(r"rnnfast_add_isa\((\w+)([^)]*)\)", (ROOT / "CMakeLists.txt").read_text())
X86 = {"baseline", "avx2", "avx512", "avx512_bf16", "wide"}


def archive() -> Path:
    """The static library that this installation or the build named by RNNFAST_BUILD made."""
    build = os.environ.get("RNNFAST_BUILD")
    folders = [Path(build)] if build else [Path(rnnfast.__file__).parent / "cpp" / "lib", ROOT / "build" / "py"]
    found = [folder / "librnnfast.a" for folder in folders if (folder / "librnnfast.a").exists()]
    if not found or not shutil.which("nm") or not shutil.which("ar"):
        pytest.skip(f"no librnnfast.a in {', '.join(map(str, folders))}, or no nm and ar")
    return found[0]


def check(isa: str, target: Path) -> None:
    symbols = subprocess.run(["nm", target], check=True, capture_output=True, text=True).stdout
    kinds = {line.split()[-1]: line.split()[-2] for line in symbols.splitlines()}
    leaving = {name: kind for name, kind in kinds.items() if kind.isupper() and kind != "U"}
    assert list(leaving) == [f"_ZN7rnnfast4core{len(isa)}{isa}7kernelsE"], leaving
    assert not {name for name, kind in kinds.items() if kind in "wWvV"}
    needed = {name for name, kind in kinds.items() if kind == "U"} - {"_GLOBAL_OFFSET_TABLE_"}
    assert needed <= {"memcpy", "memset", "fmaf", "sqrtf"}, needed
    sections = subprocess.run(["objdump", "-h", target], check=True, capture_output=True, text=True).stdout
    assert ".init_array" not in sections


def test_each_isa_object_of_the_library_has_one_global_symbol_no_weak_one_and_no_initialiser(tmp_path):
    library = archive()
    members = subprocess.run(["ar", "t", library], check=True, capture_output=True, text=True).stdout.split()
    objects = {member[len("isa_") : -len(".cpp.o")]: member for member in members if member.startswith("isa_")}
    assert objects.keys() >= set(rnnfast.info()["isas_built"])
    subprocess.run(["ar", "x", library, *objects.values()], check=True, cwd=tmp_path)
    for isa, member in objects.items():
        check(isa, tmp_path / member)


@pytest.mark.slow  # minutes of compilation: the compiler that built the library is checked above
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize(("isa", "flags"), CALLS)
def test_an_isa_object_of_any_compiler_has_one_global_symbol_no_weak_one_and_no_initialiser(
    tmp_path, compiler, isa, flags
):
    found = [c for c in (compiler, f"{compiler}-16", f"{compiler}-14") if shutil.which(c)]
    if not found or not shutil.which("nm"):
        pytest.skip(f"no {compiler} or nm here")
    if (isa in X86 or "-mfma" in flags) != (platform.machine() == "x86_64"):
        pytest.skip(f"{isa} is not of this machine")
    target = tmp_path / "isa.o"
    options = ["-std=c++17", "-O3", "-fPIC", "-fno-exceptions", "-fno-rtti", "-ffp-contract=off", *flags.split()]
    source = ROOT / "cpp" / "src" / "kernels" / f"isa_{isa}.cpp"
    command = [found[0], *options, f"-I{ROOT / 'cpp' / 'src'}", "-w", "-c", source, "-o", target]
    subprocess.run(command, check=True)
    check(isa, target)
