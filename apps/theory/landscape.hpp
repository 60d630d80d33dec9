// (b) A tilted landscape with many minima: L(θ) = Σ_i g(z_i), z = Qθ with a reflection Q, g a quadratic plus a cosine
// (TiltedWell). Gaussian noise does not see Q, so the smoothed loss is closed too.
#pragma once

#include "pass.hpp"

namespace theory {

/// σ over training: constant, or shrinking geometrically from `first` to `last`.
struct Shrinking {
  std::string name;
  double first, last;
  double at(double progress) const {
    return first == last ? first : first * std::pow(last / first, std::min(1.0, progress));
  }
};
inline std::vector<Shrinking> shrinking_schedules() {
  return {{"σ = 0 (SGD)", 0, 0}, {"σ = .05", .05, .05}, {"σ = .6", .6, .6}, {"σ from .6 to .01", .6, .01}};
}

struct Descent {
  std::int64_t runs = 50, dimensions = 1, steps = 1000, M = 8;
  double lr = .02;
  std::uint64_t seed = 0;
};

/// z = Qθ for a reflection Q = I − 2vvᵀ of d dimensions, v = (1, …, 1)/√d; in one dimension z = θ.
inline Tensor reflected(const Tensor& theta) {
  const std::int64_t d = theta.shape()[theta.rank() - 1];
  if (d == 1) return theta;
  return sub(theta, affine(mean(theta, {theta.rank() - 1}, true), 2, 0));
}

struct DescentResult {
  std::vector<double>
      distance;  ///< of each run's last point from the global minimum, in root mean square a coordinate
  std::vector<double> rise;         ///< of its loss over the global minimum, a coordinate
  std::vector<double> mean_z;       ///< mean coordinate of each run's last point
  double found = 0;                 ///< the share of coordinates in the well of the global minimum
  std::vector<double> time, curve;  ///< mean distance over the steps
};

/// Starting points z [runs, d], uniform in [−3, 3].
inline Tensor starting_points(const Descent& o) {
  return affine(rand({o.runs, o.dimensions}, {.seed = o.seed, .purpose = Purpose::user, .draw = 77}, doubles),
                6, -3);
}

namespace detail {
inline void record(DescentResult& r, const TiltedWell& well, const Tensor& z, double minimum, double time,
                   bool last) {
  const std::int64_t runs = z.size(0), d = z.size(1);
  const auto at = z.to_vector<double>();
  double mean_distance = 0;
  for (std::int64_t k = 0; k < runs; ++k) {
    double squares = 0, rise = 0, sum = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      const double x = at[static_cast<std::size_t>(k * d + i)], n = static_cast<double>(d);
      squares += (x - minimum) * (x - minimum) / n;
      rise += (well.at(x, 0).value - well.at(minimum, 0).value) / n;
      sum += x / n;
      const bool home = std::abs(x - minimum) < std::numbers::pi / well.omega;
      if (last) r.found += home ? 1 / static_cast<double>(runs * d) : 0;
    }
    mean_distance += std::sqrt(squares) / static_cast<double>(runs);
    if (!last) continue;
    r.distance.push_back(std::sqrt(squares));
    r.rise.push_back(rise);
    r.mean_z.push_back(sum);
  }
  r.time.push_back(time);
  r.curve.push_back(mean_distance);
}
}  // namespace detail

/// The learning rate: constant for half of the steps, then linearly to 0, so that the noise of the steps dies out.
inline double descent_rate(const Descent& o, std::int64_t t) {
  const double progress = static_cast<double>(t) / static_cast<double>(o.steps);
  return o.lr * std::min(1.0, 2 * (1 - progress));
}

/// SGD on the smoothed loss with M draws a step, for all runs at once: the loss is the sum over runs.
inline DescentResult descend(const TiltedWell& well, const Shrinking& schedule, const Descent& o) {
  const Point point(reflected(starting_points(o)));
  optim::SGD optimizer(point.params, {.lr = 1});
  optimizer.set_schedule([o](std::uint64_t t) { return descent_rate(o, static_cast<std::int64_t>(t)); });
  DescentResult out;
  const double minimum = well.minimum();
  for (std::int64_t t = 0; t <= o.steps; ++t) {
    const double progress = static_cast<double>(t) / static_cast<double>(o.steps);
    if (t % std::max<std::int64_t>(1, o.steps / 100) == 0 || t == o.steps)
      detail::record(out, well, reflected(point.value()), minimum, static_cast<double>(t), t == o.steps);
    if (t == o.steps) break;
    const double sigma = schedule.at(progress);
    const auto scope = isotropic_pass(point.params, sigma, noise_key(o.seed, static_cast<std::uint64_t>(t)),
                                      sigma == 0 ? 1 : o.M);
    const Tensor z = reflected(point.read(scope.M()));
    const Tensor g =
        sub(affine(square(z), .5, 0), affine(cos(affine(z, well.omega, well.phase)), well.amplitude, 0));
    mean(sum(g, {1, 2})).backward();
    optimizer.step();
  }
  return out;
}

