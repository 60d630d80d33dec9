#!/usr/bin/env bash
# 64-bit ARM without such a machine: compiles the tests of core (the noise's known answers among them), the float product
# and a training program with a cross compiler, headers alone, and runs them under qemu. Exits with 77 where there is no
# cross compiler or emulator. Needs (Debian) g++-aarch64-linux-gnu qemu-user doctest-dev libeigen3-dev.
#   tests/arm/run.sh
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../../scripts/common.sh
. "$(dirname "$0")/../../scripts/common.sh"
compiler=${AARCH64_CXX:-aarch64-linux-gnu-g++} emulator=${AARCH64_EMULATOR:-qemu-aarch64}
for program in "$compiler" "$emulator"; do
  command -v "$program" >/dev/null || { echo "no $program (on Debian: g++-aarch64-linux-gnu, qemu-user)"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/include"
cp -r /usr/include/doctest "$work/include" # alone: the rest of /usr/include is this machine's
flags=(-std=c++20 -O1 -static -Wall -Wextra -Werror "-I$root/include" "-I$root/datasets" "-I$root/tests"
  "-DLPF_FIXTURE_DIR=\"$root/tests/fixtures\"" -isystem "$work/include" -isystem /usr/include/eigen3)

# program NAME SOURCE…: compiles and runs it, with the arguments in `arguments`.
arguments=()
program() {
  local name=$1 start=$SECONDS
  shift
  "$compiler" "${flags[@]}" "$@" -o "$work/$name"
  "$emulator" "$work/$name" "${arguments[@]}" >"$work/$name.log" 2>&1 || { cat "$work/$name.log"; fail "$name failed"; }
  tail -n 1 "$work/$name.log"
  printf '    %-12s ok, %s s\n' "$name" $((SECONDS - start))
}

say "64-bit ARM: $("$compiler" -dumpmachine), $("$emulator" --version | head -n 1)"
program noise "$root"/tests/test_main.cpp "$root"/tests/core/{noise,noise_portable,philox}_test.cpp "$root"/tests/core/noise_portable.cpp
program core "$root"/tests/{test_main,tensor_test}.cpp "$root"/tests/core/{bfloat16,error,shape}_test.cpp
program isa -x c++ - <<'CODE'
#include <cstdio>
#include <lpf/backend/cpu/isa.hpp>
int main() { return std::puts(LPF_ISA_NAME) < 0 || LPF_VECTOR_BYTES != 16; }
CODE
program dense "$root"/tests/consumer/dense.cpp
program training "$root"/tests/arm/training.cpp
