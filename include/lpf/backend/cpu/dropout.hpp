// Dropout: a mask of random words and the product with it, in tiles that fit the cache.
#pragma once

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
  constexpr std::int64_t tile = 1024;
  parallel_for(n, 4 * tile, [&](std::int64_t begin, std::int64_t end) {
    std::uint32_t words[tile];
    for (; begin < end; begin += tile) {
      const std::int64_t size = std::min(tile, end - begin);
      word_fill(key, first + begin, size, words);
      const T* from = static_cast<const T*>(x) + begin;
      T* to = static_cast<T*>(y) + begin;
      LPF_SIMD
      for (std::int64_t i = 0; i < size; ++i) {
        const T kept = from[i] * scale;
        to[i] = words[i] <= largest ? kept : T(0);
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
