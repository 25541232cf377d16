"""The build as other projects use it: inside another project, installed, and with other compilers and CPUs.

Nothing is compiled here: the projects are configured, and empty files stand for the libraries where they are installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_OPENMP = "-DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON"


def cmake(*arguments):
    if not shutil.which("cmake") or not (shutil.which("make") or shutil.which("ninja")):
        pytest.skip("no cmake, or neither make nor ninja, on the PATH")
    return subprocess.run(["cmake", *map(str, arguments)], capture_output=True, text=True)


def configured(source, build, *options):
    generator = (
        [] if (build / "CMakeCache.txt").exists() else ["-G", "Ninja" if shutil.which("ninja") else "Unix Makefiles"]
    )
    return cmake("-S", source, "-B", build, *generator, *options)


def succeeds(done):
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def one_line(text):
    """CMake breaks long messages."""
    return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A project with rnnfast as a part, and its build folder."""
    source = tmp_path_factory.mktemp("parent")
    (source / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.22)\nproject(parent CXX)\nadd_subdirectory({ROOT} rnnfast)\n"
    )
    return source, source / "build"


@pytest.fixture(scope="module")
def part(parent):
    """The build folder of rnnfast as a part of another project, with that project's defaults."""
    succeeds(configured(*parent))
    return parent[1]


@pytest.fixture(scope="module")
def prefix(parent, part, tmp_path_factory):
    """Where rnnfast is installed, with empty libraries, in a folder of libraries that has an absolute name."""
    folder = tmp_path_factory.mktemp("prefix")
    options = [f"-DCMAKE_INSTALL_PREFIX={folder}", f"-DCMAKE_INSTALL_LIBDIR={folder}/lib64", "-DRNNFAST_INSTALL=ON"]
    succeeds(configured(*parent, *options, "-DCMAKE_BUILD_TYPE=MinSizeRel"))
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    for name in (
        "librnnfast.a",
        f"librnnfast.so.{version}",
        f"librnnfast.so.{version.rpartition('.')[0]}",
        "librnnfast.so",
    ):
        (part / "rnnfast" / name).touch()
    succeeds(cmake("--install", part))
    return folder


@pytest.mark.fault("R12")
def test_a_part_of_another_project_installs_nothing_unless_it_is_asked_to(part, tmp_path):
    assert not list(tmp_path.iterdir())
    succeeds(cmake("--install", part, "--prefix", tmp_path))
    assert not list(tmp_path.rglob("*rnnfast*"))
    assert "RNNFAST_PYTHON:BOOL=OFF" in (part / "CMakeCache.txt").read_text()


@pytest.mark.fault("R12")
def test_the_pkg_config_file_keeps_an_absolute_library_folder(prefix):
    text = (prefix / "lib64" / "pkgconfig" / "rnnfast.pc").read_text()
    assert f"prefix={prefix}\nlibdir={prefix}/lib64\nincludedir=${{prefix}}/include\n" in text
    assert "//" not in text.replace("https://", "")


@pytest.mark.fault("R12")
def test_the_license_is_installed(prefix):
    assert "Apache License" in next(prefix.rglob("LICENSE")).read_text()


@pytest.mark.fault("R12")
def test_a_minimum_size_build_is_one_in_every_object(part, prefix):
    commands = json.loads((part / "compile_commands.json").read_text())
    ours = {c["file"]: c["command"] for c in commands}
    assert len(ours) > 30
    for file, command in ours.items():
        name = Path(file).name
        # The loops of tables for AMX are instructions for tiles alone.
        kernels = name.startswith("isa_") and not name.startswith("isa_amx_")
        assert re.findall(r" -O\S+", command)[-1] == (" -O2" if kernels else " -Os"), file
    rules = "".join(p.read_text() for p in (*part.rglob("link.txt"), *part.rglob("build.ninja")))
    assert re.search(r"-Wl,--gc-sections[^\n]* -s\b", rules)


def test_what_the_shared_library_exports_is_one_of_two_names(tmp_path):
    done = configured(ROOT, tmp_path, "-DRNNFAST_EXPORTS=network")
    assert done.returncode != 0
    assert "RNNFAST_EXPORTS is network: expected all, or networks" in one_line(done.stderr)


