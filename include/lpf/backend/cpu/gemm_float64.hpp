// Matrix products of doubles: Eigen's single-threaded kernel on the tiles of gemm.hpp (its own threading
// blocks by the number of threads, which changes the bits). It is called below the expression level, so that
// each part is instantiated once and nothing depends on the global settings of a user who includes Eigen
// first.
#pragma once

#include <Eigen/Core>

#include "lpf/backend/cpu/gemm.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

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
  T* packed_a = scratch<T>(Scratch::panel, block_rows * block_depth);
  T* packed_b = scratch<T>(Scratch::sums, block_depth * block_cols);
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

/// A row-major matrix is its transpose, column-major: Cᵀ = op(B)ᵀ·op(A)ᵀ.
template <>
inline void gemm_tile<double>(const Gemm& g, const double* a, const double* b, double* c, std::int64_t i,
                              std::int64_t m, std::int64_t j, std::int64_t n) {
  a += g.transpose_a ? i : i * g.lda;
  b += g.transpose_b ? j * g.ldb : j;
  c += i * g.ldc + j;
  if (g.beta != 1) scale_rows(m, n, g.beta, c, g.ldc);
  if (g.k == 0) return;
  eigen_product(n, m, g.k, {b, g.ldb, g.transpose_b}, {a, g.lda, g.transpose_a}, c, g.ldc, g.alpha);
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
