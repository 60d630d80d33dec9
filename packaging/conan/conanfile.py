"""The headers of LPF as a Conan 2 package, from this folder:

    conan create packaging/conan                                    Eigen and nlohmann-json from Conan Center
    conan create packaging/conan -o 'lpf/*:system_libraries=True'   from the system

A program says find_package(lpf) and links lpf::lpf, as with an installed LPF.
"""

import pathlib
import re

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain
from conan.tools.files import copy

root = pathlib.Path(__file__).resolve().parent.parent.parent


class LPF(ConanFile):
    name = "lpf"
    description = "A C++20 deep-learning mini-framework with low-pass filtering SGD"
    license = "Apache-2.0"
    topics = ("deep-learning", "optimization", "header-only")
    package_type = "header-library"
    settings = "os", "compiler", "build_type", "arch"
    options = {"system_libraries": [True, False]}
    default_options = {"system_libraries": False}

    def set_version(self):
        self.version = re.search(r"project\(lpf VERSION ([\d.]+)", (root / "CMakeLists.txt").read_text()).group(1)

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "include/*", "datasets/lpf_datasets/*", "cmake/*", "src/*"):
            copy(self, pattern, root, self.export_sources_folder)

    def requirements(self):
        if not self.options.system_libraries:
            self.requires("eigen/3.4.0", transitive_headers=True)
            self.requires("nlohmann_json/3.11.3", transitive_headers=True)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables |= {"LPF_BUILD_COMPILED": False, "LPF_BUILD_TESTS": False,
                                      "LPF_BUILD_EXAMPLES": False, "LPF_BUILD_BENCHMARKS": False, "LPF_FETCH": False}
        toolchain.generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()

    def package_id(self):
        self.info.clear()

    def package_info(self):
        # find_package() reads LPF's own files, which define lpf::native for the consumer's processor.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["lib/cmake/lpf"]
        self.cpp_info.libdirs = self.cpp_info.bindirs = []
