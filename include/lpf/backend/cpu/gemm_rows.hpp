// Products of few rows with a large matrix, as of a slice with its replica of the weight: the matrix is read
// in place. Packing it, as in general products, would cost as much as multiplying.
#pragma once

#include <cstdint>
#include <cstring>

#include "lpf/backend/cpu/isa.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

#if LPF_VECTOR_BYTES

/// Blocks of up to 4 rows of A, with sums in registers. The order of each row's sums
/// does not depend on the other rows.
template <class T>
struct RowsProduct {
  typedef T Lanes __attribute__((vector_size(LPF_VECTOR_BYTES)));
  static constexpr int width = LPF_VECTOR_BYTES / sizeof(T);
  static constexpr int wide = 4;                      // vectors, or rows of a transposed B, side by side
  static constexpr std::int64_t columns = 4 * width;  // of C that one block covers
  static constexpr std::int64_t columns_transposed = 4;

  /// C[m, columns] = A[m, k]·B[k, columns], added to C if `add`.
  static void plain(std::int64_t m, std::int64_t k, const T* a, std::int64_t lda, const T* b,
                    std::int64_t ldb, T* c, std::int64_t ldc, bool add) {
    in_blocks(m, a, lda, c, ldc, [=]<int rows>(std::integral_constant<int, rows>, const T* x, T* y) {
      Lanes s[rows][wide] = {};
      for (std::int64_t p = 0; p < k; ++p) {
        Lanes w[wide];
#  pragma GCC unroll 4
        for (int v = 0; v < wide; ++v) std::memcpy(&w[v], b + p * ldb + v * width, sizeof w[v]);
#  pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
          const T f = x[r * lda + p];
#  pragma GCC unroll 4
          for (int v = 0; v < wide; ++v) s[r][v] += w[v] * f;
        }
      }
#  pragma GCC unroll 4
      for (int r = 0; r < rows; ++r)
#  pragma GCC unroll 4
        for (int v = 0; v < wide; ++v) {
          T* to = y + r * ldc + v * width;
          Lanes old = {};
          if (add) std::memcpy(&old, to, sizeof old);
          old += s[r][v];
          std::memcpy(to, &old, sizeof old);
        }
    });
  }

  /// C[m, 4] = A[m, k]·B[4, k]ᵀ, added to C if `add`.
  static void transposed(std::int64_t m, std::int64_t k, const T* a, std::int64_t lda, const T* b,
                         std::int64_t ldb, T* c, std::int64_t ldc, bool add) {
    in_blocks(m, a, lda, c, ldc, [=]<int rows>(std::integral_constant<int, rows>, const T* x, T* y) {
      Lanes s[rows][wide] = {};
      std::int64_t p = 0;
      for (; p + width <= k; p += width) {
        Lanes w[wide];
#  pragma GCC unroll 4
        for (int v = 0; v < wide; ++v) std::memcpy(&w[v], b + v * ldb + p, sizeof w[v]);
#  pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
          Lanes f;
          std::memcpy(&f, x + r * lda + p, sizeof f);
#  pragma GCC unroll 4
          for (int v = 0; v < wide; ++v) s[r][v] += w[v] * f;
        }
      }
#  pragma GCC unroll 4
      for (int r = 0; r < rows; ++r)
#  pragma GCC unroll 4
        for (int v = 0; v < wide; ++v) {
          T sum = 0;
          for (int l = 0; l < width; ++l) sum += s[r][v][l];
          for (std::int64_t q = p; q < k; ++q) sum += x[r * lda + q] * b[v * ldb + q];
          T& to = y[r * ldc + v];
          to = add ? to + sum : sum;
        }
    });
  }

 private:
  template <class F>
  static void in_blocks(std::int64_t m, const T* a, std::int64_t lda, T* c, std::int64_t ldc, F f) {
    std::int64_t i = 0;
    for (; i + 4 <= m; i += 4) f(std::integral_constant<int, 4>{}, a + i * lda, c + i * ldc);
    for (; i < m; ++i) f(std::integral_constant<int, 1>{}, a + i * lda, c + i * ldc);
  }
};

#endif

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
