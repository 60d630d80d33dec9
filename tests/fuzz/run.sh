#!/usr/bin/env bash
# run.sh SECONDS [TARGET...]: fuzzes the file readers for SECONDS each: idx npy npz safetensors cifar tar, by default
# all. Needs clang (libFuzzer, address and undefined-behaviour sanitizers), zlib and liblzma. Works in build/fuzz:
# corpora stay there, and failing inputs are stored as build/fuzz/TARGET-crash-*. Ends with one line per target; exits
# with 1 if any reader failed.
#   JOBS=1     targets at a time
#   CXX=clang++
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/build/fuzz
jobs=${JOBS:-1}
compiler=${CXX:-clang++}

usage() { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p;}' "$0"; }
fail() { printf 'run.sh: %s\n' "$*" >&2; exit 2; }

case ${1:-} in
  -h | --help) usage; exit ;;
  '' | *[!0-9]*) usage >&2; exit 2 ;;
esac
seconds=$1
shift
all=(idx npy npz safetensors cifar tar)
targets=("$@")
[ $# -gt 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do
  [[ " ${all[*]} " == *" $target "* ]] || fail "there is no target '$target', there are: ${all[*]}"
done
command -v "$compiler" >/dev/null || fail "needs $compiler (on Debian: clang); CXX names another"
command -v python3 >/dev/null || fail "needs python3, which writes the files to start from"

eigen=()
for folder in /usr/include/eigen3 /usr/local/include/eigen3; do
  [ ! -d "$folder" ] || eigen=(-isystem "$folder")
done
mkdir -p "$out"
python3 "$root/tests/fuzz/seeds.py" "$out/seeds"

program=$out/readers
if [ ! -e "$program" ] || [ -n "$(find "$root/include" "$root/tests/fuzz/readers.cpp" -newer "$program" -print -quit)" ]; then
  echo "==> building build/fuzz/readers"
  "$compiler" -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
    -DLPF_HAS_ZLIB=1 -DLPF_HAS_LZMA=1 -I"$root/include" "${eigen[@]}" "$root/tests/fuzz/readers.cpp" \
    -o "$program.new" -lz -llzma || fail "the readers do not build"
  mv "$program.new" "$program"
fi

# fuzz TARGET: runs it; its output is in TARGET.log.
fuzz() {
  local log=$out/$1.log result=ok
  mkdir -p "$out/corpus/$1"
  LPF_FUZZ=$1 "$program" -max_total_time="$seconds" -timeout=120 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=16384 \
    -print_final_stats=1 -artifact_prefix="$out/$1-" "$out/corpus/$1" "$out/seeds/$1" >"$log" 2>&1 || result=BROKEN
  printf '%-12s %10s runs, corpus %4s  %s\n' "$1" \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$(find "$out/corpus/$1" -type f | wc -l)" "$result"
  [ $result = ok ] || { grep -m 3 -E 'ERROR|SUMMARY|runtime error' "$log"; return 1; }
}

echo "==> ${#targets[@]} targets, $seconds s each"
failed=0
running=0
for target in "${targets[@]}"; do
  if [ $running -ge "$jobs" ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
  fuzz "$target" &
  running=$((running + 1))
done
for ((; running > 0; --running)); do wait -n || failed=1; done
exit $failed
