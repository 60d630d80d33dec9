#!/usr/bin/env bash
# Windows without such a machine: compiles the tests of core (the noise's known answers among them), filter, io, ops and
# optim, the quickstart and digits with mingw-w64, and runs them under wine. The quickstart prints what it prints here, as long
# as rounding errors are small; the files of digits are bytes as here. Exits with 77 where there is no cross compiler or wine. Needs (Debian)
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
export OMP_NUM_THREADS=1 # results do not depend on it, and wine makes threads wait for long on a busy machine

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

# windows.h may be included before the library and after it, and AVX is refused where it would crash.
flags=(-std=c++20 -O2 -static "-I$root/include" "-I$root/datasets" -isystem /usr/include/eigen3)
for order in 'windows psapi lpf' 'lpf windows psapi'; do
  code=''
  for header in $order; do code+="#include <$([ "$header" = lpf ] && echo lpf/dense.hpp || echo "$header.h")>"$'\n'; done
  "$compiler" "${flags[@]}" -DNOMINMAX -DWIN32_LEAN_AND_MEAN -Wall -Wextra -Werror -fsyntax-only -x c++ - <<<"$code" ||
    fail "the headers do not compile with windows.h ($order)"
done
if "$compiler" "${flags[@]}" -mavx2 -mfma -fsyntax-only "$root/examples/quickstart.cpp" 2>"$work/avx.log"; then
  fail "-mavx2 is not refused"
fi
grep -q "GCC's AVX crashes on Windows" "$work/avx.log" || { cat "$work/avx.log"; fail "-mavx2 is refused in other words"; }

# Makes a program for this machine and two for Windows: with the same instructions, SSE2, and with AVX2 by lpf::native's flags.
avx2=(-march=x86-64-v3 "-Wa,-muse-unaligned-vector-move" -DLPF_UNALIGNED_MOVES=1)
three() {
  local name=$1
  shift
  g++ "${flags[@]}" "$@" -o "$work/$name"
  "$compiler" "${flags[@]}" "$@" -o "$work/$name-sse2.exe"
  "$compiler" "${flags[@]}" "${avx2[@]}" "$@" -o "$work/$name-avx2.exe"
}
has_avx2() { grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo; }
# windows PROGRAM [ARGUMENT…]: runs it under wine; its output without the carriage returns of printf().
windows() { "$wine" "$@" 2>>"$work/wine.log" </dev/null | tr -d '\r'; }

# The first call creates wine's folder, which takes some seconds.
"$wine" cmd /c ver >"$work/wine.log" 2>&1 </dev/null || { cat "$work/wine.log"; fail "wine does not run"; }
for suite in "${suites[@]}"; do
  start=$SECONDS
  (cd "$root" && "$wine" "$folder/bin/test_$suite.exe" --no-colors=true) >"$work/$suite.log" 2>&1 </dev/null ||
    { cat "$work/$suite.log"; fail "the tests of $suite failed"; }
  tr -d '\r' <"$work/$suite.log" | grep -a '^\[doctest\] assertions\|^skipped' || true
  printf '    %-12s ok, %s s\n' "$suite" $((SECONDS - start))
done

say "the noise and ten steps of training, here and there"
three noise "$root/tests/windows/noise.cpp"
three training "$root/tests/arm/training.cpp"
for name in noise training; do
  "$work/$name" >"$work/$name.here"
  for kind in sse2 avx2; do
    if [ $kind = avx2 ] && ! has_avx2; then echo "    $name-avx2: skipped, this processor has none"; continue; fi
    windows "$work/$name-$kind.exe" >"$work/$name.there" || fail "$name-$kind failed"
    echo "    $name-$kind: $(tail -n 1 "$work/$name.there")"
    # The noise's bits, and training's losses to four digits; the distance between two gradients is of rounding errors.
    diff <(sed 's/;.*//' "$work/$name.here") <(sed 's/;.*//' "$work/$name.there") || fail "$name-$kind prints something else"
  done
done

say "the quickstart, here and there"
g++ "${flags[@]}" "$root/examples/quickstart.cpp" -o "$work/quickstart"
"$work/quickstart" >"$work/quickstart.here"
windows "$folder/bin/quickstart.exe" >"$work/quickstart.there" || fail "the quickstart failed"
sed 's/^/    /' "$work/quickstart.there"
# The first ten epochs. exp() and log() of the two C libraries differ in the last digit, and training amplifies it.
diff <(head -n 1 "$work/quickstart.here") <(head -n 1 "$work/quickstart.there") || fail "the quickstart prints something else"
[ "$(wc -l <"$work/quickstart.there")" = 6 ] || fail "the quickstart did not end"

say "digits"
out=$work/'Größe 数'
(cd "$work" && windows "$folder/bin/digits.exe" --seeds 1 --epochs 2 --threads 2 --out 'Größe 数') >"$work/digits.log" ||
  { cat "$work/digits.log"; fail "digits failed"; }
for file in report.html test-error.svg results.csv results.json; do
  [ -s "$out/$file" ] || fail "digits wrote no $file into a folder with a name in UTF-8"
  if grep -q $'\r' "$out/$file"; then fail "digits wrote line ends of Windows into $file"; fi
done
grep -q 'Größe 数/report.html' "$work/digits.log" || { cat "$work/digits.log"; fail "digits prints other names than UTF-8"; }
grep -q -- '--out Größe 数' "$out/report.html" || fail "the report has another command line"
