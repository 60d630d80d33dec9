// Packs: neighbouring elements that a thread reads or writes with one access of up to 16 bytes (two where it
// is of 32). One text serves arrays that allow that and those that do not, whose packs are of one element.
#pragma once

#include <algorithm>
#include <cstdint>

#include "elements.hpp"

namespace lpf::cuda {

template <class T, int N>
struct alignas(std::min<std::size_t>(16, N * sizeof(T))) Pack {
  T element[N];
  LPF_DEVICE T& operator[](int k) { return element[k]; }
  LPF_DEVICE const T& operator[](int k) const { return element[k]; }
};

/// The most elements of T in one access.
template <class T>
inline constexpr int widest_pack = 16 / static_cast<int>(sizeof(T));

template <class P>
bool is_aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % alignof(P) == 0;
}

template <int N, class T>
LPF_DEVICE Pack<T, N> load(const T* p) {
  using P = Pack<T, N>;
#ifndef __CUDACC__
  check<DeviceError>(is_aligned<P>(p), "device", "a misaligned address is read");
#endif
  return *reinterpret_cast<const P*>(p);
}
template <int N, class T>
LPF_DEVICE void store(T* p, const Pack<T, N>& values) {
  using P = Pack<T, N>;
#ifndef __CUDACC__
  check<DeviceError>(is_aligned<P>(p), "device", "a misaligned address is written");
#endif
  *reinterpret_cast<P*>(p) = values;
}

/// f.template operator()<n>() with n = N where packs of N fit: rows of a multiple of N elements in arrays
/// that begin at one (those that are null do not matter). Else n = 1.
template <int N, class F, class... Ts>
void visit_packs(std::int64_t row, F f, const Ts*... arrays) {
  if (row % N == 0 && (is_aligned<Pack<Ts, N>>(arrays) && ...)) {
    f.template operator()<N>();
  } else {
    f.template operator()<1>();
  }
}

}  // namespace lpf::cuda
