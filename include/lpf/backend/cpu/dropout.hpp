// Dropout: a mask of random words and the product with it, in tiles that fit the cache.
#pragma once

#include <bit>
#include <type_traits>

#include "lpf/backend/cpu/convert.hpp"
#include "lpf/backend/cpu/parallel.hpp"
#include "lpf/backend/cpu/simd_noise.hpp"
#include "lpf/backend/cpu/typed.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

template <class T>
void dropout(DType, const NoiseKey& key, std::int64_t first, std::int64_t n, double p, const void* x,
             void* y) {
  check_noise_range(key, first, n, 4);
  const std::uint64_t threshold = bernoulli_threshold(1 - p);  // up to 2^32; words below it are kept
  if (threshold == 0) return fill(y, dtype_of<T>(), n, 0);
  const auto largest = static_cast<std::uint32_t>(threshold - 1);
  const T scale = static_cast<T>(1 / (1 - p));
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  constexpr std::int64_t tile = 1024;
  parallel_for(n, 4 * tile, [&](std::int64_t begin, std::int64_t end) {
    std::uint32_t words[tile];
    for (; begin < end; begin += tile) {
      const std::int64_t size = std::min(tile, end - begin);
      word_fill(key, first + begin, size, words);
      const T* from = static_cast<const T*>(x) + begin;
      T* to = static_cast<T*>(y) + begin;
      // A mask of bits: for a select GCC writes a branch where AVX-512's masks are missing, which chance mispredicts.
      LPF_SIMD
      for (std::int64_t i = 0; i < size; ++i) {
        const Bits mask = Bits(0) - static_cast<Bits>(words[i] <= largest);
        to[i] = std::bit_cast<T>(std::bit_cast<Bits>(from[i] * scale) & mask);
      }
    }
  });
}

inline void fill_dropout(Table& t) {
  cpu_float32.dropout = dropout<float>;
  cpu_float64.dropout = dropout<double>;
  t.dropout = ByType<&Table::dropout>::call;
}
inline const bool dropout_registered = register_cpu(KernelGroup::dropout, LPF_VECTOR_BYTES, fill_dropout);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
