"""The C++ and C library as a Conan 2 package, built from the tree that this file is in: ``conan create packaging/conan``."""

import re
from pathlib import Path

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy


class RnnfastConan(ConanFile):
    name = "rnnfast"
    license = "Apache-2.0"
    description = "Fast recurrent neural networks for CPUs"
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "openmp": [True, False], "training": [True, False]}  # noqa: RUF012
    default_options = {"shared": False, "openmp": False, "training": True}  # noqa: RUF012

    def set_version(self):
        project = (Path(self.recipe_folder).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
        self.version = re.search(r'^version = "(.+)"', project, re.MULTILINE)[1]

    def export_sources(self):
        top = Path(self.recipe_folder).parents[1]
        for pattern in ("CMakeLists.txt", "pyproject.toml", "LICENSE", "cmake/*", "cpp/include/*", "cpp/src/*"):
            copy(self, pattern, top, self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["RNNFAST_SHARED"] = bool(self.options.shared)
        toolchain.cache_variables["RNNFAST_OPENMP"] = bool(self.options.openmp)
        toolchain.cache_variables["RNNFAST_TRAINING"] = bool(self.options.training)
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, Path(self.package_folder) / "licenses")

    def package_info(self):
        # find_package(rnnfast) finds the CMake package that the library installs.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["lib/cmake/rnnfast"]
        self.cpp_info.libs = ["rnnfast"]
