"""Builds the library for other systems with PyPI's ziglang, runs tests/install/smoke.cpp there, and prints a table.

    python tools/platforms.py                               every target
    python tools/platforms.py aarch64-macos wasm32-wasi     these targets
    python tools/platforms.py x86_64-linux-musl:baseline    a target with one of its tables of instructions, which compiles in less time

Needs ziglang, cmake, ninja and, for WebAssembly, wasmtime, all from PyPI: ``nox -s platforms`` installs them. Programs run under Debian's
qemu-user-static and wine where these are installed. The hashes that the program must print are in tests/golden. Ends with status 1 if a
target does not compile, does not run, or has other bits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "platforms"
GOLDEN = ROOT / "tests" / "golden"
WARNINGS = "-Wpedantic -Wconversion"  # beside those of CMakeLists.txt; all are errors


@dataclass(frozen=True)
class Target:
    name: str
    """As zig names it."""
    runner: tuple[str, ...] = ()
    """The command in front of the program, `env` for none; empty: only compiled and linked."""
    flags: str = ""
    tables: tuple[str, ...] = ()
    """Of RNNFAST_ISAS; each runs. Empty: `generic`, the only one of the other processors."""
    shared: bool = False
    fused: bool = True
    """The processor has fused multiply-adds (and every table but x86-64's baseline uses them)."""
    refused: str = ""
    """What CMake says of a processor that rnnfast does not support."""


X86 = ("avx2", "baseline")
ARM = ("neon", "neon_bf16", "neon_dotprod")
TARGETS = [
    Target("x86_64-linux-musl", ("env",), tables=X86),
    Target("aarch64-linux-musl", ("qemu-aarch64-static",), tables=ARM),
    Target(
        "aarch64-linux-gnu.2.31", ("qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"), tables=ARM[:1], shared=True
    ),
    Target("x86_64-windows-gnu", ("wine",), tables=X86),
    Target("aarch64-macos", tables=ARM[:1], shared=True),
    Target("x86_64-macos", tables=X86, shared=True),
    Target("riscv64-linux-musl", ("qemu-riscv64-static",)),
    Target("arm-linux-musleabihf", ("qemu-arm-static",), flags="-mcpu=cortex_a7"),
    Target("s390x-linux-musl", refused="s390x is big-endian"),
    Target("wasm32-wasi", ("wasmtime",), flags="-msimd128", fused=False),
]


class Row(NamedTuple):
    target: str
    built: str
    run_by: str = ""
    table: str = ""
    bits: str = ""
    good: bool = True


def run(*command: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **(environment or {})}
    return subprocess.run([str(c) for c in command], text=True, capture_output=True, errors="replace", env=variables)


def build(target: Target) -> str:
    """What the compiler said if it failed, or an empty text."""
    import ziglang

    folder = BUILD / target.name
    configure = [
        "cmake", "-S", ROOT / "tests" / "platforms", "-B", folder, "-G", "Ninja",
        f"--toolchain={ROOT / 'cmake' / 'zig.cmake'}",
        f"-DRNNFAST_ZIG={Path(ziglang.__file__).parent / 'zig'}",
        f"-DRNNFAST_ZIG_TARGET={target.name}",
        f"-DCMAKE_CXX_FLAGS={f'{WARNINGS} {target.flags}'.strip()}",
        f"-DRNNFAST_ISAS={';'.join(sorted(target.tables))}",
        f"-DRNNFAST_SHARED={'ON' if target.shared else 'OFF'}",
        "-DCMAKE_BUILD_TYPE=Release", "-DRNNFAST_TRAINING=OFF", "-DRNNFAST_OPENMP=OFF", "-DRNNFAST_WERROR=ON",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", folder, "-j", "2"]):
        done = run(*command)
        if done.returncode:
            return " ".join((done.stdout + done.stderr).split())
    return ""


def run_wasm(module: Path) -> str:
    import wasmtime

    engine = wasmtime.Engine()
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    output = module.with_suffix(".out")
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["smoke", "golden", "no-errors"]  # its C++ library cannot throw
    wasi.preopen_dir(str(GOLDEN), "golden")
    wasi.stdout_file = str(output)
    wasi.inherit_stderr()
    store.set_wasi(wasi)
    linker.define_wasi()
    start = linker.instantiate(store, wasmtime.Module.from_file(engine, str(module))).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as end:
        if end.code:
            return f"failed: exit code {end.code}"
    return output.read_text(encoding="utf-8")


def smoke(target: Target, table: str) -> str:
    """What the program prints."""
    program = next(p for p in (BUILD / target.name / f"smoke{end}" for end in ("", ".exe", ".wasm")) if p.exists())
    if target.runner == ("wasmtime",):
        return run_wasm(program)
    wine = {"WINEPREFIX": str(BUILD / "wine"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
    done = run(*target.runner, program, GOLDEN, environment={**wine, "RNNFAST_ISA": table})
    return done.stdout if done.returncode == 0 else f"failed: {done.stdout}{done.stderr}"


def kept(name: str) -> list[str]:
    return (GOLDEN / f"bits_{name}.txt").read_text(encoding="utf-8").splitlines()


def run_table(target: Target, table: str) -> Row:
    if target.runner != ("wasmtime",) and not shutil.which(target.runner[0]):
        return Row(target.name, "yes", f"not run: no {target.runner[0]}", table)
    how = "directly" if target.runner == ("env",) else target.runner[0]
    printed = smoke(target, table).splitlines() or ["failed: no output"]
    if printed[-1] != "done":
        return Row(target.name, "yes", how, table, " ".join(printed), good=False)
    hashes = [line for line in printed if len(line.split()[-1]) == 16]
    same = [name for name in ("fused", "unfused") if hashes == kept(name)] or ["others"]
    expected = "fused" if target.fused and table != "baseline" else "unfused"
    return Row(target.name, "yes", how, printed[0].split()[-1], same[0], good=same == [expected])


def rows(target: Target) -> list[Row]:
    said = build(target)
    if target.refused:
        good = target.refused in said
        return [Row(target.name, f"refused: {target.refused}" if good else "not refused", good=good)]
    if said:
        (BUILD / f"{target.name}.log").write_text(said, encoding="utf-8")
        return [Row(target.name, f"no: build/platforms/{target.name}.log", good=False)]
    if not target.runner:
        return [Row(target.name, "yes", "not run", table) for table in target.tables or ("",)]
    return [run_table(target, table) for table in target.tables or ("",)]


def asked(arguments: list[str]) -> list[Target]:
    """The targets of the arguments, each a name, or a name and a table; all targets without arguments."""
    known = {t.name: t for t in TARGETS}
    found = []
    for name, _, table in (a.partition(":") for a in arguments or known):
        if name not in known:
            sys.exit(f"no such target: {name}; there are {', '.join(known)}")
        if table and table not in known[name].tables:
            sys.exit(f"{name} has no table {table}; it has {', '.join(known[name].tables) or 'only one'}")
        found.append(replace(known[name], tables=(table,)) if table else known[name])
    return found


def main() -> int:
    BUILD.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:  # zig compiles a target's C++ library on one core
        found = [row for some in pool.map(rows, asked(sys.argv[1:])) for row in some]
    lines = [("target", "built", "run by", "table", "bits"), *(row[:5] for row in found)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    return int(not all(row.good for row in found))


if __name__ == "__main__":
    sys.exit(main())
