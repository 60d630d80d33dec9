# shellcheck shell=bash disable=SC2034
# Shared by the other scripts and .ci/run: packages, the release build in build/release, the CUDA build in build/cuda.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/release
jobs=$(nproc)
toolchain=(g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev libcli11-dev zlib1g-dev)

install=yes
args=()

say() { printf '==> %s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# parse ARGUMENT...: the options of demo and test; the first argument that is none of them, and all after it, are args.
parse() {
  while [ $# -gt 0 ]; do
    case $1 in
      --no-install) install=no ;;
      -h | --help) usage; exit ;;
      --) shift; break ;;
      *) break ;;
    esac
    shift
  done
  args=("$@")
}

# have PACKAGE: is it installed, by Debian or in another way? Looks for a program or a header of the package.
have() {
  local file
  case $1 in
    ninja-build) file=ninja ;;
    libeigen3-dev) file=eigen3/Eigen/Core ;;
    nlohmann-json3-dev) file=nlohmann/json.hpp ;;
    libcli11-dev) file=CLI/CLI.hpp ;;
    zlib1g-dev) file=zlib.h ;;
    liblzma-dev) file=lzma.h ;;
    libstb-dev) file=stb/stb_image.h ;;
    doctest-dev) file=doctest/doctest.h ;;
    libsentencepiece-dev) file=sentencepiece_processor.h ;;
    openmpi-bin) file=mpirun.openmpi ;;
    libopenmpi-dev) file=mpicxx.openmpi ;;
    doxygen-awesome-css) file=../share/doxygen-awesome-css/doxygen-awesome.css ;;
    mpich) file=mpirun.mpich ;;
    libmpich-dev) file=mpicxx.mpich ;;
    *) file=$1 ;;
  esac
  [ -e "/usr/include/$file" ] || [ -e "/usr/local/include/$file" ] || command -v "$file" >/dev/null
}

# require PACKAGE...: names the missing ones and installs them; with --no-install (install=no) names them and exits.
require() {
  local missing=() package as_root=()
  for package; do have "$package" || missing+=("$package"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$install" = yes ] || fail "missing packages; install them with: sudo apt-get install -y ${missing[*]}"
  command -v apt-get >/dev/null || fail "missing packages (by Debian's names): ${missing[*]}; this script can install" \
    "them only with apt-get, so install them and call it again"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "missing packages: ${missing[*]}; installing them needs root or sudo"
    as_root=(sudo)
  fi
  say "installing with apt-get: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq || fail "apt-get update failed; still missing: ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >/dev/null || fail "apt-get install failed; still missing: ${missing[*]}"
}

# configured OPTION...: is build/release configured, for this folder, with these options?
configured() {
  local option
  [ -e "$build/build.ninja" ] || return 1
  for option in "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$@"; do
    grep -qxF -- "${option#-D}" "$build/CMakeCache.txt" || return 1
  done
}

# configure_cuda OPTION...: configures build/cuda for this machine's GPU. cuDNN may be one of Python's packages.
configure_cuda() {
  local options=(-DCMAKE_CUDA_ARCHITECTURES=native "$@") cudnn
  cudnn=$(python3 -c 'import nvidia.cudnn; print(list(nvidia.cudnn.__path__)[0])' 2>/dev/null) || cudnn=''
  [ ! -e "$cudnn/include/cudnn.h" ] || options+=("-DCMAKE_PREFIX_PATH=$cudnn")
  cmake --preset cuda -S "$root" "${options[@]}"
}

# configure OPTION...: configures build/release unless it has these options. Its other settings are unchanged.
configure() {
  configured "$@" && return
  if [ -e "$build/CMakeCache.txt" ] && ! configured; then rm -rf "$build/CMakeCache.txt" "$build/CMakeFiles"; fi
  say "configuring in build/release"
  (cd "$root" && cmake --preset release "$@") || fail "configuring failed"
}
