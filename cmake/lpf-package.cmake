# cpack -G DEB: a Debian package of the headers, for every architecture. It needs a build folder without the compiled
# backend, which is of one processor:
#   cmake -S . -B build/deb -DLPF_BUILD_COMPILED=OFF -DLPF_BUILD_TESTS=OFF -DLPF_BUILD_EXAMPLES=OFF \
#     -DLPF_BUILD_BENCHMARKS=OFF -DCMAKE_INSTALL_PREFIX=/usr && (cd build/deb && cpack -G DEB)
set(CPACK_PACKAGE_NAME liblpf-dev)
set(CPACK_PACKAGE_CONTACT "the authors of LPF <lpf@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_GENERATOR DEB)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libeigen3-dev (>= 3.4)")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "nlohmann-json3-dev (>= 3.10), zlib1g-dev, liblzma-dev, libstb-dev")
include(CPack)
