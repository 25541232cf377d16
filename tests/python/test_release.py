"""The notes of a release come from the changelog, and its version is one."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

import rnnfast as rf

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
release = importlib.util.module_from_spec(spec)
spec.loader.exec_module(release)


def test_the_notes_are_the_section_of_the_changelog():
    assert release.notes(f"v{rf.__version__}").startswith("First version.")


def test_commands_of_pip_work_in_the_one_that_python_3_9_brings():
    """It has --config-settings and no -C."""
    for path in [*(ROOT / "docs").glob("*.md"), *ROOT.glob("README*.md"), ROOT / "CMakeLists.txt"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip (install|wheel)[^`\n]* -C", text), path
    source = (ROOT / "tools" / "wheels.py").read_text(encoding="utf-8")
    assert 'OPTIONS = ["--config-settings"' in source


def test_files_that_disagree_are_named(tmp_path):
    for name in ("CHANGELOG.md", *release.PLACES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    with pytest.raises(ValueError, match=r"pyproject.toml says .* and the tag is v9.9.9"):
        release.notes("v9.9.9", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("## 0.0.1\n\nNothing.\n")
    with pytest.raises(ValueError, match="no section for"):
        release.notes(f"v{rf.__version__}", tmp_path)
