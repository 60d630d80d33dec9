#!/usr/bin/env bash
# Builds and runs users' projects: LPF installed, in a subdirectory and fetched, as headers and compiled, with a user's
# own warnings (as errors), processor flags and Eigen. Installs nothing, except into a temporary folder.
#   tests/consumer/run.sh
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../../scripts/common.sh
. "$(dirname "$0")/../../scripts/common.sh"
consumers=$root/tests/consumer
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# project NAME FOLDER OPTION…: builds tests/consumer/FOLDER in $work/NAME and runs its programs. In the background: a
# project has few files to compile in parallel, so the projects run in parallel.
project() { build "$@" & }
build() {
  local name=$1 folder=$2 log=$work/$1.log
  shift 2
  if { cmake -S "$consumers/$folder" -B "$work/$name" -G Ninja -DCMAKE_BUILD_TYPE=Release "$@" &&
    cmake --build "$work/$name" --parallel "$(((jobs + 1) / 2))" &&
    ctest --test-dir "$work/$name" --no-tests=error --output-on-failure; } >"$log" 2>&1; then
    printf '    %-22s ok\n' "$name"
  else
    cat "$log"
    fail "the users' project $name failed"
  fi
}

# lacks PROJECT PROGRAM PATTERN: the compile command of the program's first file must not match.
lacks() {
  local command
  command=$(grep "\"command\".*CMakeFiles/$2.dir/.*first.cpp" "$work/$1/compile_commands.json") || fail "no $1/$2"
  if grep -oE -- "$3" <<<"$command"; then fail "$1/$2 is compiled with flags or folders of LPF's that it must not see"; fi
}

say "users' projects"
configured || configure -DLPF_BUILD_TESTS:BOOL=OFF
cmake --build "$build" --target lpf_compiled --parallel "$jobs" >"$work/build.log" || { cat "$work/build.log"; exit 1; }
cmake --install "$build" --prefix "$work/elsewhere" >/dev/null
mv "$work/elsewhere" "$work/prefix" # an installed package can be moved
if grep -rIl --include='*.cmake' -e "$root" "$work/prefix"; then fail "installed files name the source folder"; fi

project installed installed -DCMAKE_PREFIX_PATH="$work/prefix"

# Two instruction sets in one program: the two highest levels that this processor supports.
marches=()
if [ "$(uname -m)" = x86_64 ]; then
  levels=(x86-64-v2)
  if grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo; then levels+=(x86-64-v3); fi
  if grep -qw avx512vl /proc/cpuinfo && grep -qw avx512dq /proc/cpuinfo; then levels+=(x86-64-v4); fi
  if [ ${#levels[@]} -gt 1 ]; then marches=("-DMARCH_FIRST=${levels[-2]}" "-DMARCH_SECOND=${levels[-1]}"); fi
fi
project subdirectory subdirectory -DLPF_SOURCE="$root" "${marches[@]}"
if command -v clang++ >/dev/null; then
  project subdirectory-clang subdirectory -DLPF_SOURCE="$root" -DCMAKE_CXX_COMPILER=clang++
else
  printf '    %-22s skipped: no clang++\n' subdirectory-clang
fi

# With Eigen as if downloaded: in a folder that find_package does not search.
eigen=()
if [ -d /usr/include/eigen3 ]; then
  eigen=(-DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON -DFETCHCONTENT_SOURCE_DIR_LPF_EIGEN3=/usr/include/eigen3)
fi
project fetched fetched -DLPF_SOURCE="$root" "${eigen[@]}"

# A library that is missing and cannot be downloaded (nothing listens on port 9): one message, with the remedy.
if https_proxy=http://127.0.0.1:9 cmake -S "$consumers/subdirectory" -B "$work/offline" -DLPF_SOURCE="$root" \
  -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON >"$work/offline.log" 2>&1; then
  fail "a project that lacks Eigen was configured"
fi
if [ "$(grep -c 'libeigen3-dev' "$work/offline.log")" != 1 ] || [ "$(wc -l <"$work/offline.log")" -gt 40 ]; then
  cat "$work/offline.log"
  fail "a failed download must end with one message"
fi

# CMake's default, a build without optimisation, is warned of.
for type in '' Release; do
  cmake -S "$consumers/installed" -B "$work/type$type" -DCMAKE_BUILD_TYPE=$type -DCMAKE_PREFIX_PATH="$work/prefix" \
    >"$work/type.log" 2>&1 || { cat "$work/type.log"; fail "the users' project does not configure"; }
  warned=$(grep -c 'CMAKE_BUILD_TYPE is empty' "$work/type.log" || true)
  [ "$warned" = "$([ -n "$type" ] && echo 0 || echo 1)" ] || fail "build type '$type': $warned warnings"
done

failed=0
for each in $(jobs -p); do wait "$each" || failed=1; done
[ $failed = 0 ] || exit 1
lacks installed headers ' -(m[a-z]|Wno-|O3)[^ ]*'
lacks installed compiled '[^ ]*eigen[^ ]*| -(m[a-z]|Wno-|O3)[^ ]*'
lacks fetched headers ' -(m[a-z]|Wno-|O3|fopenmp( |$))[^ ]*'
