"""Compares the binary interface of the C API with the one in tests/golden/abi, by Debian's abigail-tools.

    python tools/abi.py            what changed; status 1 if a program that was compiled earlier could break
    python tools/abi.py --write    keeps the interface of this tree instead

Compiles the functions of the C API alone, with debug information, which has the sizes and offsets that the compiler chose. ``nox -s abi`` runs it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "golden" / "abi" / "c_api.abi"
HEADERS = ROOT / "cpp" / "include"
SHORT = ["--exported-interfaces-only", "--drop-private-types", "--drop-undefined-syms", "--type-id-style", "hash"]
SHORT += ["--no-show-locs", "--no-comp-dir-path", "--no-corpus-path", "--no-elf-needed"]


def library(folder: Path) -> Path:
    """A shared library of the C API's functions; what they call is missing."""
    exports = folder / "exports.map"
    exports.write_text("{ global: rnnfast_*; local: *; };", encoding="utf-8")
    made = folder / "librnnfast.so"
    options = ["-std=c++17", "-g", "-O0", "-fPIC", "-shared", '-DRNNFAST_VERSION="0"']
    options += [f"-I{HEADERS}", f"-I{ROOT / 'cpp' / 'src'}", f"-Wl,--version-script={exports}"]
    options += [f"-ffile-prefix-map={ROOT}/="]  # what is kept names no folder of the machine that wrote it
    sources = sorted((ROOT / "cpp" / "src" / "api").glob("c_api*.cpp"))
    subprocess.run(["g++", *options, *sources, "-o", made], check=True)
    return made


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        made = library(Path(folder))
        now = KEPT if sys.argv[1:] == ["--write"] else Path(folder) / "now.abi"
        headers = ["--headers-dir", HEADERS / "rnnfast"]
        subprocess.run(["abidw", *SHORT, *headers, made, "--out-file", now], check=True)
        done = subprocess.run(["abidiff", KEPT, now])
    # abidiff's status: 1 and 2 errors, 4 a change, 8 one that breaks programs. A new function is a change that must be kept, too.
    if done.returncode:
        print("python tools/abi.py --write keeps what is new; change RNNFAST_ABI_VERSION before what is there changes")
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
