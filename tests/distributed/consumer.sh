#!/usr/bin/env bash
# Builds examples/data_parallel.cpp with each MPI of this machine (Open MPI, MPICH) and runs it in 1, 2 and 4 processes,
# which must print the same hash. Exits with 77 if there is no MPI. Needs lpf_compiled in build/release.
#   tests/distributed/consumer.sh
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../../scripts/common.sh
. "$(dirname "$0")/../../scripts/common.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1

[ -e "$build/liblpf_compiled.a" ] || fail "build lpf_compiled in build/release first"
found=no
for mpi in openmpi mpich; do
  command -v "mpicxx.$mpi" >/dev/null || continue
  command -v "mpirun.$mpi" >/dev/null || continue
  found=yes
  "mpicxx.$mpi" -std=c++20 -O1 -Wall -Wextra -Wpedantic -Werror -DLPF_MPI=1 -DLPF_COMPILED=1 -I"$root/include" \
    -I"$root/datasets" "$root/examples/data_parallel.cpp" "$build/liblpf_compiled.a" -lpthread -o "$work/$mpi"
  flags=()
  [ $mpi = mpich ] || flags=(--oversubscribe --bind-to none)
  for ranks in 1 2 4; do
    timeout 100 "mpirun.$mpi" "${flags[@]}" -np $ranks "$work/$mpi" >>"$work/out"
    printf '    %s, %s: %s' $mpi $ranks "$(tail -n 1 "$work/out")"$'\n'
  done
done
[ $found = yes ] || { echo "no MPI: skipped" && exit 77; }
[ "$(sed 's/.*, test/test/' "$work/out" | sort -u | wc -l)" = 1 ] || fail "the results differ"
