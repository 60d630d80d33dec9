// Packs: adjacent elements that a thread loads or stores at once, up to 16 bytes, the most that one
// instruction moves. A kernel is a template on the width, compiled for two: packs, and single elements for
// the remainder and for arrays that are not aligned to a pack.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "launch.hpp"
#include "lpf/core/error.hpp"

namespace lpf::cuda {

template <class T, int n = 16 / sizeof(T)>
struct alignas(n * sizeof(T)) Pack {
  static constexpr int size = n;
  T value[n];
  LPF_DEVICE T& operator[](int i) { return value[i]; }
  LPF_DEVICE const T& operator[](int i) const { return value[i]; }
};

template <int n>
using Width = std::integral_constant<int, n>;
/// The width of packs for kernels with arrays of all these types: 16 bytes of the largest.
template <class... T>
inline constexpr int pack_width = 16 / static_cast<int>(std::max({sizeof(T)...}));

/// True if a pack of `width` may begin at p.
template <class T>
LPF_HD bool begins_pack(const T* p, std::size_t width) {
  return reinterpret_cast<std::uintptr_t>(p) % (width * sizeof(T)) == 0;
}
/// A misaligned pack ends the program on a GPU, and throws on the emulated device.
template <int width, class T>
LPF_DEVICE void check_begins_pack([[maybe_unused]] const T* p) {
#ifndef __CUDACC__
  lpf::check<DeviceError>(begins_pack(p, width), "cuda", "a pack of ", width,
                          " does not begin at a multiple");
#endif
}
template <int width, class T>
LPF_DEVICE Pack<T, width> load(const T* p) {
  check_begins_pack<width>(p);
  return *reinterpret_cast<const Pack<T, width>*>(p);
}
template <int width, class T>
LPF_DEVICE void store(T* p, const Pack<T, width>& pack) {
  check_begins_pack<width>(p);
#ifdef __CUDA_ARCH__
  // The compiler would merge a plain store with the neighbouring single-element stores, into single ones.
  if constexpr (sizeof pack % sizeof(uint4) == 0) {
    constexpr int quads = sizeof pack / sizeof(uint4);
    const auto bits = std::bit_cast<Pack<uint4, quads>>(pack);
    for (int i = 0; i < quads; ++i) {
      const uint4 q = bits.value[i];
      asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p) + 16 * i),
                   "r"(q.x), "r"(q.y), "r"(q.z), "r"(q.w)
                   : "memory");
    }
    return;
  } else if constexpr (sizeof pack == sizeof(uint2)) {
    const auto q = std::bit_cast<uint2>(pack);
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(p)), "r"(q.x), "r"(q.y)
                 : "memory");
    return;
  }
#endif
  *reinterpret_cast<Pack<T, width>*>(p) = pack;
}

/// The elements [0, n) of contiguous arrays, cut into one piece per thread: a pack, or the remainder; single
/// elements unless all arrays are aligned to a pack.
template <int width>
class Pieces {
 public:
  template <class... T>
  explicit Pieces(std::int64_t n, const T*... arrays) : n_(n), packed_((begins_pack(arrays, width) && ...)) {}

  std::int64_t count() const { return packed_ ? (n_ + width - 1) / width : n_; }

  /// Calls f(i, Width<w>()) for all of piece k: its elements i … i + w − 1.
  template <class F>
  LPF_DEVICE void operator()(std::int64_t k, F f) const {
    std::int64_t i = packed_ ? k * width : k;
    const std::int64_t end = packed_ ? i + width : i + 1;
    if (packed_ && end <= n_) return f(i, Width<width>());
    LPF_ROLLED for (; i < end && i < n_; ++i) f(i, Width<1>());
  }

 private:
  std::int64_t n_;
  bool packed_;
};

/// Calls f.template operator()<n>() with n = width if rows are a multiple of it and all arrays are aligned to
/// a pack (or null), else with n = 1.
template <int width, class F, class... T>
void visit_packs(std::int64_t row, F f, const T*... arrays) {
  if (row % width == 0 && (begins_pack(arrays, width) && ...)) {
    f.template operator()<width>();
  } else {
    f.template operator()<1>();
  }
}

}  // namespace lpf::cuda
