// The spectrum of the Hessian (C H C after filter normalisation) from a few runs of Lanczos' method:
//
//   λ_max, λ_min          extreme Ritz values, over all runs
//   eigenpairs            those of largest value, from the first run, with their residuals ‖A v − λ v‖
//   tr f(H)               stochastic Lanczos quadrature: a start v with T = SΘSᵀ gives
//                         d Σ_k s_{1k}² f(θ_k) (Golub & Meurant 2010; Ubaru, Chen, Saad 2017)
//   effective dimension   tr f with f(λ) = λ/(λ + 1), and 0 for negative λ (Maddox, Benton, Wilson 2020)
//   spectral density      (1/d) Σ_i N(t; λ_i, κ²), by the same quadrature (Ghorbani, Krishnan, Xiao 2019)
//
// Defaults: 100 steps, 2 starts; a standard error from 2 starts is itself uncertain by 70 %.
#pragma once

#include <numbers>

#include "lpf/sharpness/hessian.hpp"
#include "lpf/sharpness/lanczos.hpp"

namespace lpf::sharpness {

struct SpectrumOptions {
  std::int64_t steps = 100;
  std::int64_t starts = 2;      ///< random first vectors
  std::int64_t eigenpairs = 0;  ///< number of largest eigenvalues stored with their vectors
  std::uint64_t key = 0;
};

struct Eigenpair {
  double value, residual;  ///< an eigenvalue lies within `residual` of `value`
  Tensor vector;           ///< over θ, in units of the filters, of length 1
};

namespace detail {
LPF_ONCE void check_spectrum(const SpectrumOptions& options) {
  check(options.steps >= 1 && options.starts >= 1 && options.eigenpairs >= 0, "sharpness::spectrum",
        "steps and starts must be at least 1, got ", options.steps, " and ", options.starts,
        ", and eigenpairs not negative");
}
}  // namespace detail

class Spectrum {
 public:
  /// The quadrature of one start: values and their weights, which sum to 1.
  struct Nodes {
    std::vector<double> value, weight;
  };

  LPF_ONCE Spectrum(const Hessian& hessian, const SpectrumOptions& options = {})
      : dimension_(hessian.landscape().dimension()) {
    detail::check_spectrum(options);
    const Landscape& l = hessian.landscape();
    const auto run_of = [&](std::int64_t start) {
      const Tensor first = l.random_vector(options.key, Stream::lanczos, static_cast<std::uint32_t>(start));
      const Krylov run =
          lanczos(hessian, first, options.steps, dimension_, [](const Tridiagonal&) { return false; });
      return numbers_of(run, start == 0 ? options.eigenpairs : 0);
    };
    const auto keep = [&](std::int64_t, const Ranks::Numbers& run) { take(run, l.size()); };
    // Ranks share either each product, one run after another, or the runs.
    if (hessian.is_shared())
      for (std::int64_t start = 0; start < options.starts; ++start) keep(start, run_of(start));
    else
      l.ranks().in_order(options.starts, run_of, keep);
  }

  std::int64_t dimension() const { return dimension_; }  ///< d
  const std::vector<Nodes>& nodes() const { return nodes_; }
  const std::vector<Eigenpair>& eigenpairs() const { return eigenpairs_; }  ///< largest value first

  /// The largest and the smallest Ritz value of all starts; bounds from below and from above.
  double largest() const {
    return extreme([](double a, double b) { return std::max(a, b); });
  }
  double smallest() const {
    return extreme([](double a, double b) { return std::min(a, b); });
  }

  /// tr f(H) = Σ_i f(λ_i), one draw per start.
  template <class F>
  Estimate trace_of(F f) const {
    std::vector<double> per_draw;
    for (const Nodes& n : nodes_) {
      double sum = 0;
      for (std::size_t k = 0; k < n.value.size(); ++k) sum += n.weight[k] * f(n.value[k]);
      per_draw.push_back(sum * static_cast<double>(dimension_));
    }
    return estimate_of(mean_error(per_draw).mean, per_draw);
  }
  Estimate effective_dimension() const {
    return trace_of([](double lambda) { return lambda > 0 ? lambda / (lambda + 1) : 0; });
  }

  /// Share of the eigenvalues per unit of λ at `points` places, each smoothed by a Gaussian of deviation
  /// `width` (0: a hundredth of the range). Its integral is 1.
  LPF_ONCE Curve density(std::int64_t points = 400, double width = 0) const {
    check(points >= 2 && width >= 0, "sharpness::density",
          "needs 2 points and a width that is not negative, got ", points, " and ", width);
    const double range = std::max(largest() - smallest(), 1e-12 * std::abs(largest()));
    if (width == 0) width = range > 0 ? range / 100 : 1;
    const double low = smallest() - 4 * width, high = largest() + 4 * width;
    Curve out;
    for (std::int64_t i = 0; i < points; ++i) {
      const double t = low + (high - low) * static_cast<double>(i) / static_cast<double>(points - 1);
      const Estimate at = trace_of([&](double lambda) {
        const double z = (t - lambda) / width;
        return std::exp(-z * z / 2) / (width * std::sqrt(2 * std::numbers::pi));
      });
      out.x.push_back(t);
      out.y.push_back(at.value / static_cast<double>(dimension_));
      out.standard_error.push_back(at.standard_error / static_cast<double>(dimension_));
    }
    return out;
  }

 private:
  template <class Of>
  double extreme(Of of) const {
    double out = nodes_[0].value[0];
    for (const Nodes& n : nodes_)
      for (const double value : n.value) out = of(out, value);
    return out;
  }
  /// A run as numbers: m, the m values, their weights, then value, residual and vector of each eigenpair.
  LPF_ONCE static Ranks::Numbers numbers_of(const Krylov& run, std::int64_t eigenpairs) {
    const SmallEigen small = eigen_of(run.matrix);
    const auto m = std::ssize(small.values);
    Ranks::Numbers out{static_cast<double>(m)};
    out.insert(out.end(), small.values.begin(), small.values.end());
    for (const auto& v : small.vectors) out.push_back(v[0] * v[0]);
    for (std::int64_t k = 0; k < std::min(eigenpairs, m); ++k) {
      const auto i = static_cast<std::size_t>(m - 1 - k);
      const Tensor v = zeros_like(run.basis[0]);
      for (std::size_t j = 0; j < run.basis.size(); ++j)
        detail::add_scaled(small.vectors[i][j], run.basis[j], v);
      out.push_back(small.values[i]);
      out.push_back(run.rest * std::abs(small.vectors[i].back()));
      const auto elements = v.to_vector();
      out.insert(out.end(), elements.begin(), elements.end());
    }
    return out;
  }
  LPF_ONCE void take(const Ranks::Numbers& run, std::int64_t size) {
    auto at = run.begin() + 1;
    const auto next = [&](std::int64_t n) {
      at += n;
      return Ranks::Numbers(at - n, at);
    };
    const auto m = static_cast<std::int64_t>(run[0]);
    Nodes nodes{next(m), {}};
    nodes.weight = next(m);
    nodes_.push_back(std::move(nodes));
    while (at != run.end()) {
      const Ranks::Numbers value = next(2);
      eigenpairs_.push_back({value[0], value[1], from_vector(next(size), {size}, Device::cpu())});
    }
  }

  std::int64_t dimension_;
  std::vector<Nodes> nodes_;
  std::vector<Eigenpair> eigenpairs_;
};

}  // namespace lpf::sharpness
