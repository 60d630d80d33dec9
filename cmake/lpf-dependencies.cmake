# Libraries that LPF's own build uses: from the system where it has them, downloaded where it has not.
include(FetchContent)
if(POLICY CMP0135)
  cmake_policy(SET CMP0135 NEW)  # unpacked files are as old as the unpacking
endif()

# lpf_find(TARGET PACKAGE…): find_package, unless the project around LPF already has the target. What is found is made
# visible to that project, which links it through lpf::lpf.
function(lpf_find target package)
  if(NOT TARGET ${target})
    find_package(${package} QUIET ${ARGN})
    if(TARGET ${target})
      set_target_properties(${target} PROPERTIES IMPORTED_GLOBAL ON)
    endif()
  endif()
  set(${package}_VERSION "${${package}_VERSION}" PARENT_SCOPE)
endfunction()

# Target | oldest version | Debian package | folder of its headers in the archive | archive | SHA-256 of the archive.
# All are headers alone: a downloaded archive is unpacked, and nothing of its own build runs.
set(lpf_dependency_Eigen3
  Eigen3::Eigen 3.4 libeigen3-dev .
  https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz
  8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72)
set(lpf_dependency_nlohmann_json
  nlohmann_json::nlohmann_json 3.10 nlohmann-json3-dev include
  https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
  d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d)
set(lpf_dependency_CLI11
  CLI11::CLI11 2.1 libcli11-dev include
  https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.5.0.tar.gz
  17e02b4cddc2fa348e5dbdbb582c59a3486fa2b2433e70a0c3bacb871334fd55)
set(lpf_dependency_doctest
  doctest::doctest 2.4 doctest-dev .
  https://github.com/doctest/doctest/archive/refs/tags/v2.4.11.tar.gz
  632ed2c05a7f53fa961381497bf8069093f0d6628c5f26286161fbd32a560186)

# lpf_download(URL SHA256 ARCHIVE ADVICE): FetchContent alone would try for more than a minute where there is no network,
# and end with pages; this ends with the advice.
function(lpf_download url sha256 archive advice)
  if(EXISTS ${archive})
    file(SHA256 ${archive} found)
    if(found STREQUAL sha256)
      return()
    endif()
  endif()
  message(STATUS "LPF: downloading ${url}")
  file(DOWNLOAD ${url} ${archive} STATUS status INACTIVITY_TIMEOUT 60)
  list(POP_FRONT status failed reason)
  file(SHA256 ${archive} found)
  if(NOT failed AND NOT found STREQUAL sha256)
    set(reason "its SHA-256 is ${found} and should be ${sha256}")
  elseif(NOT failed)
    return()
  endif()
  file(REMOVE ${archive})
  message(FATAL_ERROR "${advice} The download of ${url} failed: ${reason}")
endfunction()

# lpf_dependency(NAME): the target of one of these libraries.
function(lpf_dependency name)
  list(POP_FRONT lpf_dependency_${name} target oldest package folder url sha256)
  lpf_find(${target} ${name} CONFIG)
  if(TARGET ${target})
    if(${name}_VERSION AND ${name}_VERSION VERSION_LESS oldest)
      message(FATAL_ERROR "LPF needs ${name} ${oldest} or newer and found ${${name}_VERSION}: name a newer one with "
                          "-D${name}_DIR=…, or -DCMAKE_DISABLE_FIND_PACKAGE_${name}=ON downloads one")
    endif()
    return()
  endif()
  string(TOLOWER lpf_${name} content)
  string(TOUPPER FETCHCONTENT_SOURCE_DIR_${content} unpacked)
  set(advice "LPF needs ${name} ${oldest} or newer, and this system has none: install it (on Debian: ${package}), or "
             "name its folder with -D${name}_DIR=…, or that of its unpacked archive with -D${unpacked}=….")
  string(CONCAT advice ${advice})
  cmake_path(GET url FILENAME file)
  set(archive ${FETCHCONTENT_BASE_DIR}/${content}-${file})
  if(NOT ${unpacked})
    if(NOT LPF_FETCH)
      message(FATAL_ERROR "${advice} With -DLPF_FETCH=ON it is downloaded.")
    endif()
    lpf_download(${url} ${sha256} ${archive} ${advice})
  endif()
  FetchContent_Declare(${content} URL ${archive} URL_HASH SHA256=${sha256} SOURCE_SUBDIR unpack-only)
  FetchContent_MakeAvailable(${content})
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE ${${content}_SOURCE_DIR}/${folder})
endfunction()
