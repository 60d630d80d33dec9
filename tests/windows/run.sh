#!/usr/bin/env bash
# Windows without such a machine: compiles the tests of core (the noise's known answers among them), filter, io, ops and
# optim, the quickstart and digits with mingw-w64, and runs them under wine. The quickstart prints what it prints here; the
# files of digits are bytes as here. Exits with 77 where there is no cross compiler or wine. Needs (Debian)
# g++-mingw-w64-x86-64-posix wine64 wine doctest-dev libeigen3-dev nlohmann-json3-dev libcli11-dev cmake ninja-build.
#   tests/windows/run.sh [FOLDER]    builds in FOLDER, which is kept, instead of a temporary one
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../../scripts/common.sh
. "$(dirname "$0")/../../scripts/common.sh"
compiler=${MINGW_CXX:-x86_64-w64-mingw32-g++-posix} wine=${WINE:-wine}
for program in "$compiler" "$wine" g++; do
  command -v "$program" >/dev/null || { echo "no $program (on Debian: g++-mingw-w64-x86-64-posix, wine)"; exit 77; }
done
work=$(mktemp -d)
trap 'WINEPREFIX=$work/wine wineserver -k 2>/dev/null || true; rm -rf "$work"' EXIT
folder=${1:-$work/build}
mkdir -p "$work/headers/include"
for library in CLI doctest nlohmann; do # alone: the rest of /usr/include is this machine's
  cp -r "/usr/include/$library" "$work/headers/include"
done
export WINEPREFIX=$work/wine WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml=' DISPLAY=

say "Windows: $("$compiler" -dumpmachine), g++ $("$compiler" -dumpversion), $("$wine" --version)"
cmake -S "$root" -B "$folder" -G Ninja --toolchain "$root/cmake/mingw-w64.cmake" "-DCMAKE_CXX_COMPILER=$compiler" \
  -DCMAKE_BUILD_TYPE=Release -DLPF_WERROR=ON -DLPF_FETCH=OFF -DLPF_STB_INCLUDE_DIR=/usr/include/stb \
  -DFETCHCONTENT_SOURCE_DIR_LPF_EIGEN3=/usr/include/eigen3 \
  "-DFETCHCONTENT_SOURCE_DIR_LPF_NLOHMANN_JSON=$work/headers" "-DFETCHCONTENT_SOURCE_DIR_LPF_CLI11=$work/headers" \
  "-DFETCHCONTENT_SOURCE_DIR_LPF_DOCTEST=$work/headers/include" >"$work/cmake.log" 2>&1 ||
  { cat "$work/cmake.log"; fail "configuring failed"; }
suites=(core filter io ops optim)
cmake --build "$folder" --parallel "$jobs" --target quickstart digits "${suites[@]/#/test_}" >"$work/build.log" 2>&1 ||
  { cat "$work/build.log"; fail "the build failed"; }

# The first call creates wine's folder, which takes some seconds.
"$wine" cmd /c ver >"$work/wine.log" 2>&1 </dev/null || { cat "$work/wine.log"; fail "wine does not run"; }
for suite in "${suites[@]}"; do
  start=$SECONDS
  (cd "$root" && "$wine" "$folder/bin/test_$suite.exe" --no-colors=true) >"$work/$suite.log" 2>&1 </dev/null ||
    { cat "$work/$suite.log"; fail "the tests of $suite failed"; }
  tr -d '\r' <"$work/$suite.log" | grep -a '^\[doctest\] assertions\|^skipped' || true
  printf '    %-12s ok, %s s\n' "$suite" $((SECONDS - start))
done