@pytest.mark.fault("R12")
@pytest.mark.parametrize(
    ("asked", "found"), [("0.1", True), ("0.1.0", True), ("0.9", False), ("0.0", False), ("1.0", False)]
)
def test_before_version_1_a_program_finds_only_the_minor_version_it_requests(prefix, tmp_path, asked, found):
    major, minor = asked.split(".")[:2]
    script = tmp_path / "check.cmake"
    script.write_text(
        f"set(PACKAGE_FIND_VERSION {asked})\nset(PACKAGE_FIND_VERSION_MAJOR {major})\nset(PACKAGE_FIND_VERSION_MINOR {minor})\n"
        f"include({next(prefix.rglob('rnnfast-config-version.cmake'))})\nmessage(STATUS compatible=${{PACKAGE_VERSION_COMPATIBLE}})\n"
    )
    assert ("compatible=TRUE" in succeeds(cmake("-P", script)).stdout) == found


def consumer(folder, language, target, prefix, *options):
    """Configures a project that links the installed library."""
    folder.mkdir(exist_ok=True)
    end = {"C": "c", "CXX": "cpp"}[language]
    (folder / f"main.{end}").write_text("int main(void) { return 0; }\n")
    (folder / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.22)\nproject(consumer {language})\nfind_package(rnnfast 0.1 REQUIRED)\n"
        f"add_executable(main main.{end})\ntarget_link_libraries(main PRIVATE {target})\n"
        f"get_target_property(features {target} INTERFACE_COMPILE_FEATURES)\nmessage(STATUS features=${{features}})\n"
    )
    return configured(
        folder,
        folder / "build",
        f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-Drnnfast_DIR={prefix}/lib64/cmake/rnnfast",
        *options,
    )


@pytest.mark.fault("R5", "R12")
def test_a_c_project_without_openmp_links_the_shared_library(prefix, tmp_path):
    succeeds(consumer(tmp_path / "c", "C", "rnnfast::shared", prefix, NO_OPENMP))


@pytest.mark.fault("R5", "R12")
def test_only_what_links_the_static_library_needs_openmp(prefix, tmp_path):
    done = succeeds(consumer(tmp_path / "cpp", "CXX", "rnnfast::shared", prefix, NO_OPENMP))
    assert "features=cxx_std_17" in done.stdout
    done = consumer(tmp_path / "cpp", "CXX", "rnnfast::rnnfast", prefix)
    assert done.returncode != 0
    assert "OpenMP::OpenMP_CXX" in done.stderr
    done = succeeds(consumer(tmp_path / "cpp", "CXX", "rnnfast::rnnfast", prefix, NO_OPENMP.replace("ON", "OFF")))
    assert "features=cxx_std_17" in done.stdout


@pytest.mark.fault("R5")
def test_the_error_for_a_compiler_without_openmp_names_both_solutions(parent, prefix):
    done = configured(*parent, NO_OPENMP)
    assert done.returncode != 0
    assert "libomp" in one_line(done.stderr)
    assert "-DRNNFAST_OPENMP=OFF" in one_line(done.stderr)


@pytest.mark.fault("R4")
@pytest.mark.parametrize(
    ("processor", "family"),
    [
        *((name, "x86_64") for name in ("x86_64", "AMD64", "amd64", "x64", "X86-64")),
        *((name, "aarch64") for name in ("aarch64", "ARM64", "arm64", "arm64e")),
        *((name, "other") for name in ("riscv64", "armv7l", "wasm32", "i686", "loongarch64", "ppc64le")),
        *((name, None) for name in ("aarch64_be", "s390x", "ppc64")),
    ],
)
def test_processors_are_known_by_all_their_names(tmp_path, processor, family):
    script = tmp_path / "family.cmake"
    script.write_text(
        f"include({ROOT}/cmake/RnnfastIsa.cmake)\nrnnfast_family(family {processor} LITTLE_ENDIAN)\nmessage(STATUS family=${{family}}.)\n"
    )
    done = cmake("-P", script)
    if family is None:
        assert done.returncode != 0
        assert f"{processor} is big-endian" in one_line(done.stderr)
    else:
        assert f"family={family}." in succeeds(done).stdout
