// Matrix products: tiles cut from the shape alone, which threads share, by the kernels of product.hpp for
// float and by Eigen's for double (gemm_float64.hpp).
#pragma once

#include "lpf/backend/cpu/dot_products.hpp"
#include "lpf/backend/cpu/parallel.hpp"
#include "lpf/backend/cpu/product.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// C = beta·C for m rows of n elements; beta = 0 does not read C.
template <class T>
void scale_rows(std::int64_t m, std::int64_t n, double beta, T* c, std::int64_t ldc) {
  for (std::int64_t r = 0; r < m; ++r, c += ldc) {
    if (beta == 0) {
      std::fill_n(c, n, T(0));
    } else {
      for (std::int64_t s = 0; s < n; ++s) c[s] *= static_cast<T>(beta);
    }
  }
}

/// A tile of a product: rows [i, i + m), columns [j, j + n) of C.
template <class T>
void gemm_tile(const Gemm& g, const T* a, const T* b, T* c, std::int64_t i, std::int64_t m, std::int64_t j,
               std::int64_t n);

template <>
inline void gemm_tile<float>(const Gemm& g, const float* a, const float* b, float* c, std::int64_t i,
                             std::int64_t m, std::int64_t j, std::int64_t n) {
  using namespace product;
  if (m <= 0 || n <= 0) return;
  a += g.transpose_a ? i : i * g.lda;
  b += g.transpose_b ? j * g.ldb : j;
  c += i * g.ldc + j;
  if (g.k == 0 || (g.beta != 0 && g.beta != 1)) scale_rows(m, n, g.beta, c, g.ldc);
  if (g.k == 0) return;
  const bool add = g.beta != 0;
  const auto alpha = static_cast<float>(g.alpha);
  if (!g.transpose_a && alpha == 1 && g.n == 1 && g.ldc == 1 &&
      (g.transpose_b || g.ldb == 1))  // times a vector
    return multiply_by_dots(1, m, g.k, b, g.k, a, g.lda, c, m, add);
  if (!g.transpose_a && g.transpose_b && alpha == 1 && g.k >= 64 && m <= (n < 128 ? 16 : 12))
    return multiply_by_dots(m, n, g.k, a, g.lda, b, g.ldb, c, g.ldc, add);
  const Matrix<const float> left{a, g.transpose_a ? 1 : g.lda, g.transpose_a ? g.lda : 1},
      right{b, g.transpose_b ? 1 : g.ldb, g.transpose_b ? g.ldb : 1};
  // Numbers that are transposed: op(A) as it is packed and C as it is written, or op(B) as it is packed.
  if (g.transpose_b && (g.transpose_a ? 0 : m * g.k) + m * n < n * g.k)
    return multiply_packed(n, m, g.k, {b, g.ldb, 1}, {a, left.column, left.row}, {c, 1, g.ldc}, alpha, add);
  std::int64_t done = 0;
  if (!g.transpose_b && alpha == 1 && m <= 4 * most_rows) {
    done = n / width * width;
    multiply_in_place(m, done, g.k, left, right, {c, g.ldc, 1}, add);
  }
  if (done < n) multiply_packed(m, n - done, g.k, left, right.at(0, done), {c + done, g.ldc, 1}, alpha, add);
}

/// Tile sizes for an m×n product of depth k, from the shape alone: small products stay whole; larger ones are
/// cut into an even number of equal bands of columns or rows, so that two threads finish together.
inline void gemm_tile_sizes(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t& tile_m,
                            std::int64_t& tile_n) {
  tile_m = m;
  tile_n = n;
  constexpr std::int64_t worth_cutting = 1 << 19;  // multiply-adds, some 10 µs
  if (m * n * k < worth_cutting) return;
  const auto even_parts = [](std::int64_t size, std::int64_t largest) {
    const std::int64_t parts = 2 * ((size + 2 * largest - 1) / (2 * largest));
    return ((size + parts - 1) / parts + 15) / 16 * 16;
  };
  if (n >= 128) tile_n = even_parts(n, 512);
  if (n < 128 ? m >= 128 : m > 512) tile_m = even_parts(m, 256);
}

template <class T>
void gemm(const Gemm& g) {
  if (g.m <= 0 || g.n <= 0) return;
  std::int64_t tile_m, tile_n;
  gemm_tile_sizes(g.m, g.n, g.k, tile_m, tile_n);
  const std::int64_t tiles_m = (g.m + tile_m - 1) / tile_m, tiles_n = (g.n + tile_n - 1) / tile_n;
  const std::int64_t tiles = tiles_m * tiles_n;
  const std::int64_t work = std::max<std::int64_t>(1, tile_m * tile_n * g.k);
  constexpr std::int64_t worth_a_thread = 1 << 17;
  parallel_for(g.batch * tiles, std::max<std::int64_t>(1, worth_a_thread / work),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t t = begin; t < end; ++t) {
                   const std::int64_t batch = t / tiles, i = t % tiles / tiles_n * tile_m,
                                      j = t % tiles_n * tile_n;
                   gemm_tile(g, static_cast<const T*>(g.a) + batch * g.stride_a,
                             static_cast<const T*>(g.b) + batch * g.stride_b,
                             static_cast<T*>(g.c) + batch * g.stride_c, i, std::min(tile_m, g.m - i), j,
                             std::min(tile_n, g.n - j));
                 }
               });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
