// Products A·Bᵀ of float matrices with few rows, as of a slice with its replica of a weight, by dot products
// of the rows, which are read where they lie.
#pragma once

#include "lpf/backend/cpu/product.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {
namespace product {

/// The sums of the lanes of four vectors.
inline Quad lane_sums(Lanes a, Lanes b, Lanes c, Lanes d) {
  const auto fold = [](Lanes v) {
#if LPF_VECTOR_BYTES == 64
    const auto h = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                   __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    const auto h = v;
#endif
#if LPF_VECTOR_BYTES >= 32
    return __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
#else
    return h;
#endif
  };
  Quad p = fold(a), q = fold(b), r = fold(c), s = fold(d);
  transpose(p, q, r, s);
  return (p + q) + (r + s);
}

/// c[r·ldc + q] = or += the dot product of rows r of a and q of b, q ≥ skip, of length k. The row of b that is
/// `next` elements on is prefetched, one of the next tile.
template <int rows, int columns, int... i, int... r>
__attribute__((noinline)) void dot_tile(std::int64_t k, const float* a, std::int64_t lda, const float* b,
                                        std::int64_t ldb, float* c, std::int64_t ldc, bool add,
                                        std::int64_t skip, std::int64_t next,
                                        std::integer_sequence<int, i...>, std::integer_sequence<int, r...>) {
  Lanes s[static_cast<std::size_t>(rows * columns)] = {};
  // The terms after the last whole vector, with zeros up to one.
  float last[static_cast<std::size_t>((rows + columns) * width)];
  if (const std::int64_t rest = k % width; rest > 0) {
    std::fill_n(last, (rows + columns) * width, 0.0f);
    for (int q = 0; q < rows; ++q) std::copy_n(a + q * lda + k - rest, rest, last + q * width);
    for (int q = 0; q < columns; ++q) std::copy_n(b + q * ldb + k - rest, rest, last + (rows + q) * width);
  }
  for (std::int64_t t = 0; t < k; t += width, a += width, b += width) {
    if (k - t < width) a = last, b = last + rows * width, lda = ldb = width;
    __builtin_prefetch(b + next);
    ((s[i] += load<Lanes>(a + i / columns * lda) * load<Lanes>(b + i % columns * ldb)), ...);
  }
  const auto put = [=](float* to, Quad sum) {
    for (std::int64_t q = skip; q < columns; ++q) to[q] = add ? to[q] + sum[q] : sum[q];
  };
  constexpr int q1 = columns > 1, q2 = columns > 2 ? 2 : 0, q3 = columns > 3 ? 3 : 0;
  (put(c + r * ldc, lane_sums(s[r * columns], s[r * columns + q1], s[r * columns + q2], s[r * columns + q3])),
   ...);
}

/// dot_tile() of these sizes.
template <int rows, int columns>
void dots(std::int64_t k, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c,
          std::int64_t ldc, bool add, std::int64_t skip, std::int64_t next) {
  dot_tile<rows, columns>(k, a, lda, b, ldb, c, ldc, add, skip, next,
                          std::make_integer_sequence<int, rows * columns>{},
                          std::make_integer_sequence<int, rows>{});
}

/// C (m×n) = or += A·Bᵀ of depth k by dot products.
inline void multiply_by_dots(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
                             const float* b, std::int64_t ldb, float* c, std::int64_t ldc, bool add) {
  constexpr int most = most_rows / 2;  // by 4 columns: half of the registers
  const std::int64_t columns = n >= 4 ? 4 : 1, depth = even_length(k, longest_chain * width);
  for (std::int64_t j = 0; j < n; j += columns) {
    const std::int64_t first = std::min(j, n - columns), skip = j - first;
    for (std::int64_t i = 0, rows; i < m; i += rows) {
      rows = columns == 4 && i + most <= m ? most : 1;
      const auto tile = columns == 1 ? dots<1, 1> : rows == most ? dots<most, 4> : dots<1, 4>;
      const std::int64_t next = (columns + i / rows % columns) * ldb;
      for (std::int64_t p = 0; p < k; p += depth)
        tile(std::min(depth, k - p), a + i * lda + p, lda, b + first * ldb + p, ldb, c + i * ldc + first, ldc,
             add || p > 0, skip, next);
    }
  }
}

}  // namespace product
}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