/// Gradient descent on the closed smoothed form from the same points, by the same learning rates.
inline DescentResult descend_closed(const TiltedWell& well, const Shrinking& schedule, const Descent& o) {
  std::vector<double> z = starting_points(o).to_vector<double>();
  for (std::int64_t t = 0; t < o.steps; ++t) {
    const double sigma = schedule.at(static_cast<double>(t) / static_cast<double>(o.steps));
    for (double& x : z) x -= descent_rate(o, t) * well.at(x, sigma).slope;
  }
  DescentResult out;
  detail::record(out, well, from_vector(z, {o.runs, o.dimensions}), well.minimum(), 0, true);
  return out;
}

inline Section landscape(const Settings& s) {
  const TiltedWell well;
  Section out{"landscape", "A tilted landscape",
              concat("g(z) = z²/2 − ", well.amplitude, " cos(", well.omega, "z + ", well.phase,
                     "), global minimum at ", format_fixed(well.minimum(), 4),
                     "; its smoothed form is convex from σ = ", format_fixed(well.convex_from(), 3), " on.")};
  TextTable table({"dimensions", "σ", "in the best well", "closed", "distance to the minimum", "closed",
                   "difference", "loss above it", "closed"});
  double farthest = 0;  // from the closed form, in standard errors
  for (const std::int64_t d : {1, 10}) {
    std::vector<plot::Series> lines;
    std::pair<double, std::string> nearest{infinity, ""}, plain{infinity, ""};
    for (const Shrinking& schedule : shrinking_schedules()) {
      const Descent o{.runs = s.size(d == 1 ? 200 : 40, 10),
                      .dimensions = d,
                      .steps = s.size(1000, 100),
                      .lr = s.quick ? .06 : .02,
                      .seed = s.seed};
      const DescentResult run = descend(well, schedule, o), closed = descend_closed(well, schedule, o);
      std::vector<double> difference;
      for (std::size_t k = 0; k < run.distance.size(); ++k)
        difference.push_back(run.distance[k] - closed.distance[k]);
      table.add_row({concat(d), schedule.name, format_fixed(run.found, 3), format_fixed(closed.found, 3),
                     format(measured(run.distance)), format_fixed(measured(closed.distance).value, 4),
                     format(measured(difference)), format(measured(run.rise)),
                     format_fixed(measured(closed.rise).value, 4)});
      out.records.push_back({{"dimensions", d},
                             {"sigma", schedule.name},
                             {"runs", o.runs},
                             {"found", run.found},
                             {"distance", measured(run.distance).value},
                             {"error", measured(run.distance).error},
                             {"closed", measured(closed.distance).value},
                             {"rise", measured(run.rise).value},
                             {"closed_rise", measured(closed.rise).value}});
      const int k = static_cast<int>(lines.size());
      lines.push_back({.name = schedule.name,
                       .x = run.time,
                       .y = run.curve,
                       .color = k == 0 ? plot::method_color("sgd")
                                       : plot::detail::patterned(plot::method_color("lpf-sgd"), k - 1)});
      const Measured off = measured(difference);
      if (off.error > 0) farthest = std::max(farthest, std::abs(off.value) / off.error);
      const std::pair<double, std::string> end{measured(run.distance).value, schedule.name};
      nearest = std::min(nearest, end);
      if (schedule.at(0) == 0) plain = end;
      s.step();
    }
    out.result += concat("In ", d, d == 1 ? " dimension " : " dimensions ", nearest.second,
                         " ends nearest to the global minimum: ", format_general(nearest.first, 2),
                         " a coordinate away, ", plain.second, " ", format_general(plain.first, 2), ". ");
    out.pictures.push_back(
        {concat("landscape-", d),
         plot::line_chart(lines, {.title = concat("Distance to the global minimum, ", d,
                                                  d == 1 ? " dimension" : " dimensions"),
                                  .x = {.title = "step"},
                                  .y = {.title = "distance a coordinate", .scale = plot::Scale::log}}),
         "Mean over the runs."});
  }
  out.result +=
      concat("Noisy and closed descent differ by ", format_fixed(farthest, 1), " standard errors at most.");
  out.tables.emplace_back(
      "Last points of SGD with 8 draws a step, and of gradient descent on the closed form; ± is the standard "
      "error over "
      "the runs",
      table);
  std::vector<plot::Series> shapes;
  for (const double sigma : {0.0, .2, .4, .6}) {
    plot::Series line{.name = concat("σ = ", format_general(sigma))};
    for (double x = -3; x <= 3.001; x += .02) line.x.push_back(x), line.y.push_back(well.at(x, sigma).value);
    shapes.push_back(line);
  }
  out.pictures.push_back({"landscape-shape",
                          plot::line_chart(shapes, {.title = "The landscape and its smoothed forms",
                                                    .x = {.title = "z"},
                                                    .y = {.title = "g smoothed"}}),
                          "Closed forms."});
  return out;
}

}  // namespace theory
