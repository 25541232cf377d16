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
X86 = {"baseline", "avx2", "avx512", "avx512_bf16", "wide", "amx_int8", "amx_bf16", "amx_plain", "amx_plain_bf16"}


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


# Intel's manual: the operation and the VEX prefixes' last bits of products, sums in reg, A in rm, B in vvvv
PRODUCTS = {"tdpbusd": (0x5E, 0x01), "tdpbf16ps": (0x5C, 0x02)}


@pytest.mark.parametrize(("isa", "product"), [("amx_int8", "tdpbusd"), ("amx_bf16", "tdpbf16ps")])
def test_the_instructions_of_amx_have_the_encodings_of_intel_s_manual(tmp_path, isa, product):
    """C++ tests execute them in a handler of SIGILL; an assembler that encoded others would pass there."""
    if platform.machine() != "x86_64" or not shutil.which("g++") or not shutil.which("objdump"):
        pytest.skip("no x86-64, g++ or objdump here")
    target, source = tmp_path / "isa.o", ROOT / "cpp" / "src" / "kernels" / f"isa_{isa}.cpp"
    flags = [*dict(CALLS)[isa].split(), f"-I{ROOT / 'cpp' / 'src'}"]
    subprocess.run(["g++", "-std=c++17", "-O3", *flags, "-c", source, "-o", target], check=True)
    listing = subprocess.run(["objdump", "-dw", target], check=True, capture_output=True, text=True).stdout
    names = f"{product}|tileloadd|tilestored|ldtilecfg|tilerelease"
    found = set(re.findall(rf"\t((?:[0-9a-f]{{2}} )+) *\t({names}) *(\S*)", listing))
    assert {name for _, name, _ in found} == set(names.split("|"))
    for code, name, operands in found:
        prefix, vex, second, operation, modrm, *_ = (int(byte, 16) for byte in code.split())
        assert (prefix, vex & 0x9F) == (0xC4, 0x82), code  # VEX.128.0F38, no higher half of the tiles
        tiles = [int(number) for number in re.findall(r"%tmm(\d)", operands)]
        if name == product:  # VEX.128.66 (int8), F3 (bf16) .0F38.W0 /r; AT&T writes B, A, sums
            b, a, sums = tiles
            expected, last = PRODUCTS[product]
            assert (operation, second, modrm) == (expected, last | (~b & 15) << 3, 0xC0 | sums << 3 | a), code
        elif name == "tilerelease":  # VEX.128.NP.0F38.W0 49 C0
            assert (operation, second, modrm) == (0x49, 0x78, 0xC0), code
        elif name == "ldtilecfg":  # VEX.128.NP.0F38.W0 49 /0
            assert (operation, second, modrm >> 3 & 7) == (0x49, 0x78, 0), code
        else:  # VEX.128.F2 (F3 to store).0F38.W0 4B /r
            assert (operation, second, [modrm >> 3 & 7]) == (0x4B, 0x7B if name == "tileloadd" else 0x7A, tiles), code
    assert not re.search(r"%zmm", listing), "the tests execute it on any x86-64 with AVX2"
