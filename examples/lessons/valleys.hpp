// The loss of lesson 1: a function of one weight θ with a wide valley at 2 and a narrow, deeper one at −1,
//
//   L(θ) = a/2·(θ − 2)² − h·exp(−(θ + 1)²/(2w²))        a = 1/2, h = 3, w = 0.15
//
// and what a Gaussian of deviation σ makes of it, E L(θ + σε), ε ~ N(0, 1): the parabola rises by aσ²/2, and the
// narrow valley, itself a Gaussian, keeps its area and gets the width √(w² + σ²).
#pragma once

#include <cmath>
#include <vector>

namespace valleys {

constexpr double wide_at = 2, narrow_at = -1, a = 0.5, h = 3, w = 0.15;

/// The loss, smoothed if σ > 0.
inline double loss(double theta, double sigma = 0) {
  const double x = theta - wide_at, y = theta - narrow_at, width = std::hypot(w, sigma);
  return a / 2 * (x * x + sigma * sigma) - h * w / width * std::exp(-y * y / (2 * width * width));
}

/// Its derivative.
inline double slope(double theta, double sigma = 0) {
  const double x = theta - wide_at, y = theta - narrow_at, width = std::hypot(w, sigma);
  return a * x + h * w * y / (width * width * width) * std::exp(-y * y / (2 * width * width));
}

/// Where the loss has a minimum, to a thousandth.
inline std::vector<double> minima(double sigma = 0) {
  std::vector<double> out;
  for (int i = -3000; i < 5000; ++i)
    if (slope(i / 1000.0, sigma) < 0 && slope((i + 1) / 1000.0, sigma) >= 0) out.push_back(i / 1000.0);
  return out;
}

}  // namespace valleys
