// Local entropy (Baldassi et al. 2015; Chaudhari et al. 2017): small if much of a neighbourhood of
// θ has a low loss,
//
//   F = −ln E_{ε ~ N(0, I/γ)} e^{−L(θ + ε)}        γ 100 (noise and double-descent studies: 10), 100 draws
//
// The deviation is the definition's 1/√γ (the published code's is 1/γ). The average is computed as −ln Σ
// e^{−(L_r − L_min)}/R + L_min, which neither overflows nor underflows. The logarithm of a mean is biased by
// half its squared standard error.
#pragma once

#include "lpf/sharpness/low_pass.hpp"

namespace lpf::sharpness {

struct LocalEntropyOptions {
  double gamma = 100;                ///< γ
  bool published_deviation = false;  ///< use 1/γ instead of 1/√γ
};

namespace detail {
LPF_ONCE void check_local_entropy(const LocalEntropyOptions& options, const Draws& draws) {
  check_draws("sharpness::local_entropy", draws.draws, draws.until);
  check(options.gamma > 0 && std::isfinite(options.gamma), "sharpness::local_entropy",
        "gamma must be finite and positive, got ", options.gamma);
}
}  // namespace detail

LPF_ONCE Estimate local_entropy(const Landscape& landscape, const LocalEntropyOptions& options = {},
                                const Draws& draws = {}) {
  detail::check_local_entropy(options, draws);
  const double sigma = options.published_deviation ? 1 / options.gamma : 1 / std::sqrt(options.gamma);
  std::vector<double> losses, weighted(static_cast<std::size_t>(landscape.samples()), 0.0);
  double lowest = std::numeric_limits<double>::infinity();  // `weighted` is Σ_r e^{−(L_r − lowest)} ℓ_ri
  const auto now = [&] {
    const auto R = static_cast<double>(losses.size());
    double total = 0, mean = 0;
    for (const double L : losses) total += std::exp(-(L - lowest));
    const double value = lowest - std::log(total / R);
    std::vector<double> per_draw, per_sample;
    for (const double L : losses) per_draw.push_back(value + 1 - R * std::exp(-(L - lowest)) / total);
    for (const double w : weighted) mean += w / total / static_cast<double>(weighted.size());
    for (const double w : weighted) per_sample.push_back(value + w / total - mean);
    return estimate_of(value, std::move(per_draw), std::move(per_sample), draws.until.relative_error);
  };
  const auto more = [&](std::int64_t first, std::int64_t count) {
    landscape.each_pass(draws.key, first, count, sigma, [&](std::int64_t, const ReplicaLosses& pass) {
      for (std::int64_t r = 0; r < pass.M; ++r) {
        const double L = pass.mean(r);
        losses.push_back(std::isnan(L) ? std::numeric_limits<double>::infinity() : L);
        if (losses.back() < lowest) {
          const double shrink = std::isfinite(lowest) ? std::exp(losses.back() - lowest) : 0;
          for (double& w : weighted) w *= shrink;
          lowest = losses.back();
        }
        const double weight = std::exp(-(losses.back() - lowest));
        if (!(weight > 0)) continue;
        for (std::int64_t i = 0; i < pass.N; ++i)
          weighted[static_cast<std::size_t>(i)] += weight * pass.at(r, i);
      }
    });
  };
  draw_until(draws.draws, draws.until, landscape.options().replicas, more, now);
  check<NumericError>(std::isfinite(lowest), "sharpness::local_entropy",
                      "the loss is infinite at every one of the ", losses.size(), " draws");
  return now();
}

}  // namespace lpf::sharpness
