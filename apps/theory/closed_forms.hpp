// The closed forms that the program `theory` is held against; docs/theory.md derives them. Plain numbers, no tensors.
// A smoothed function is f_σ(x) = E f(x + σε), ε ~ N(0, 1).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <lpf/core/error.hpp>
#include <numbers>

namespace theory {

inline constexpr double infinity = std::numeric_limits<double>::infinity();

inline double normal_density(double z) { return std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi); }
inline double normal_cdf(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }

/// Value and first two derivatives of a function of one number.
struct Jet {
  double value, slope, curvature;
};

inline void check_sigma(const char* name, double sigma) {
  lpf::check(std::isfinite(sigma) && sigma >= 0, name, "sigma must be finite and not negative, got ", sigma);
}

/// |x| smoothed: x·erf(x/(σ√2)) + 2σφ(x/σ), slope erf(x/(σ√2)), curvature 2φ(x/σ)/σ. With σ = 0 it is |x|, whose
/// curvature at 0 is infinite.
inline Jet smoothed_abs(double x, double sigma) {
  check_sigma("smoothed_abs", sigma);
  if (sigma == 0) return {std::abs(x), x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0, x == 0 ? infinity : 0};
  const double z = x / sigma, slope = std::erf(z / std::numbers::sqrt2);
  return {x * slope + 2 * sigma * normal_density(z), slope, 2 * normal_density(z) / sigma};
}

/// max(0, x) smoothed: xΦ(x/σ) + σφ(x/σ), slope Φ(x/σ), curvature φ(x/σ)/σ. With σ = 0 the slope at 0 is ½, the limit.
inline Jet smoothed_relu(double x, double sigma) {
  check_sigma("smoothed_relu", sigma);
  if (sigma == 0) return {std::max(x, 0.0), x > 0 ? 1.0 : x < 0 ? 0.0 : 0.5, x == 0 ? infinity : 0};
  const double z = x / sigma;
  return {x * normal_cdf(z) + sigma * normal_density(z), normal_cdf(z), normal_density(z) / sigma};
}

/// cos(ωx + φ) smoothed: e^(−ω²σ²/2)·cos(ωx + φ).
inline Jet smoothed_cos(double x, double omega, double phase, double sigma) {
  check_sigma("smoothed_cos", sigma);
  const double factor = std::exp(-omega * omega * sigma * sigma / 2), at = omega * x + phase;
  return {factor * std::cos(at), -factor * omega * std::sin(at), -factor * omega * omega * std::cos(at)};
}

/// The largest curvature that Gaussian smoothing can leave of a function with Lipschitz constant L: √(2/π)·L/σ, which
/// |x| attains.
inline double sharp_smoothness(double lipschitz, double sigma) {
  return std::sqrt(2 / std::numbers::pi) * lipschitz / sigma;
}
/// The theorem's smoothness of a smoothed function: min{L/σ, β}; β where σ is 0.
inline double smoothness_bound(double lipschitz, double beta, double sigma) {
  check_sigma("smoothness_bound", sigma);
  lpf::check(lipschitz >= 0 && beta >= 0, "smoothness_bound", "L and beta must not be negative, got ",
             lipschitz, " and ", beta);
  return sigma == 0 ? beta : std::min(lipschitz / sigma, beta);
}

/// The most by which a convex function with Lipschitz constant L in d dimensions is exceeded by its smoothed form: Lσ√d.
inline double excess_bound(double lipschitz, double sigma, double dimension) {
  return lipschitz * sigma * std::sqrt(dimension);
}

/// The tilted landscape of one coordinate: g(x) = x²/2 − A·cos(ωx + φ), whose smoothed form is
/// (x² + σ²)/2 − A·e^(−ω²σ²/2)·cos(ωx + φ).
struct TiltedWell {
  double amplitude = 0.5, omega = 5, phase = 1;

  Jet at(double x, double sigma) const {
    const Jet wave = smoothed_cos(x, omega, phase, sigma);
    return {(x * x + sigma * sigma) / 2 - amplitude * wave.value, x - amplitude * wave.slope,
            1 - amplitude * wave.curvature};
  }
  /// The smallest σ from which on the smoothed form is convex: Aω²e^(−ω²σ²/2) = 1. 0 if it always is.
  double convex_from() const {
    const double ratio = amplitude * omega * omega;
    return ratio <= 1 ? 0 : std::sqrt(2 * std::log(ratio)) / omega;
  }
  /// The minimum of the smoothed form that gradient descent with small steps reaches from x.
  double descend(double x, double sigma) const {
    const double step = 1 / (1 + amplitude * omega * omega);
    for (int i = 0; i < 100000; ++i) {
      const double move = step * at(x, sigma).slope;
      x -= move;
      if (std::abs(move) < 1e-15) break;
    }
    return x;
  }
  /// The global minimum of g: the best of the minima that are reached from a grid.
  double minimum() const {
    const double reach = std::sqrt(4 * amplitude) + 1;  // beyond it x²/2 exceeds all that the cosine can give
    double best = descend(0, 0);
    for (double x = -reach; x <= reach; x += std::numbers::pi / (4 * omega)) {
      const double found = descend(x, 0);
      if (at(found, 0).value < at(best, 0).value) best = found;
    }
    return best;
  }
};

/// E sin u and E sin² u for u ~ N(μ, τ²).
inline double mean_sine(double mu, double tau) { return std::exp(-tau * tau / 2) * std::sin(mu); }
inline double mean_squared_sine(double mu, double tau) {
  return (1 - std::exp(-2 * tau * tau) * std::cos(2 * mu)) / 2;
}

/// The bound of Hardt, Recht and Singer (2016, theorem 3.12) on the generalisation gap of SGD with steps at most c/t on
/// n examples for T updates, and a loss in [0, 1] that is L-Lipschitz and β-smooth:
///   (1 + 1/(βc))/(n − 1) · (2cL²)^(1/(βc+1)) · T^(βc/(βc+1))
/// βc = 0 has no bound of this form (infinite); βc = ∞ leaves T/(n − 1).
inline double stability_bound(double lipschitz, double beta, double c, double n, double updates) {
  lpf::check(n > 1 && updates >= 1 && c >= 0 && lipschitz >= 0 && beta >= 0, "stability_bound",
             "needs n > 1, T >= 1 and no negative constants, got n ", n, ", T ", updates, ", c ", c, ", L ",
             lipschitz, ", beta ", beta);
  const double bc = beta * c;
  if (bc == 0) return infinity;
  const double p = std::isinf(bc) ? 0 : 1 / (bc + 1), base = 2 * c * lipschitz * lipschitz;
  return (1 + 1 / bc) / (n - 1) * std::pow(base, p) * std::pow(updates, 1 - p);
}

/// Bound of LPF-SGD over bound of SGD: (1 − p)/(1 − p̂)·(2cL²/T)^(p̂ − p), p = 1/(βc + 1), p̂ with min{L/σ, β} for β.
inline double stability_ratio(double lipschitz, double beta, double sigma, double c, double updates) {
  const double smooth = smoothness_bound(lipschitz, beta, sigma);
  const double p = 1 / (beta * c + 1), q = 1 / (smooth * c + 1);
  return (1 - p) / (1 - q) * std::pow(2 * c * lipschitz * lipschitz / updates, q - p);
}

}  // namespace theory
