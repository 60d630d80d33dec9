// Running sums. One thread adds a column from its first element to its last: the same bits for any number of
// threads.
#pragma once

#include <type_traits>

#include "lpf/backend/cpu/convert.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// Adjacent columns are summed together, in tiles whose sums stay in registers or the cache.
template <class T>
void cumsum(DType, std::int64_t outer, std::int64_t n, std::int64_t inner, const void* x, void* y,
            bool reverse) {
  using Sum = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;
  constexpr std::int64_t tile = 64;
  const std::int64_t tiles = (inner + tile - 1) / tile;
  const std::int64_t work = std::max<std::int64_t>(1, n * std::min(inner, tile));
  const T* from = static_cast<const T*>(x);
  T* to = static_cast<T*>(y);
  parallel_for(outer * tiles, std::max<std::int64_t>(1, elementwise_grain / work),
               [&](std::int64_t t, std::int64_t end) {
                 for (; t < end; ++t) {
                   const std::int64_t first = t % tiles * tile, width = std::min(tile, inner - first);
                   Sum sum[tile] = {};
                   for (std::int64_t j = 0; j < n; ++j) {
                     const std::int64_t row = (t / tiles * n + (reverse ? n - 1 - j : j)) * inner + first;
                     for (std::int64_t i = 0; i < width; ++i) {
                       sum[i] += static_cast<Sum>(from[row + i]);
                       to[row + i] = static_cast<T>(sum[i]);
                     }
                   }
                 }
               });
}

inline void fill_scan(Table& t) {
  cpu_float32.cumsum = cumsum<float>;
  cpu_float64.cumsum = cumsum<double>;
  cpu_int64.cumsum = cumsum<std::int64_t>;
  t.cumsum = ByType<&Table::cumsum>::call;
}
inline const bool scan_registered = register_cpu(KernelGroup::scan, LPF_VECTOR_BYTES, fill_scan);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
