// Root of a function that starts negative: its first crossing on a growing grid, then refined. Used
// by ε-sharpness and PAC-Bayes. The function is deterministic (its noise is fixed), so that the
// root is well defined.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lpf/core/error.hpp"

namespace lpf::sharpness {

struct Root {
  double x = 0, slope = 0;  ///< slope of the function there, from its secant
  int evaluations = 0;
};

struct RootOptions {
  double first = 1;         ///< start of the grid, which goes down from there if the function is positive
  double factor = 4;        ///< ratio of neighbouring grid points
  double limit = 1e30;      ///< upper limit of the search
  double tolerance = 1e-4;  ///< relative width of the root's final interval; the root is on its secant
  int at_once = 1;          ///< points per call of the function
};

/// f(points) returns the values at points > 0; NaN counts as positive. The root is the first crossing from
/// below on the grid. @throws NumericError if there is none up to `limit`.
template <class F>
Root first_crossing(const char* operation, F f, const RootOptions& o) {
  struct Point {
    double x, y;
  };
  Root out;
  const auto values = [&](const std::vector<double>& xs) {
    out.evaluations += static_cast<int>(xs.size());
    std::vector<Point> points;
    const std::vector<double> ys = f(xs);
    for (std::size_t i = 0; i < xs.size(); ++i)
      points.push_back({xs[i], std::isnan(ys[i]) ? std::numeric_limits<double>::infinity() : ys[i]});
    return points;
  };
  Point low{0, 0}, high{0, 0};
  bool has_low = false, has_high = false;
  double start = o.first;
  for (int round = 0; !has_low || !has_high; ++round) {
    check<NumericError>(start <= o.limit && round < 200, operation,
                        "the loss does not rise by the wanted amount up to ", o.limit,
                        " in units of the filters: there is no root");
    std::vector<double> grid;
    for (int k = 0; k < o.at_once; ++k)
      grid.push_back(start * std::pow(o.factor, has_high ? k - o.at_once : k));
    for (const Point& p : values(grid)) {
      if (p.y < 0 && !(has_high && p.x > high.x)) low = p, has_low = true;
      if (p.y >= 0 && (!has_high || p.x < high.x)) high = p, has_high = true;
      if (has_low && has_high && low.x < high.x) break;
    }
    if (has_high && !has_low) {  // too far: go down
      check<NumericError>(high.x > 1e-30, operation,
                          "the loss rises at once, however near: are the weights finite?");
      start = high.x;
    } else {
      start = grid.back() * o.factor;
    }
  }
  // Narrow the interval: several points at equal ratios, or the secant's root by the Illinois method (Dowell
  // & Jarratt 1971): an end that is unchanged twice counts half, so that both ends move.
  double weight_low = 1, weight_high = 1;
  int last = 0;
  for (int round = 0; high.x / low.x - 1 > o.tolerance && round < 200; ++round) {
    const bool secant = o.at_once == 1 && std::isfinite(high.y);
    const double fl = low.y * weight_low, fh = high.y * weight_high, ratio = high.x / low.x;
    std::vector<double> inside;
    if (secant) {
      const double share = -fl / (fh - fl);
      inside.push_back(low.x + (high.x - low.x) * std::clamp(share, 1e-3, 1 - 1e-3));
    } else {
      for (int k = 1; k <= o.at_once; ++k)
        inside.push_back(low.x * std::pow(ratio, static_cast<double>(k) / (o.at_once + 1)));
    }
    for (const Point& p : values(inside)) {
      (p.y >= 0 ? high : low) = p;
      const int side = p.y >= 0 ? 1 : -1;
      const bool again = side == last;
      weight_low = side < 0 ? 1 : again ? weight_low / 2 : weight_low;
      weight_high = side > 0 ? 1 : again ? weight_high / 2 : weight_high;
      last = side;
      if (side > 0) break;
    }
  }
  check<NumericError>(std::isfinite(high.y), operation, "the loss jumps to infinity at ", high.x,
                      " in units of the filters: there is no root");
  out.slope = (high.y - low.y) / (high.x - low.x);
  out.x = low.x - low.y / out.slope;
  return out;
}

}  // namespace lpf::sharpness
