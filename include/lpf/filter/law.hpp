// The noise law: the standard deviation s of the noise on each element of θ, and how its radius γ changes over
// training.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/shape.hpp"
#include "lpf/ops/step_scalar.hpp"

namespace lpf {

/// Standard deviation s of the noise on each element of a parameter; a constant for the gradient. The paper
/// writes N(0, γ·diag(‖θ¹‖, …)); its published code takes γ‖θᵏ‖ as the standard deviation, and so does this.
enum class NoiseLaw {
  filter_wise,  ///< γ‖w_k‖₂ for output filter k of a parameter of two axes or more: the published code's law
  tensor_wise,  ///< γ‖W‖_F, one scale for the whole tensor: much larger noise at the same γ
  isotropic     ///< γ for every element, whatever its size: the theory's N(0, σ²I) with σ = γ
};
// Under the first two a parameter of one axis (biases, batch norm's scale and shift) has s = γ(‖p‖₂ + 1e-16).

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

namespace filter {

/// The perturbed parameters as rows of θ (filters), and the norms from which the scale of each row is
/// computed. Made by segments_of().
struct Segments {
  std::vector<backend::Segment> segments;  ///< the perturbed parameters; each row (filter) has one scale
  std::vector<backend::NormSegment>
      norms;  ///< what the norms are of: each row, or a whole tensor; isotropic: none
  std::vector<std::int64_t> segment_of;  ///< parameter → segment, −1 if excluded
  std::int64_t rows = 0;

  /// The segment of a parameter; null if it is not perturbed.
  const backend::Segment* of(std::size_t parameter) const {
    const std::int64_t s = segment_of[parameter];
    return s < 0 ? nullptr : &segments[static_cast<std::size_t>(s)];
  }
};

/// The standard deviation s of each row, [rows]: γ times its norm, or γ (isotropic).
inline Tensor scales(const ParameterStore& params, const Segments& segments, const StepScalar& gamma) {
  if (segments.norms.empty())  // isotropic
    return expand(scalar(gamma, params.theta().options()), {segments.rows});
  // [reading 3]
  const Tensor theta = params.theta(), out = empty({segments.rows}, theta.options());
  theta.backend().filter_norms(theta.dtype(), segments.norms.data(), std::ssize(segments.norms), theta.raw(),
                               gamma, out.raw());
  return out;
}

}  // namespace filter
}  // namespace lpf
