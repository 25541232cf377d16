"""The recipes in packaging have the project's version, license and requirements, and are documented."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
release = importlib.util.module_from_spec(spec)
spec.loader.exec_module(release)


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def project(key):
    return re.search(rf'^{key} = "(.*)"$', text("pyproject.toml"), re.MULTILINE)[1]


def test_every_recipe_has_the_version_of_pyproject():
    for name, pattern in release.PLACES.items():
        assert re.findall(pattern, text(name), re.MULTILINE) == [project("version")], name
    assert '"pyproject.toml"' in text("packaging/conan/conanfile.py")  # Conan's recipe reads it there


def test_every_recipe_has_the_license_of_pyproject():
    found = {
        "conan/conanfile.py": re.findall(r'^    license = "(.*)"$', text("packaging/conan/conanfile.py"), re.MULTILINE),
        "conda/recipe.yaml": re.findall(r"^  license: (.*)$", text("packaging/conda/recipe.yaml"), re.MULTILINE),
        "debian/copyright": re.findall(r"^License: (.*)$", text("packaging/debian/copyright"), re.MULTILINE),
        "vcpkg/rnnfast/vcpkg.json": [json.loads(text("packaging/vcpkg/rnnfast/vcpkg.json"))["license"]],
    }
    assert found == {name: [project("license")] for name in found}


def test_the_conda_recipe_requires_what_pyproject_requires():
    pyproject = text("pyproject.toml")
    listed = [re.search(rf"^{key} = (\[.*\])$", pyproject, re.MULTILINE)[1] for key in ("requires", "dependencies")]
    wanted = {item for line in listed for item in json.loads(line)} | {"python" + project("requires-python")}
    recipe = text("packaging/conda/recipe.yaml")
    assert wanted <= {line.replace(" ", "") for line in re.findall(r"^    - (.*)$", recipe, re.MULTILINE)}


def test_the_debian_package_is_named_for_the_abi_of_the_library():
    major, minor, _ = project("version").split(".")
    abi = f"{major}.{minor}" if major == "0" else major  # compatible_version in CMakeLists.txt
    packages = re.findall(r"^Package: (.*)$", text("packaging/debian/control"), re.MULTILINE)
    assert packages == [f"librnnfast{abi}", "librnnfast-dev"]
    assert (PACKAGING / "debian" / f"librnnfast{abi}.install").exists()


def test_every_recipe_is_a_row_of_the_page():
    rows = re.findall(r"^\| .* \|.*packaging/(\w+).*$", text("docs/deploy.md"), re.MULTILINE)
    assert sorted(rows) == sorted(folder.name for folder in PACKAGING.iterdir())
