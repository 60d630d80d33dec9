// The largest eigenvalue of the loss's Hessian, by Lanczos' method on exact Hessian-vector products.
#pragma once

#include <limits>

#include "lpf/autograd/hvp.hpp"
#include "lpf/sharpness/low_pass.hpp"

namespace lpf::sharpness {

namespace detail {

/// Largest eigenvalue of the symmetric tridiagonal matrix with this diagonal and these off-diagonals, by
/// bisection on the number of eigenvalues above a point (Sturm's sequence).
inline double largest_eigenvalue(const std::vector<double>& diagonal, const std::vector<double>& off) {
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

struct LanczosOptions {
  int steps = 100;
  int starts = 2;  ///< independent random first vectors; the largest value counts
  double tolerance =
      1e-4;  ///< stop when λ_max changed less than this, relative, in three steps; 0: all steps
  bool filter_normalize = true;  ///< of C H C with c the unit sizes (units.hpp), else of H
  std::uint64_t seed = 0;
};

/// λ_max of the Hessian of `loss()` with respect to θ (C H C if filter-normalised). `loss` computes the mean
/// loss over the data; its gradient is recorded once and differentiated again for each product. Lanczos with
/// full re-orthogonalisation in double (Golub & Van Loan, ch. 10).
template <class Loss>
double lambda_max(const ParameterStore& params, Loss loss, const LanczosOptions& options = {}) {
  check(options.steps >= 1 && options.starts >= 1, "sharpness::lambda_max",
        "steps and starts must be at least 1");
  const EvalMode eval(params);
  const std::vector<Tensor> leaves = params.leaves();
  check(!leaves.empty(), "sharpness::lambda_max", "no parameter is trainable");
  const HessianVectorProduct hessian(loss(), leaves);
  // c over the elements of the trainable parameters, one after another
  std::vector<double> sizes;
  const std::vector<double> c =
      options.filter_normalize ? unit_sizes(params).to_vector() : std::vector<double>();
  for (const auto& info : params.parameters()) {
    if (!info.trainable) continue;
    for (std::int64_t i = 0; i < info.numel(); ++i)
      sizes.push_back(options.filter_normalize ? c[static_cast<std::size_t>(info.offset + i)] : 1);
  }
  const std::size_t n = sizes.size();
  const auto product = [&](const std::vector<double>& v) {  // C H C v
    std::vector<Tensor> direction;
    std::size_t at = 0;
    for (const Tensor& leaf : leaves) {
      std::vector<double> part(static_cast<std::size_t>(leaf.numel()));
      for (double& p : part) {
        p = v[at] * sizes[at];
        ++at;
      }
      direction.push_back(from_vector(part, leaf.shape()).to(leaf.dtype()).to(leaf.device()));
    }
    std::vector<double> y;
    y.reserve(n);
    for (const Tensor& part : hessian(direction)) {
      const auto values = part.to_vector();
      y.insert(y.end(), values.begin(), values.end());
    }
    for (std::size_t i = 0; i < n; ++i) y[i] *= sizes[i];
    return y;
  };
  const auto inner = [n](const std::vector<double>& a, const std::vector<double>& b) {
    double s = 0;
    for (std::size_t i = 0; i < n; ++i) s += a[i] * b[i];
    return s;
  };
  double best = -std::numeric_limits<double>::infinity();
  for (int start = 0; start < options.starts; ++start) {
    std::vector<double> v(n);
    const NoiseKey key{options.seed, Purpose::measure, 0xFFFFFFFF, static_cast<std::uint32_t>(start), 0};
    backend::get(Device::cpu()).normal(DType::float64, key, 0, static_cast<std::int64_t>(n), v.data());
    const double length = std::sqrt(inner(v, v));
    for (double& x : v) x /= length;
    std::vector<std::vector<double>> basis{v};
    std::vector<double> diagonal, off, found;
    for (int step = 0; step < options.steps && std::ssize(basis) <= static_cast<std::ptrdiff_t>(n); ++step) {
      std::vector<double> w = product(basis.back());
      diagonal.push_back(inner(w, basis.back()));
      for (int pass = 0; pass < 2; ++pass)  // twice is enough (Kahan)
        for (const auto& q : basis) {
          const double along = inner(w, q);
          for (std::size_t i = 0; i < n; ++i) w[i] -= along * q[i];
        }
      found.push_back(detail::largest_eigenvalue(diagonal, off));
      const double norm = std::sqrt(inner(w, w)), scale = std::abs(found.back());
      if (norm <= 1e-12 * scale) break;  // an invariant subspace: the value is exact
      if (found.size() > 3 && std::abs(found.back() - found[found.size() - 4]) < options.tolerance * scale)
        break;
      off.push_back(norm);
      for (double& x : w) x /= norm;
      basis.push_back(std::move(w));
    }
    best = std::max(best, found.back());
  }
  return best;
}

}  // namespace lpf::sharpness
