// LPF for a loss and an optimizer outside this library: the gradient of the smoothed loss for a black-box
// function of a flat vector, without tensors or layers. It implements the definition, M calls in sequence,
// with the noise that a perturbed pass over a ParameterStore of these rows would draw.
//
//   std::vector<double> theta = …, g(theta.size());
//   for (std::uint64_t step = 0; step < steps; ++step) {
//     const auto smoothed = lpf_gradient(
//         [&](std::span<const double> at, std::span<double> gradient, std::int64_t r) {
//           return my_loss_and_gradient(at, my_batch.slice(r), gradient);  // replica r has its own slice
//         },
//         theta, g, {.M = 8, .gamma = 0.05, .rows = {{64, 784}, {1, 64}}, .key = {.seed = 1, .draw = step}});
//     my_optimizer.update(theta, g);
//   }
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "lpf/backend/backend.hpp"
#include "lpf/backend/float64.hpp"
#include "lpf/core/gaussian.hpp"
#include "lpf/core/host_device.hpp"

namespace lpf {

/// A parameter in a flat vector: `rows` filters of `length` elements; a vector (bias) is one row.
struct FilterRows {
  std::int64_t rows = 1, length = 0;
};

struct LPFGradientOptions {
  std::int64_t M = 8;  ///< replicas: calls of the function
  /// Elements of a row w have standard deviation γ‖w‖₂; those of a parameter of one row, γ(‖w‖₂ + 1e-16).
  double gamma = 0;
  double sigma = 0;  ///< σ of every element, instead of gamma
  /// The parameters, which cover θ in order; empty: θ is one row.
  std::vector<FilterRows> rows = {};
  bool antithetic = false;  ///< M/2 draws, each with both signs for two neighbours; M must be even
  /// The key of the noise; use a new draw in each step. `replica` and `parameter` are set internally.
  NoiseKey key = {.purpose = Purpose::perturbation};
};
using LpfGradientOptions [[deprecated("use LPFGradientOptions")]] = LPFGradientOptions;

/// The result of lpf_gradient(), besides the gradient.
struct SmoothedLoss {
  double value;                        ///< mean of the replicas' losses, an estimate of E L(θ + s ⊙ ε)
  double standard_error;               ///< of the mean, from the differences between draws; NaN for one draw
  std::vector<double> replica_losses;  ///< M values
};

namespace detail {

/// The segments into which `rows` divide a vector of n elements, and the standard deviation of each row.
template <class T>
struct RowScales {
  std::vector<backend::Segment> segments;
  std::vector<T> scale;

