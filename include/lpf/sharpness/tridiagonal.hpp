// Eigenvalues and eigenvectors of a symmetric tridiagonal matrix, what Lanczos' method leaves.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "lpf/core/error.hpp"

namespace lpf::sharpness {

/// Diagonal a_0 … a_{m−1}, off-diagonals b_0 … b_{m−2} (more are ignored).
struct Tridiagonal {
  std::vector<double> diagonal, off;
};

/// Eigenvalues, ascending; vectors[k] belongs to values[k] and has length 1.
struct SmallEigen {
  std::vector<double> values;
  std::vector<std::vector<double>> vectors;
};

/// All of them, by the QL method with implicit shifts (Golub & Van Loan, section 8.3).
LPF_ONCE SmallEigen eigen_of(const Tridiagonal& t) {
  const std::size_t m = t.diagonal.size();
  std::vector<double> d = t.diagonal, e(m, 0.0);
  for (std::size_t i = 0; i + 1 < m; ++i) e[i] = t.off[i];
  std::vector<std::vector<double>> z(m, std::vector<double>(m, 0.0));  // z[k]: column k of the rotations
  for (std::size_t k = 0; k < m; ++k) z[k][k] = 1;
  for (std::size_t l = 0; l < m; ++l)
    for (int sweep = 0;; ++sweep) {
      std::size_t end = l;  // the first off-diagonal from l on that is nothing
      while (end + 1 < m && !(std::abs(e[end]) <= 1e-17 * (std::abs(d[end]) + std::abs(d[end + 1])))) ++end;
      if (end == l) break;
      check<NumericError>(sweep < 100 && std::isfinite(d[l]), "sharpness",
                          "the eigenvalues of a tridiagonal matrix do not converge: it holds ", d[l]);
      const double half = (d[l + 1] - d[l]) / (2 * e[l]);
      double g = d[end] - d[l] + e[l] / (half + std::copysign(std::hypot(half, 1.0), half));
      double sine = 1, cosine = 1, shift = 0;
      std::size_t i = end;
      for (; i-- > l;) {
        const double f = sine * e[i], b = cosine * e[i], r = std::hypot(f, g);
        e[i + 1] = r;
        if (r == 0) {  // the matrix falls apart here
          d[i + 1] -= shift;
          e[end] = 0;
          break;
        }
        sine = f / r;
        cosine = g / r;
        g = d[i + 1] - shift;
        const double p = (d[i] - g) * sine + 2 * cosine * b;
        shift = sine * p;
        d[i + 1] = g + shift;
        g = cosine * p - b;
        for (std::size_t k = 0; k < m; ++k) {
          const double next = z[i + 1][k], here = z[i][k];
          z[i + 1][k] = sine * here + cosine * next;
          z[i][k] = cosine * here - sine * next;
        }
      }
      if (i + 1 > l) continue;  // left early
      d[l] -= shift;
      e[l] = g;
      e[end] = 0;
    }
  std::vector<std::size_t> order(m);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return d[a] < d[b]; });
  SmallEigen out;
  for (const std::size_t k : order) {
    out.values.push_back(d[k]);
    out.vectors.push_back(std::move(z[k]));
  }
  return out;
}

namespace detail {

/// Largest eigenvalue of the symmetric tridiagonal matrix with this diagonal and these off-diagonals, by
/// bisection on the number of eigenvalues above a point (Sturm's sequence).
LPF_ONCE double largest_eigenvalue(const std::vector<double>& diagonal, const std::vector<double>& off) {
  double low = diagonal[0], high = diagonal[0];
  for (std::size_t i = 0; i < diagonal.size(); ++i) {  // Gershgorin
    const double radius =
        (i > 0 ? std::abs(off[i - 1]) : 0) + (i + 1 < diagonal.size() ? std::abs(off[i]) : 0);
    low = std::min(low, diagonal[i] - radius);
    high = std::max(high, diagonal[i] + radius);
  }
  for (int iteration = 0; iteration < 200 && high - low > 1e-14 * std::max(std::abs(low), std::abs(high));
       ++iteration) {
    const double x = low + (high - low) / 2;
    bool any_above = false;
    double q = diagonal[0] - x;
    for (std::size_t i = 0;; ++i) {
      if (q == 0) q = 1e-300;  // an eigenvalue of a leading block: count it above
      any_above |= q > 0;
      if (i + 1 >= diagonal.size()) break;
      q = diagonal[i + 1] - x - off[i] * off[i] / q;
    }
    (any_above ? low : high) = x;
  }
  return (low + high) / 2;
}

}  // namespace detail
}  // namespace lpf::sharpness
