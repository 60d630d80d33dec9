# An overlay port of this folder's LPF: vcpkg install lpf --overlay-ports=packaging/vcpkg. Unverified: written after
# vcpkg's documentation, and never run.
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH packaging)
cmake_path(GET packaging PARENT_PATH SOURCE_PATH)

vcpkg_cmake_configure(SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS -DLPF_BUILD_COMPILED=OFF -DLPF_BUILD_TESTS=OFF -DLPF_BUILD_EXAMPLES=OFF -DLPF_BUILD_BENCHMARKS=OFF
          -DLPF_FETCH=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME lpf CONFIG_PATH lib/cmake/lpf)
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug" "${CURRENT_PACKAGES_DIR}/lib")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
