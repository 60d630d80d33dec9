// The inner loop of convolutions: several rows of sums by one or two registers of channels, held in registers
// over a whole window (or over a band of pixels, for the gradient of the filters), directly from the input:
// nothing is gathered or packed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "lpf/backend/cpu/isa.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// Addresses of the factors of the kernel's sums: pair (o, d) for o < outer, d < inner is
///   a[offset[o] + r·row + d·step], for the r-th sum, and the channels at b[(o·inner + d)·ldb].
/// The second half of the sums begins `half` after the first, if that is not 0.
struct Walk {
  const std::int64_t* offset;
  std::int64_t outer, inner, row, step, ldb, half = 0;
};

/// The kernel: `Rows` rows of sums, each of as many channels as `Vectors` registers of `Width` elements hold.
template <class T, int Width, int Vectors, int Rows>
struct Kernel {
  static constexpr int channels = Width * Vectors, rows = Rows;
  template <int other>
  using WithRows = Kernel<T, Width, Vectors, other>;
  /// The kernel for the gradient of the filters: its rows are taps, of which there are more than pixels in a row,
  /// so that with 16 registers 12 sums pay.
  using OfTaps =
      Kernel<T, Width, Vectors, LPF_VECTOR_BYTES == 32 && Width * sizeof(T) == 32 ? 12 / Vectors : Rows>;
  typedef T Register __attribute__((vector_size(Width * sizeof(T))));

  /// to[r·stride …] = start + Σ a·b for rows r that lie walk.row apart in a.
  static void pixels(const Walk& walk, const T* a, const T* b, const T* start, T* to, std::int64_t stride) {
    run<true>(walk, a, b, start, to, stride, 0, sums{}, vectors{});
  }
  /// to[r·channels …] += Σ a·b for rows r ≥ skip that are adjacent in a.
  static void taps(const Walk& walk, const T* a, const T* b, T* to, std::int64_t skip) {
    run<false>(walk, a, b, nullptr, to, channels, skip, sums{}, vectors{});
  }

 private:
  static constexpr int first_half = (Rows + 1) / 2;
  using sums = std::make_integer_sequence<int, Rows * Vectors>;
  using vectors = std::make_integer_sequence<int, Vectors>;

  static void load(Register& r, const T* from) { std::memcpy(&r, from, sizeof r); }
  static void store(const Register& r, T* to) { std::memcpy(to, &r, sizeof r); }
  static void add(const Register& r, T* to) {
    Register old;
    load(old, to);
    store(old + r, to);
  }

  // A separate function with fold expressions, so that compilers keep all sums in registers at -O2 too.
  template <bool of_pixels, int... i, int... v>
  __attribute__((noinline)) static void run(const Walk& walk, const T* a, const T* b, const T* start, T* to,
                                            std::int64_t stride, std::int64_t skip,
                                            std::integer_sequence<int, i...>,
                                            std::integer_sequence<int, v...>) {
    Register s[static_cast<std::size_t>(Rows * Vectors)] = {};
    if constexpr (of_pixels) (load(s[i], start + i % Vectors * Width), ...);
    const std::int64_t row = of_pixels ? walk.row : 1, step = of_pixels ? 1 : walk.step,
                       half = of_pixels && walk.half != 0 ? walk.half : first_half * row;
    const std::int64_t ldb = of_pixels ? channels : walk.ldb;
    for (std::int64_t o = 0; o < walk.outer; ++o) {
      const T* p = a + walk.offset[o];
      for (std::int64_t d = 0; d < walk.inner; ++d, p += step, b += ldb) {
        Register factor[static_cast<std::size_t>(Vectors)];
        (load(factor[v], b + v * Width), ...);
        (keep_in_register(factor[v]), ...);
        const T* const q = p + half;
        ((s[i] += (i / Vectors < first_half ? p[i / Vectors * row] : q[(i / Vectors - first_half) * row]) *
                  factor[i % Vectors]),
         ...);
      }
    }
    if constexpr (of_pixels) {
      (store(s[i], to + i / Vectors * stride + i % Vectors * Width), ...);
    } else {
      ((i / Vectors >= skip ? add(s[i], to + i * Width) : void()), ...);
    }
  }
};

inline constexpr int register_bytes = LPF_VECTOR_BYTES > 16 ? LPF_VECTOR_BYTES : 16;

/// Calls f(kernel, first channel, channels) for channels cut into the widths of the registers.
template <class T, class F>
void for_each_width(std::int64_t channels, F f) {
  constexpr int width = register_bytes / sizeof(T);
  constexpr bool many = LPF_VECTOR_BYTES == 64;  // registers
  for (std::int64_t k = 0; k < channels;) {
    const std::int64_t left = channels - k;
    if (left > width) {
      f(Kernel < T, width, 2, many ? 8 : 4 > {}, k, std::min<std::int64_t>(left, 2 * width));
      k += 2 * width;
    } else if (left > width / 2) {
      f(Kernel<T, width, 1, 8>{}, k, left);
      k += width;
    } else {
      f(Kernel<T, width / 2, 1, 8>{}, k, left);
      k += width / 2;
    }
  }
}
/// Calls f(kernel, first, skip) for n rows in tiles: whole ones, halves, of 12 rows quarters, and single rows where
/// there are very few. The last tile of a kind may overlap the one before it: its first `skip` rows are already done.
template <class S, class F>
void for_each_tile(std::int64_t n, F f) {
  std::int64_t j = 0;
  const auto tiles = [&]<int rows>(typename S::template WithRows<rows> kernel, std::int64_t while_left) {
    for (; n >= rows && n - j > while_left; j += rows) {
      const std::int64_t first = std::min<std::int64_t>(j, n - rows);
      f(kernel, first, j - first);
    }
  };
  tiles.template operator()<S::rows>({}, S::rows / 2);
  tiles.template operator()<S::rows / 2>({}, 0);
  if constexpr (S::rows == 12) tiles.template operator()<S::rows / 4>({}, 0);
  tiles.template operator()<1>({}, 0);
}
/// Channels padded to the widths of for_each_width().
template <class T>
std::int64_t padded_channels(std::int64_t channels) {
  constexpr std::int64_t half = register_bytes / sizeof(T) / 2;
  const std::int64_t rest = channels % (4 * half), whole = channels - rest;
  return whole + (rest > 2 * half ? 4 * half : rest > half ? 2 * half : rest > 0 ? half : 0);
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
