// Eigenvalues and eigenvectors of a symmetric tridiagonal matrix, the result of Lanczos' method, by Eigen's
// QR iteration in double.
#pragma once

#include <vector>

#include "lpf/core/error.hpp"

#ifndef LPF_COMPILED
#  include <Eigen/Eigenvalues>
#  include <algorithm>
#  include <cmath>
#  include <cstddef>
#  include <iterator>
#  include <utility>
#endif

namespace lpf::sharpness {

/// Diagonal a_0 … a_{m−1}, off-diagonals b_0 … b_{m−2} (further ones are ignored).
struct Tridiagonal {
  std::vector<double> diagonal, off;
};

/// Eigenvalues, ascending; vectors[k] belongs to values[k] and has length 1.
struct SmallEigen {
  std::vector<double> values;
  std::vector<std::vector<double>> vectors;
};

namespace detail {

#ifdef LPF_COMPILED
SmallEigen solve_tridiagonal(const Tridiagonal& t, bool with_vectors);
#else
/// The eigenvalues of t, and the eigenvectors if `with_vectors`. Throws NumericError if t
/// holds NaN or infinity.
LPF_ONCE SmallEigen solve_tridiagonal(const Tridiagonal& t, bool with_vectors) {
  const std::size_t m = t.diagonal.size();
  std::vector<double> diagonal = t.diagonal,
                      off(t.off.begin(), t.off.begin() + std::ssize(diagonal) - (m > 0));
  double scale = 0;
  for (const auto* elements : {&diagonal, &off})
    for (const double x : *elements) {
      check<NumericError>(std::isfinite(x), "sharpness", "a tridiagonal matrix that holds ", x,
                          " has no eigenvalues");
      scale = std::max(scale, std::abs(x));
    }
  if (scale == 0) scale = 1;
  // Eigen treats an off-diagonal as zero below an absolute bound, which suits elements up to 1.
  for (auto* elements : {&diagonal, &off})
    for (double& x : *elements) x /= scale;

  // What SelfAdjointEigenSolver::computeFromTridiagonal calls. The solver itself stores Eigen matrices, whose
  // alignment depends on a user's macros and processor flags in each file; this uses our memory.
  using Matrix = Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>>;
  using Vector = Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, 1>>;
  const auto n = static_cast<Eigen::Index>(m), sweeps = Eigen::Index{30};
  std::vector<double> columns(with_vectors ? m * m : 0);
  for (std::size_t k = 0; k < columns.size(); k += m + 1) columns[k] = 1;
  Vector values(diagonal.data(), n), beside(off.data(), n - (n > 0));
  Matrix vectors(columns.data(), with_vectors ? n : 0, with_vectors ? n : 0);
  const auto info =
      Eigen::internal::computeFromTridiagonal_impl(values, beside, sweeps, with_vectors, vectors);
  check<NumericError>(info == Eigen::Success, "sharpness", "the eigenvalues of a tridiagonal matrix, ", m,
                      " by ", m, ", do not converge");

  SmallEigen out{std::move(diagonal), {}};
  for (double& value : out.values) value *= scale;
  for (auto column = columns.begin(); column != columns.end(); column += n)
    out.vectors.emplace_back(column, column + n);
  return out;
}
#endif

/// The largest eigenvalue of t. Throws NumericError if t holds NaN or infinity.
inline double largest_eigenvalue(const Tridiagonal& t) { return solve_tridiagonal(t, false).values.back(); }

}  // namespace detail

/// All eigenvalues and eigenvectors of t. Throws NumericError if t holds NaN or infinity.
inline SmallEigen eigen_of(const Tridiagonal& t) { return detail::solve_tridiagonal(t, true); }

}  // namespace lpf::sharpness
