// The average-direction profile: the mean loss at distance α along random directions,
//
//   α ↦ E_{ε ~ N(0, I)} L(θ + α C ε)
//
// with the same draws ε at every α, so that the curve is smooth and its points are paired. LPF is its value
// at α = σ; PAC-Bayes is the α where it has risen by 0.1.
#pragma once

#include "lpf/sharpness/low_pass.hpp"

namespace lpf::sharpness {

namespace detail {
LPF_ONCE void check_profile(const std::vector<double>& alphas, const Draws& draws) {
  check_draws("sharpness::profile", draws.draws, draws.until);
  for (const double alpha : alphas)
    check(std::isfinite(alpha), "sharpness::profile", "alpha must be finite, got ", alpha);
}
}  // namespace detail

/// x: α; y: the mean loss, with the standard error of the draws.
LPF_ONCE Curve profile(const Landscape& landscape, const std::vector<double>& alphas,
                       const Draws& draws = {}) {
  detail::check_profile(alphas, draws);
  Curve out;
  for (const double alpha : alphas) {
    const Estimate at = detail::mean_loss(landscape, landscape.scale(alpha), draws);
    out.x.push_back(alpha);
    out.y.push_back(at.value);
    out.standard_error.push_back(at.standard_error);
  }
  return out;
}

}  // namespace lpf::sharpness
