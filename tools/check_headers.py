"""Compiles every header alone, and every source, without code generation, to check that each includes what it uses.

    python tools/check_headers.py [COMPILER [OPTION ...]]

Another standard library shows which includes are present only by accident: clang++-16 -stdlib=libc++ -D_LIBCPP_REMOVE_TRANSITIVE_INCLUDES
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPTIONS = [
    "-std=c++17",
    "-fsyntax-only",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Werror",
    "-Wno-unused-function",
    "-DRNNFAST_ISA=baseline",
]
OPTIONS += ['-DRNNFAST_VERSION="0"', f"-I{ROOT / 'cpp' / 'include'}", f"-I{ROOT / 'cpp' / 'src'}"]


def files() -> list[Path]:
    """Headers, and the sources that are not compiled for a specific instruction set."""
    headers = [*ROOT.glob("cpp/include/**/*.h*"), *ROOT.glob("cpp/src/**/*.h")]
    return sorted([*headers, *(p for p in ROOT.glob("cpp/src/**/*.cpp") if not p.stem.startswith("isa_"))])


def errors(command: list[str], file: Path) -> str:
    """The compiler's messages for one file; empty if it compiles."""
    command = [command[0], *OPTIONS, *command[1:]]  # its options win over ours, such as another -std
    if file.suffix == ".cpp":
        done = subprocess.run([*command, file], capture_output=True, text=True)
    else:
        done = subprocess.run(
            [*command, "-x", "c++", "-"], input=f'#include "{file}"\n', capture_output=True, text=True
        )
    return f"{file.relative_to(ROOT)}:\n{done.stderr}" if done.returncode else ""


def main() -> int:
    """Returns the number of files that do not compile."""
    command = sys.argv[1:] or ["c++"]
    with ThreadPoolExecutor(2) as pool:
        wrong = [text for text in pool.map(lambda file: errors(command, file), files()) if text]
    print("".join(wrong) + f"{' '.join(command)}: {len(files())} files, {len(wrong)} do not compile alone")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
