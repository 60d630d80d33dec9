// Running sums. One thread adds a column from its first element to its last: the same bits for any number of
// threads.
#pragma once

#include <type_traits>

#include "lpf/backend/cpu/convert.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

template <class T>
using ScanSum = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;

inline constexpr std::int64_t scan_tile = 64;  // columns that are summed together

/// Running sums of at most scan_tile adjacent columns of n rows, `step` elements from one row to the next.
template <class T>
void scan_columns(std::int64_t n, std::int64_t step, std::int64_t width, const T* x, T* y) {
  if (width == 1) {  // the sum stays in a register
    ScanSum<T> sum = 0;
    for (std::int64_t j = 0; j < n; ++j)
      y[j * step] = static_cast<T>(sum += static_cast<ScanSum<T>>(x[j * step]));
    return;
  }
  ScanSum<T> sum[scan_tile] = {};
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = 0; i < width; ++i)
      y[j * step + i] = static_cast<T>(sum[i] += static_cast<ScanSum<T>>(x[j * step + i]));
}

template <class T>
void cumsum(DType, std::int64_t outer, std::int64_t n, std::int64_t inner, const void* x, void* y,
            bool reverse) {
  if (n == 0) return;
  const std::int64_t tile = scan_tile, tiles = (inner + tile - 1) / tile,
                     first_row = reverse ? (n - 1) * inner : 0;
  const std::int64_t work = std::max<std::int64_t>(1, n * std::min(inner, tile));
  parallel_for(outer * tiles, std::max<std::int64_t>(1, elementwise_grain / work),
               [&](std::int64_t t, std::int64_t end) {
                 for (; t < end; ++t) {
                   const std::int64_t column = t % tiles * tile,
                                      at = t / tiles * n * inner + first_row + column;
                   scan_columns(n, reverse ? -inner : inner, std::min(tile, inner - column),
                                static_cast<const T*>(x) + at, static_cast<T*>(y) + at);
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
