// PAC-Bayes: the noise that increases the mean loss by 0.1,
//
//   σ:  E_{ε ~ N(0, σ²I)} L(θ + ε) − L(θ) = 0.1        10 draws
//
// and the complexity term of the bound, in two forms,
//
//   ‖θ‖²/(4σ²) + ln(2N/δ)             as in the published comparison            δ 1e-6
//   ‖θ − θ_init‖²/(4σ²) + ln(2N/δ)    the definition (Neyshabur et al. 2017; Jiang et al. 2020)
//
// N samples; all in units of the filters. The draws are the same at every σ, so that the root is well
// defined; it is the first crossing on a grid of factor 4, to a relative 1e-4. Sharpness is 1/σ.
#pragma once

#include "lpf/sharpness/low_pass.hpp"
#include "lpf/sharpness/root.hpp"

namespace lpf::sharpness {

struct PACBayesOptions {
  double rise = 0.1;        ///< of the mean loss
  double delta = 1e-6;      ///< δ, the probability that the bound fails
  double tolerance = 1e-4;  ///< relative, of σ
  Tensor initial = {};      ///< θ before training, for the definition's form; undefined: omitted
};
using PacBayesOptions [[deprecated("use PACBayesOptions")]] = PACBayesOptions;

struct PACBayes {
  Estimate sigma, norm;
  Estimate distance;  ///< NaN without θ_init
};
using PacBayes [[deprecated("use PACBayes")]] = PACBayes;

namespace detail {
LPF_ONCE void check_pac_bayes(const PACBayesOptions& options, const Draws& draws) {
  constexpr const char* op = "sharpness::pac_bayes";
  check_draws(op, draws.draws, draws.until);
  check(options.rise > 0 && options.tolerance > 0 && options.delta > 0 && options.delta < 1, op,
        "rise and tolerance must be positive and delta in (0, 1), got ", options.rise, ", ",
        options.tolerance, " and ", options.delta);
}
}  // namespace detail

/// @throws NumericError if no noise raises the loss by `rise`.
LPF_ONCE PACBayes pac_bayes(const Landscape& landscape, const PACBayesOptions& options = {},
                            const Draws& draws = {.draws = 10}) {
  constexpr const char* op = "sharpness::pac_bayes";
  detail::check_pac_bayes(options, draws);
  const auto off = no_grad();
  const ReplicaLosses at_theta = landscape.losses();
  const double clean = at_theta.mean(0);
  std::int64_t used = draws.draws;
  std::vector<double> per_draw, per_sample;
  const auto rise_at = [&](double sigma) {
    per_draw.clear();
    per_sample.assign(at_theta.values.size(), 0.0);
    double mean = 0;
    landscape.each_pass(draws.key, 0, used, sigma, [&](std::int64_t, const ReplicaLosses& losses) {
      for (std::int64_t r = 0; r < losses.M; ++r) {
        per_draw.push_back(losses.mean(r) - clean);
        mean += per_draw.back() / static_cast<double>(used);
        for (std::int64_t i = 0; i < losses.N; ++i)
          per_sample[static_cast<std::size_t>(i)] +=
              (losses.at(r, i) - at_theta.at(0, i)) / static_cast<double>(used);
      }
    });
    return mean;
  };
  double first = 0.01;
  const auto solve = [&] {
    const auto f = [&](const std::vector<double>& s) { return std::vector{rise_at(s[0]) - options.rise}; };
    const Root root = first_crossing(op, f, {.first = first, .limit = 1e6, .tolerance = options.tolerance});
    const double mean = rise_at(root.x);
    first = root.x;
    // dσ = −d(rise)/slope: the change of the root by each draw and each sample
    for (double& x : per_draw) x = root.x - (x - mean) / root.slope;
    for (double& x : per_sample) x = root.x - (x - mean) / root.slope;
    return estimate_of(root.x, per_draw, per_sample, draws.until.relative_error);
  };
  PACBayes out;
  draw_until(
      draws.draws, draws.until, landscape.options().replicas,
      [&](std::int64_t start, std::int64_t count) {
        used = start + count;
        out.sigma = solve();
      },
      [&] { return out.sigma; });

  const auto bound = [&](const Tensor& v) {  // a function of σ: its errors follow from the derivative
    const double sigma = out.sigma.value, squares = detail::inner(v, v) / (4 * sigma * sigma);
    const double value = squares + std::log(2 * static_cast<double>(landscape.samples()) / options.delta);
    const auto moved = [&](std::vector<double> values) {
      for (double& s : values) s = value - 2 * squares * (s - sigma) / sigma;
      return values;
    };
    return estimate_of(value, moved(out.sigma.per_draw), moved(out.sigma.per_sample),
                       draws.until.relative_error);
  };
  const Tensor w = landscape.weights();
  out.norm = bound(w);
  if (options.initial.defined())
    out.distance = bound(sub(w, landscape.in_units(options.initial)));
  else
    out.distance.value = std::numeric_limits<double>::quiet_NaN();
  return out;
}

}  // namespace lpf::sharpness
