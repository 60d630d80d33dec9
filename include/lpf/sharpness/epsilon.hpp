// ε-sharpness: how far along the full-batch gradient g the loss rises by ε,
//
//   L(θ + ηg) − L(θ) = ε,   value 1/(η‖g‖)        ε 0.1
//
// in units of the filters: the step is C·η·C∇L, of length η‖C∇L‖. The root is the first crossing on a grid of
// factor 4 from a sixteenth of ε/‖g‖² (the root of a linear loss), to a relative 1e-4; a pass evaluates
// several η. The measure uses no random numbers.
#pragma once

#include "lpf/sharpness/estimate.hpp"
#include "lpf/sharpness/landscape.hpp"
#include "lpf/sharpness/root.hpp"

namespace lpf::sharpness {

struct EpsilonOptions {
  double epsilon = 0.1;     ///< ε, the rise of the loss
  double tolerance = 1e-4;  ///< relative, of η
};

namespace detail {
LPF_ONCE void check_epsilon(const EpsilonOptions& options) {
  check(options.epsilon > 0 && options.tolerance > 0, "sharpness::epsilon",
        "epsilon and tolerance must be positive, got ", options.epsilon, " and ", options.tolerance);
}
}  // namespace detail

/// @throws NumericError where the gradient is zero, or the loss never rises by ε along it.
LPF_ONCE Estimate epsilon_sharpness(const Landscape& landscape, const EpsilonOptions& options = {}) {
  constexpr const char* op = "sharpness::epsilon";
  detail::check_epsilon(options);
  const auto off = no_grad();
  const Tensor g = landscape.gradient();
  const double length = detail::norm(g), clean = landscape.losses().mean(0);
  check<NumericError>(length > 0 && std::isfinite(length), op, "the gradient has length ", length,
                      ": the loss has no direction of ascent here");
  const Tensor direction = detail::scaled(g, 1 / length);
  const auto rise = [&](const std::vector<double>& distances) {  // η‖g‖
    const Tensor v = mul(from_vector(distances, {std::ssize(distances), 1}, Device::cpu()),
                         reshape(direction, {1, landscape.size()}));
    const ReplicaLosses losses = landscape.losses(landscape.at(v));
    std::vector<double> out;
    for (std::int64_t r = 0; r < losses.M; ++r) out.push_back(losses.mean(r) - clean - options.epsilon);
    return out;
  };
  const double first = std::clamp(options.epsilon / length / 16, 1e-12, 1.0);
  const Root root = first_crossing(op, rise,
                                   {.first = first,
                                    .limit = 1e6 * (1 + detail::norm(landscape.weights())),
                                    .tolerance = options.tolerance,
                                    .at_once = static_cast<int>(landscape.options().replicas)});
  return {.value = 1 / root.x};
}

}  // namespace lpf::sharpness
