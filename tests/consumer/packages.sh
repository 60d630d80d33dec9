#!/usr/bin/env bash
# Builds the packages that can be built here, a Debian package and, if conan is there, a Conan package, and the quickstart
# against each; and the quickstart against headers that were installed without building lpf::compiled. Nothing is
# installed outside a temporary folder.
#   tests/consumer/packages.sh
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../../scripts/common.sh
. "$(dirname "$0")/../../scripts/common.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
headers=(-DLPF_BUILD_COMPILED=OFF -DLPF_BUILD_TESTS=OFF -DLPF_BUILD_EXAMPLES=OFF -DLPF_BUILD_BENCHMARKS=OFF)

# run NAME COMMAND…: shows what it prints only if it fails.
run() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 || { cat "$work/$name.log"; fail "$name failed"; }
}

# quickstart NAME OPTION…: configures, builds and runs the quickstart of a user.
quickstart() {
  local name=$1 start=$SECONDS
  shift
  run "$name-configure" cmake -S "$root/tests/consumer/quickstart" -B "$work/$name" -G Ninja -DCMAKE_BUILD_TYPE=Release "$@"
  run "$name-build" cmake --build "$work/$name"
  run "$name-test" ctest --test-dir "$work/$name" --no-tests=error --output-on-failure
  printf '    %-22s ok, %s s\n' "$name" $((SECONDS - start))
}

say "packages"
run configure cmake -S "$root" -B "$work/build" -G Ninja # lpf::compiled would be built, and is not
run install cmake --install "$work/build" --prefix "$work/prefix"
quickstart installed-headers "-DCMAKE_PREFIX_PATH=$work/prefix"

if command -v dpkg-deb >/dev/null; then
  run deb-configure cmake -S "$root" -B "$work/deb-build" -G Ninja "${headers[@]}"
  (cd "$work/deb-build" && run cpack cpack -G DEB)
  deb=$(echo "$work"/deb-build/liblpf-dev_*_all.deb)
  dpkg-deb --field "$deb" Depends | grep -q libeigen3-dev || fail "the Debian package does not name Eigen"
  dpkg-deb -x "$deb" "$work/unpacked"
  [ -z "$(find "$work/unpacked" -name '*.a')" ] || fail "the Debian package of all architectures has a library"
  quickstart deb "-DCMAKE_PREFIX_PATH=$work/unpacked/usr"
else
  printf '    %-22s skipped: no dpkg-deb\n' deb
fi

if command -v conan >/dev/null; then
  export CONAN_HOME=$work/conan
  run conan-profile conan profile detect
  run conan-create conan create "$root/packaging/conan" -o 'lpf/*:system_libraries=True'
  printf '[requires]\nlpf/[*]\n[options]\nlpf/*:system_libraries=True\n[generators]\nCMakeDeps\nCMakeToolchain\n' \
    >"$work/conanfile.txt"
  run conan-install conan install "$work/conanfile.txt" --output-folder "$work/generators"
  quickstart conan "-DCMAKE_TOOLCHAIN_FILE=$work/generators/conan_toolchain.cmake"
else
  printf '    %-22s skipped: no conan (pip install conan)\n' conan
fi
