"""Prints what a release changes: ``python tools/release.py v0.1.0``, the text of its page.

Refuses a version that pyproject.toml, CITATION.cff, the recipes in packaging and CHANGELOG.md do not agree on.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = {
    "pyproject.toml": r'^version = "(.*)"$',
    "CITATION.cff": r"^version: (.*)$",
    "packaging/conda/recipe.yaml": r'^  version: "(.*)"$',
    "packaging/debian/changelog": r"\A\S+ \((.*)-\d+\)",
    "packaging/vcpkg/rnnfast/vcpkg.json": r'^  "version": "(.*)",$',
}


def notes(tag: str, root: Path = ROOT) -> str:
    """The section of the changelog for the version of a tag; ``ValueError`` if a file names another version."""
    version = re.sub("^v", "", tag)
    for name, pattern in PLACES.items():
        (found,) = re.findall(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        if found != version:
            raise ValueError(f"{name} says {found}, and the tag is {tag}: change one of them")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(version)}\n(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE)
    if section is None or not section[1].strip():
        raise ValueError(f"CHANGELOG.md has no section for {version}: give the changes under '## {version}'")
    return section[1].strip()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        print(notes(sys.argv[1]))
    except ValueError as error:
        sys.exit(str(error))
