// The noise law Σ: how large the perturbation of each parameter is, and how its radius changes over training.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace lpf {

// [reading 3]
/// Standard deviation s of the noise on each element of a parameter; a constant for the gradient.
enum class NoiseLaw {
  filter_wise,  ///< γ‖w_k‖₂ for output filter k of a parameter of two axes or more (published code; default)
  tensor_wise  ///< γ‖W‖_F for the whole tensor (published ResNet logs): a different, much stronger algorithm
};
// Under both laws a parameter of one axis (biases, batch norm's scale and shift) has s = γ(‖p‖₂ + 1e-16).

/// Radius γ over the updates of θ: γ(t) = γ₀·(1 + (α − 1)(1 − cos(πt/T))/2), from γ₀ at t = 0 to
/// αγ₀ at t = T, then constant.
struct Radius {
  double gamma = 0;              ///< γ₀
  double alpha = 1;              ///< α; 1: constant radius
  std::int64_t total_steps = 0;  ///< T, optimizer updates; required unless α is 1

  double at(std::uint64_t t) const {
    if (alpha == 1) return gamma;
    const double progress = t >= static_cast<std::uint64_t>(total_steps)
                                ? 1
                                : static_cast<double>(t) / static_cast<double>(total_steps);
    return gamma * (1 + (alpha - 1) * (1 - std::cos(std::numbers::pi * progress)) / 2);
  }
};

}  // namespace lpf
