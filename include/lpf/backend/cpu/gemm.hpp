// Matrix products: Eigen's single-threaded kernel on tiles that are cut from the shape alone. Eigen's own
// threading blocks by the number of threads, which changes the bits; so threads go over the batch and the
// tiles instead. This is the only place that includes Eigen. Its kernel is called below the expression level,
// so that each of its parts is instantiated once and nothing depends on the global settings of a user who
// includes Eigen first.
#pragma once

#include <Eigen/Core>

#include "lpf/backend/cpu/elementwise.hpp"
#include "lpf/backend/cpu/gemm_rows.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// Scratch memory for Eigen's packed blocks, kept by each thread.
template <class T>
class PackingSpace : public Eigen::internal::level3_blocking<T, T> {
  using Base = Eigen::internal::level3_blocking<T, T>;

 public:
  PackingSpace(Eigen::Index rows, Eigen::Index cols, Eigen::Index depth) {
    this->m_mc = rows;
    this->m_nc = cols;
    this->m_kc = depth;
    Eigen::internal::computeProductBlockingSizes<T, T>(this->m_kc, this->m_mc, this->m_nc, Eigen::Index{1});
    this->m_blockA = scratch(0, static_cast<std::size_t>(this->m_mc * this->m_kc));
    this->m_blockB = scratch(1, static_cast<std::size_t>(this->m_kc * this->m_nc));
  }

 private:
  static T* scratch(int which, std::size_t count) {
    struct Aligned {
      T* data = nullptr;
      std::size_t size = 0;
      ~Aligned() { ::operator delete (data, std::align_val_t{64}); }
    };
    thread_local Aligned blocks[2];
    Aligned& block = blocks[which];
    if (block.size < count) {
      ::operator delete (block.data, std::align_val_t{64});
      block.data = nullptr;
      block.data = static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{64}));
      block.size = count;
    }
    return block.data;
  }
};

/// C += alpha·A·B, all column-major but for the given storage orders: one call of Eigen's kernel.
template <class T, int OrderA, int OrderB>
void eigen_product(Eigen::Index rows, Eigen::Index cols, Eigen::Index depth, const T* a, Eigen::Index lda,
                   const T* b, Eigen::Index ldb, T* c, Eigen::Index ldc, T alpha) {
  PackingSpace<T> space(rows, cols, depth);
  Eigen::internal::general_matrix_matrix_product<Eigen::Index, T, OrderA, false, T, OrderB, false,
                                                 Eigen::ColMajor, 1>::run(rows, cols, depth, a, lda, b, ldb,
                                                                          c, 1, ldc, alpha, space, nullptr);
}

/// A tile of the row-major product: rows [i, i + m), columns [j, j + n) of C. A row-major matrix is its
/// transpose, column-major: Cᵀ = op(B)ᵀ·op(A)ᵀ.
template <class T>
void gemm_tile(const Gemm& g, const T* a, const T* b, T* c, std::int64_t i, std::int64_t m, std::int64_t j,
               std::int64_t n) {
  a += g.transpose_a ? i : i * g.lda;
  b += g.transpose_b ? j * g.ldb : j;
  c += i * g.ldc + j;
  const T alpha = static_cast<T>(g.alpha), beta = static_cast<T>(g.beta);
#if LPF_VECTOR_BYTES
  if (g.m <= 32 && !g.transpose_a && g.alpha == 1 && (g.beta == 0 || g.beta == 1) &&
      g.k >= (g.transpose_b ? 256 : 16)) {
    using Product = RowsProduct<T>;
    const std::int64_t step = g.transpose_b ? Product::columns_transposed : Product::columns;
    for (; n >= step; n -= step, c += step, b += g.transpose_b ? step * g.ldb : step)
      (g.transpose_b ? Product::transposed : Product::plain)(m, g.k, a, g.lda, b, g.ldb, c, g.ldc,
                                                             g.beta == 1);
    if (n == 0) return;
  }
#endif
  if (g.beta != 1) {
    for (std::int64_t r = 0; r < m; ++r) {
      T* row = c + r * g.ldc;
      if (g.beta == 0) {
        std::fill(row, row + n, T(0));
      } else {
        for (std::int64_t s = 0; s < n; ++s) row[s] *= beta;
      }
    }
  }
  if (g.k == 0) return;
  constexpr int col = Eigen::ColMajor, row = Eigen::RowMajor;
  if (!g.transpose_a && !g.transpose_b)
    return eigen_product<T, col, col>(n, m, g.k, b, g.ldb, a, g.lda, c, g.ldc, alpha);
  if (!g.transpose_a) return eigen_product<T, row, col>(n, m, g.k, b, g.ldb, a, g.lda, c, g.ldc, alpha);
  if (!g.transpose_b) return eigen_product<T, col, row>(n, m, g.k, b, g.ldb, a, g.lda, c, g.ldc, alpha);
  return eigen_product<T, row, row>(n, m, g.k, b, g.ldb, a, g.lda, c, g.ldc, alpha);
}

/// Tile sizes for an m×n product of depth k, from the shape alone: small products stay whole, larger ones are
/// cut into an even number of equal bands of rows, so that two threads finish together, and long rows into
/// pieces; few rows are cut along n instead.
inline void gemm_tile_sizes(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t& tile_m,
                            std::int64_t& tile_n) {
  tile_m = m;
  tile_n = n;
  constexpr std::int64_t worth_cutting = 1 << 19;  // multiply-adds, some 10 µs
  if (m * n * k < worth_cutting) return;
  const auto even_parts = [](std::int64_t size, std::int64_t largest, std::int64_t unit) {
    const std::int64_t parts = 2 * ((size + 2 * largest - 1) / (2 * largest));
    return ((size + parts - 1) / parts + unit - 1) / unit * unit;
  };
  if (m >= 128) {
    tile_m = even_parts(m, 256, 1);
    if (n > 512) tile_n = even_parts(n, 384, 48);  // Eigen's kernel works on 48 columns at a time
  } else if (n >= 96) {
    tile_n = even_parts(n, 192, 64);
  }
}

template <class T>
void gemm_as(const Gemm& g) {
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

inline void gemm(const Gemm& g) {
  visit_floating("gemm", g.dtype, [&](auto zero) { gemm_as<decltype(zero)>(g); });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