  RowScales(std::span<const T> theta, const LPFGradientOptions& o) {
    const auto n = static_cast<std::int64_t>(theta.size());
    std::int64_t at = 0, count = 0;
    for (const FilterRows& r : o.rows.empty() ? std::vector{FilterRows{1, n}} : o.rows) {
      check<ShapeError>(r.rows >= 1 && r.length >= 0 && r.length <= (n - at) / r.rows, "lpf_gradient",
                        "parameter ", segments.size(), ", ", r.rows, " rows of ", r.length,
                        " elements, does not fit into the ", n - at, " elements of theta that are left of ",
                        n);
      segments.push_back({at, r.rows, r.length, count, static_cast<std::uint32_t>(segments.size())});
      at += r.rows * r.length;
      count += r.rows;
    }
    check<ShapeError>(at == n, "lpf_gradient", "the rows cover ", at, " elements, theta has ", n);
    scale.assign(static_cast<std::size_t>(count), static_cast<T>(o.sigma));
    if (o.sigma > 0) return;
    std::vector<backend::NormSegment> norms;
    for (const auto& s : segments)
      norms.push_back({s.offset, s.rows, s.length, s.first_scale, 1, s.rows == 1 ? 1e-16 : 0});
    backend::get(Device::cpu())
        .filter_norms(dtype_of<T>(), norms.data(), std::ssize(norms), theta.data(), o.gamma, scale.data());
  }
};

/// The elements of a vector as a span: of anything that std::span takes, and of what has data() and size() and, where
/// it has strides, no gaps, as Eigen's vectors, maps and dense matrices. ShapeError for gaps.
template <class V>
auto contiguous(V&& v) {
  if constexpr (requires { std::span(v); }) {
    return std::span(v);
  } else {
    if constexpr (requires { v.innerStride(), v.outerStride(), v.innerSize(); })
      check<ShapeError>(
          v.innerStride() == 1 && (v.outerStride() == v.innerSize() || v.size() == v.innerSize()),
          "lpf_gradient",
          "the elements of theta and of the gradient must lie side by side in memory, "
          "and these have strides of ",
          v.innerStride(), " and ", v.outerStride(), ": copy them");
    return std::span(v.data(), static_cast<std::size_t>(v.size()));
  }
}

template <class T, class F>
SmoothedLoss lpf_gradient(F& f, std::span<const T> theta, std::span<T> gradient,
                          const LPFGradientOptions& o) {
  check(o.M >= 1, "lpf_gradient", "M must be at least 1, got ", o.M);
  check(!o.antithetic || o.M % 2 == 0, "lpf_gradient", "antithetic draws come in pairs: M must be even, got ",
        o.M);
  check(std::isfinite(o.gamma) && o.gamma >= 0 && std::isfinite(o.sigma) && o.sigma >= 0, "lpf_gradient",
        "gamma and sigma must be finite and not negative, got ", o.gamma, " and ", o.sigma);
  check(o.gamma == 0 || o.sigma == 0, "lpf_gradient", "gamma = ", o.gamma, " and sigma = ", o.sigma,
        " both say how large the noise is: give one");
  check<ShapeError>(gradient.size() == theta.size(), "lpf_gradient", "theta has ", theta.size(),
                    " elements, the gradient ", gradient.size());
  const RowScales<T> law(theta, o);
  std::vector<T> noise(theta.size()), at(theta.size()), own(theta.size()), total(theta.size(), T(0));
  SmoothedLoss out{0, std::numeric_limits<double>::quiet_NaN(), {}};
  for (std::int64_t r = 0; r < o.M; ++r) {
    const bool minus = o.antithetic && r % 2 == 1;
    for (const auto& s : law.segments) {
      NoiseKey key = o.key;
      key.replica = static_cast<std::uint32_t>(o.antithetic ? r / 2 : r);
      key.parameter = s.parameter;
      if (!minus)
        backend::get(Device::cpu()).normal(dtype_of<T>(), key, 0, s.rows * s.length, noise.data() + s.offset);
      auto i = static_cast<std::size_t>(s.offset);
      for (std::int64_t row = 0; row < s.rows; ++row) {
        const T scale = law.scale[static_cast<std::size_t>(s.first_scale + row)],
                deviation = minus ? -scale : scale;
        for (std::int64_t k = 0; k < s.length; ++k, ++i) at[i] = detail::fmadd(deviation, noise[i], theta[i]);
      }
    }
    std::fill(own.begin(), own.end(), T(0));
    double loss;
    if constexpr (std::is_invocable_v<F&, std::span<const T>, std::span<T>, std::int64_t>) {
      loss = static_cast<double>(f(std::span<const T>(at), std::span<T>(own), r));
    } else {
      loss = static_cast<double>(f(std::span<const T>(at), std::span<T>(own)));
    }
    out.replica_losses.push_back(loss);
    for (std::size_t i = 0; i < total.size(); ++i) total[i] += own[i];
  }
  for (std::size_t i = 0; i < total.size(); ++i) gradient[i] = total[i] / static_cast<T>(o.M);

  const std::size_t together = o.antithetic ? 2 : 1;  // the two losses of a pair count as one value
  const auto draws = static_cast<double>(out.replica_losses.size() / together);
  for (const double loss : out.replica_losses) out.value += loss / static_cast<double>(o.M);
  double squares = 0;
  for (std::size_t i = 0; i < out.replica_losses.size(); i += together) {
    double mean = 0;
    for (std::size_t j = i; j < i + together; ++j)
      mean += out.replica_losses[j] / static_cast<double>(together);
    squares += (mean - out.value) * (mean - out.value);
  }
  if (draws > 1) out.standard_error = std::sqrt(squares / (draws - 1) / draws);
  return out;
}

}  // namespace detail

/// The smoothed gradient g = (1/M) Σ_r ∇L_r(θ + s ⊙ ε_r) of a function of a flat vector (Bisla et al. 2022,
/// algorithm 1). Writes g to `gradient` and returns the mean loss. θ is not changed, and `gradient` is not
/// changed if f throws.
///
/// f(θ_r, gradient_r) returns the loss at θ_r and writes its gradient to gradient_r, which is zero on entry;
/// f(θ_r, gradient_r, r) also takes the index of the replica, to choose its slice of a batch. All replicas
/// have equal weight: the estimate is unbiased for slices of equal size. `theta` is a vector, array or span
/// of float or double, or one of Eigen's, `gradient` a writable one of its size.
/// @throws ShapeError if gradient or rows do not fit theta, or for a vector with gaps; ValueError for options out of
/// range, or both gamma and sigma.
template <class F, class Theta, class Gradient>
SmoothedLoss lpf_gradient(F&& f, const Theta& theta, Gradient&& gradient, const LPFGradientOptions& options) {
  const auto to = detail::contiguous(gradient);
  using T = typename decltype(detail::contiguous(gradient))::element_type;
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                "gradient: float or double, and not const");
  return detail::lpf_gradient<T>(f, std::span<const T>(detail::contiguous(theta)), std::span<T>(to), options);
}

}  // namespace lpf
