// Lanczos' method: from products v ↦ A v with a symmetric A, an orthonormal basis Q of the Krylov space of
// a first vector, in which A is tridiagonal, Qᵀ A Q = T. Full re-orthogonalisation, twice, in double
// (Golub & Van Loan, chapter 10). Also the largest eigenvalue of a loss's Hessian; for more of the
// spectrum see spectrum.hpp.
#pragma once

#include <limits>

#include "lpf/calculus/hvp.hpp"
#include "lpf/sharpness/low_pass.hpp"
#include "lpf/sharpness/tridiagonal.hpp"

namespace lpf::sharpness {

/// The result of Lanczos' method.
struct Krylov {
  Tridiagonal matrix;         ///< T, m×m
  std::vector<Tensor> basis;  ///< the m columns of Q
  double rest = 0;            ///< b_{m−1}, the norm of the residual; 0 if the space is invariant
};

/// At most `steps` products, and at most the dimension of the space; `done(T)` may end it earlier.
template <class Product, class Done>
Krylov lanczos(const Product& product, const Tensor& first, std::int64_t steps, std::int64_t dimension,
               Done done) {
  const auto off = no_grad();
  Krylov out;
  const double length = detail::norm(first);
  check<NumericError>(length > 0 && std::isfinite(length), "sharpness::lanczos",
                      "the first vector has length ", length);
  out.basis.push_back(detail::scaled(first, 1 / length));
  auto& [diagonal, beside] = out.matrix;
  for (;;) {
    const Tensor w = product(out.basis.back());
    diagonal.push_back(detail::inner(w, out.basis.back()));
    check<NumericError>(std::isfinite(diagonal.back()), "sharpness::lanczos", "product ", diagonal.size(),
                        " with the Hessian is not finite: are the weights?");
    for (int pass = 0; pass < 2; ++pass)  // twice is enough (Kahan)
      for (const Tensor& q : out.basis) detail::add_scaled(-detail::inner(w, q), q, w);
    out.rest = detail::norm(w);
    double scale = 0;
    for (const double a : diagonal) scale = std::max(scale, std::abs(a));
    for (const double b : beside) scale = std::max(scale, b);
    if (out.rest <= 1e-12 * scale) out.rest = 0;  // an invariant subspace: the values are exact
    if (out.rest == 0 || std::ssize(diagonal) >= std::min(steps, dimension) || done(out.matrix)) return out;
    beside.push_back(out.rest);
    out.basis.push_back(detail::scaled(w, 1 / out.rest));
  }
}

struct LanczosOptions {
  int steps = 100;
  int starts = 2;  ///< independent random first vectors; the largest value counts
  /// Stops when λ_max changes by less than this, relative, in three steps; 0: all steps.
  double tolerance = 1e-4;
  bool filter_normalize = true;  ///< of C H C with c the unit sizes (units.hpp), else of H
  std::uint64_t seed = 0;
};

/// λ_max of the Hessian of `loss()` with respect to θ (C H C if filter-normalised). `loss` computes the mean
/// loss over the data; its gradient is recorded once and differentiated again for each product.
template <class Loss>
double lambda_max(const ParameterStore& params, Loss loss, const LanczosOptions& options = {}) {
  check(options.steps >= 1 && options.starts >= 1, "sharpness::lambda_max",
        "steps and starts must be at least 1");
  const EvalMode eval(params);
  const Coordinates space(params, options.filter_normalize);
  const HessianVectorProduct hessian(loss(), params.leaves());
  const auto product = [&](const Tensor& v) {
    const Tensor out = zeros_like(v);
    space.add_parts(hessian(space.parts_of(mul(v, space.units()))), 1, out);
    return mul(out, space.units());
  };
  double best = -std::numeric_limits<double>::infinity();
  for (int start = 0; start < options.starts; ++start) {
    std::vector<double> found;
    const auto done = [&](const Tridiagonal& t) {
      found.push_back(detail::largest_eigenvalue(t));
      return found.size() > 3 &&
             std::abs(found.back() - found[found.size() - 4]) < options.tolerance * std::abs(found.back());
    };
    const Tensor first =
        space.random_vector(options.seed, Stream::lanczos, static_cast<std::uint32_t>(start));
    const Tridiagonal t = lanczos(product, first, options.steps, space.dimension(), done).matrix;
    best = std::max(best, detail::largest_eigenvalue(t));
  }
  return best;
}

}  // namespace lpf::sharpness
