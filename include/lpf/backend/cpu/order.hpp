// The largest and smallest elements, in order. The order is total (value, then place), so the result does not
// depend on the algorithm or on the number of threads.
#pragma once

#include <vector>

#include "lpf/backend/cpu/convert.hpp"
#include "lpf/core/ordered_bits.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// An element and its place; sorted by what comes first in the result.
struct Ranked {
  std::uint64_t key;
  std::int64_t place;
  friend bool operator<(const Ranked& a, const Ranked& b) {
    return a.key != b.key ? a.key < b.key : a.place < b.place;
  }
};

inline void topk(DType type, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t k,
                 bool largest, const void* x, std::int64_t* index) {
  if (k == 0) return;
  const std::uint64_t flip = largest ? ~std::uint64_t{0} : 0;
  parallel_for(outer * inner, std::max<std::int64_t>(1, elementwise_grain / (8 * n)),
               [&](std::int64_t begin, std::int64_t end) {
                 std::vector<Ranked> column(static_cast<std::size_t>(n));
                 for (std::int64_t c = begin; c < end; ++c) {
                   const std::int64_t o = c / inner, i = c % inner;
                   visit(type, [&](auto zero) {
                     using T = decltype(zero);
                     using Wide = std::conditional_t<is_floating(dtype_of<T>()), double, std::int64_t>;
                     const T* from = static_cast<const T*>(x) + o * n * inner + i;
                     for (std::int64_t j = 0; j < n; ++j)
                       column[static_cast<std::size_t>(j)] = {
                           lpf::detail::ordered_bits(static_cast<Wide>(from[j * inner])) ^ flip, j};
                   });
                   const auto end_of_k = column.begin() + k;
                   if (k < n) std::nth_element(column.begin(), end_of_k, column.end());
                   std::sort(column.begin(), end_of_k);
                   for (std::int64_t p = 0; p < k; ++p)
                     index[(o * k + p) * inner + i] = column[static_cast<std::size_t>(p)].place;
                 }
               });
}

inline void fill_order(Table& t) { t.topk = topk; }
inline const bool order_registered = register_cpu(KernelGroup::order, LPF_VECTOR_BYTES, fill_order);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
