// Matrix products: Eigen's single-threaded kernel on tiles cut from the shape alone. Eigen's own threading
// blocks by the number of threads, which changes the bits; here threads share the batch and the tiles. Its
// kernel is called below the expression level, so that each part is instantiated once and nothing depends on
// the global settings of a user who includes Eigen first.
#pragma once

#include <Eigen/Core>

#include "lpf/backend/cpu/elementwise.hpp"
#include "lpf/backend/cpu/gemm_rows.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// Scratch memory for a packed block, one buffer per thread.
template <class T>
T* packing_space(int which, Eigen::Index count) {
  struct Aligned {
    T* data = nullptr;
    Eigen::Index size = 0;
    ~Aligned() { ::operator delete (data, std::align_val_t{64}); }
  };
  thread_local Aligned blocks[4];
  Aligned& block = blocks[which];
  if (block.size < count) {
    ::operator delete (block.data, std::align_val_t{64});
    block.data = nullptr;
    block.data =
        static_cast<T*>(::operator new (static_cast<std::size_t>(count) * sizeof(T), std::align_val_t{64}));
    block.size = count;
  }
  return block.data;
}

/// A column-major matrix, or the transpose of one.
template <class T>
struct Operand {
  const T* data;
  Eigen::Index stride;
  bool transposed;
};

/// C += alpha·A·B, C column-major: blocks of A and B that fit the caches are packed in the order in which
/// Eigen's kernel reads them, and multiplied.
template <class T>
void eigen_product(Eigen::Index rows, Eigen::Index cols, Eigen::Index depth, const Operand<T>& a,
                   const Operand<T>& b, T* c, Eigen::Index ldc, T alpha) {
  using namespace Eigen::internal;
  using Eigen::Index;
  using Traits = gebp_traits<T, T>;
  const auto pack_a = [&]<int order>(std::integral_constant<int, order>, T* to, Index row, Index k, Index m,
                                     Index n) {
    using From = const_blas_data_mapper<T, Index, order>;
    gemm_pack_lhs<T, Index, From, Traits::mr, Traits::LhsProgress, typename Traits::LhsPacket4Packing,
                  order>()(to, From(a.data, a.stride).getSubMapper(row, k), n, m);
  };
  const auto pack_b = [&]<int order>(std::integral_constant<int, order>, T* to, Index k, Index column,
                                     Index n, Index m) {
    using From = const_blas_data_mapper<T, Index, order>;
    gemm_pack_rhs<T, Index, From, Traits::nr, order>()(to, From(b.data, b.stride).getSubMapper(k, column), n,
                                                       m);
  };
  using To = blas_data_mapper<T, Index, Eigen::ColMajor, Eigen::Unaligned, 1>;
  gebp_kernel<T, T, Index, To, Traits::mr, Traits::nr, false, false> multiply;
  constexpr std::integral_constant<int, Eigen::ColMajor> as_it_lies;
  constexpr std::integral_constant<int, Eigen::RowMajor> transposed;

  Index block_rows = rows, block_cols = cols, block_depth = depth;
  computeProductBlockingSizes<T, T>(block_depth, block_rows, block_cols, Index{1});
  T* packed_a = packing_space<T>(0, block_rows * block_depth);
  T* packed_b = packing_space<T>(1, block_depth * block_cols);
  const bool b_stays = block_depth == depth && block_cols == cols;  // packed once, for all rows of A
  for (Index i = 0; i < rows; i += block_rows) {
    const Index m = std::min(block_rows, rows - i);
    for (Index k = 0; k < depth; k += block_depth) {
      const Index d = std::min(block_depth, depth - k);
      a.transposed ? pack_a(transposed, packed_a, i, k, m, d) : pack_a(as_it_lies, packed_a, i, k, m, d);
      for (Index j = 0; j < cols; j += block_cols) {
        const Index n = std::min(block_cols, cols - j);
        if (!b_stays || i == 0)
          b.transposed ? pack_b(transposed, packed_b, k, j, d, n) : pack_b(as_it_lies, packed_b, k, j, d, n);
        multiply(To(c + i + j * ldc, ldc), packed_a, packed_b, m, d, n, alpha);
      }
    }
  }
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
  eigen_product<T>(n, m, g.k, {b, g.ldb, g.transpose_b}, {a, g.lda, g.transpose_a}, c, g.ldc, alpha);
}

/// Tile sizes for an m×n product of depth k, from the shape alone: small products stay whole; larger ones are
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
