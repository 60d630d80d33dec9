// The noise law Σ: how large the perturbation of each parameter is, and how its radius changes over training.
#pragma once

#include <cmath>
#include <functional>
#include <numbers>

#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/index.hpp"

namespace lpf {

/// Standard deviation s of the noise on each element of a parameter; a constant for the gradient.
enum class NoiseLaw {
  filter_wise,  ///< γ‖w_k‖₂ for output filter k of a parameter of two axes or more (published code; the
                ///< default)
  tensor_wise  ///< γ‖W‖_F for the whole tensor (the published ResNet logs): another, much stronger, algorithm
};
// Under both laws a parameter of one axis (biases, batch norm's scale and shift) has s = γ(‖p‖₂ + 1e-16).

/// Radius γ over the updates of θ: γ(t) = γ₀·(1 + (α − 1)(1 − cos(πt/T))/2), from γ₀ at t = 0 to αγ₀ at t = T
/// and after.
struct Radius {
  double gamma = 0;              ///< γ₀
  double alpha = 1;              ///< α; 1 keeps the radius constant
  std::int64_t total_steps = 0;  ///< T, optimizer updates; needed unless α is 1

  double at(std::uint64_t t) const {
    if (alpha == 1) return gamma;
    const double progress = t >= static_cast<std::uint64_t>(total_steps)
                                ? 1
                                : static_cast<double>(t) / static_cast<double>(total_steps);
    return gamma * (1 + (alpha - 1) * (1 - std::cos(std::numbers::pi * progress)) / 2);
  }
};

namespace filter {

/// The parameters that a filter perturbs, as rows of θ, and how the scale of each row comes from norms.
struct Segments {
  std::vector<backend::Segment> segments;   ///< what is perturbed: rows of equal scale
  std::vector<backend::NormSegment> norms;  ///< whose norms the scales of the rows are
  std::vector<std::int64_t> segment_of;     ///< parameter → segment, −1 if left out
  std::int64_t rows = 0;

  /// The segment of a parameter; null if it is not perturbed.
  const backend::Segment* of(std::size_t parameter) const {
    const std::int64_t s = segment_of[parameter];
    return s < 0 ? nullptr : &segments[static_cast<std::size_t>(s)];
  }
};

/// The parameters for which `include` holds (all trainable ones if it is empty).
inline Segments segments_of(const ParameterStore& params, NoiseLaw law,
                            const std::function<bool(const ParameterInfo&)>& include) {
  Segments out;
  for (const ParameterInfo& info : params.parameters()) {
    out.segment_of.push_back(-1);
    if (!info.trainable || info.numel() == 0 || (include && !include(info))) continue;
    const bool matrix = info.shape.rank() > 1;
    const std::int64_t rows = matrix ? info.shape[0] : 1, length = info.numel() / rows;
    const auto index = static_cast<std::uint32_t>(info.index);
    out.segment_of.back() = std::ssize(out.segments);
    out.segments.push_back({info.offset, rows, length, out.rows, index});
    const bool whole = law == NoiseLaw::tensor_wise && matrix;
    const std::int64_t norms = whole ? 1 : rows;
    out.norms.push_back(
        {info.offset, norms, info.numel() / norms, out.rows, rows / norms, matrix ? 0 : 1e-16});
    out.rows += rows;
  }
  return out;
}

/// The standard deviation of each row, [rows]: γ times its norm.
inline Tensor scales(const ParameterStore& params, const Segments& segments, const StepScalar& gamma) {
  const Tensor theta = params.theta(), out = empty({segments.rows}, theta.options());
  theta.backend().filter_norms(theta.dtype(), segments.norms.data(), std::ssize(segments.norms), theta.raw(),
                               gamma, out.raw());
  return out;
}

}  // namespace filter
}  // namespace lpf
