// The loss on a line or a plane through θ, and the same after the low-pass filter:
//
//   L(θ + x·u + y·v)          E_{ε ~ N(0, σ²)} L(θ + x·u + y·v + C ε)
//
// The points are replicas of one pass with stored offsets, LandscapeOptions::replicas at a time (that many
// copies of θ in memory). Smoothing adds the same draws ε, in units of the filters (units.hpp), at every
// point, so that the smoothed surface is smooth. The model is not changed.
//
//   const Landscape landscape(params, {x, y}, losses, {.replicas = 16});
//   const Surface s = surface(landscape, {random_direction(landscape, 1), random_direction(landscape, 2)});
#pragma once

#include "lpf/backend/float64.hpp"
#include "lpf/sharpness/landscape.hpp"
#include "lpf/sharpness/plane.hpp"

namespace lpf::sharpness {

/// The axes of a cut, vectors of θ's layout (plane.hpp); v undefined: a line.
struct Plane {
  Tensor u, v = {};
};

/// `points` positions from low to high, inclusive.
struct Range {
  double low = -1, high = 1;
  std::int64_t points = 51;

  LPF_ONCE std::vector<double> positions() const {
    std::vector<double> out;
    for (std::int64_t i = 0; i < points; ++i)
      out.push_back(
          points == 1 ? low : low + (high - low) * static_cast<double>(i) / static_cast<double>(points - 1));
    return out;
  }
};

struct SurfaceOptions {
  Range x = {}, y = {};     ///< y is unused for a line
  double sigma = 0;         ///< of the filter, in units of the filters' sizes; 0: the loss itself
  std::int64_t draws = 16;  ///< of ε, where σ > 0
  std::uint64_t key = 0;    ///< of ε
  std::function<void(std::size_t done, std::size_t total)> progress = {};  ///< after each pass
};

struct Surface {
  std::vector<double> x = {}, y = {};  ///< positions; a line has y = {0}
  std::vector<double> loss = {};       ///< [y, x]
  double sigma = 0;

  double at(std::size_t iy, std::size_t ix) const { return loss[iy * x.size() + ix]; }
};

/// The mean loss over the landscape's data at every point. @throws ShapeError for a direction that is not a
/// float64 vector of θ's length; ValueError for options out of range.
LPF_ONCE Surface surface(const Landscape& landscape, const Plane& plane, const SurfaceOptions& options = {}) {
  constexpr const char* op = "sharpness::surface";
  const auto off = no_grad();
  const std::int64_t size = landscape.size();
  check<ShapeError>(plane.u.defined(), op, "the first direction is not defined");
  for (const Tensor& direction : {plane.u, plane.v})
    check<ShapeError>(
        !direction.defined() || (direction.shape() == Shape{size} && direction.dtype() == float64), op,
        "a direction is a float64 vector of shape [", size, "], as plane.hpp makes them");
  for (const Range& r : {options.x, options.y})
    check(r.points >= 1 && std::isfinite(r.low) && std::isfinite(r.high), op,
          "a range needs a point and finite ends, got ", r.points, " from ", r.low, " to ", r.high);
  check(options.sigma >= 0 && std::isfinite(options.sigma) && (options.sigma == 0 || options.draws >= 1), op,
        "sigma must be finite and not negative, and draws positive, got ", options.sigma, " and ",
        options.draws);

  Surface out{.x = options.x.positions(), .sigma = options.sigma};
  out.y = plane.v.defined() ? options.y.positions() : std::vector<double>{0};
  std::vector<Tensor> noise;  // σ C ε of each draw; one undefined tensor if there is no noise
  for (std::int64_t k = 0; k < (options.sigma > 0 ? options.draws : 0); ++k)
    noise.push_back(mul(detail::scaled(landscape.random_vector(options.key, static_cast<Stream>(0xFFFFFFF8),
                                                               static_cast<std::uint32_t>(k)),
                                       options.sigma),
                        landscape.units()));
  if (noise.empty()) noise.emplace_back();

  const std::size_t points = out.x.size() * out.y.size(), total = points * noise.size();
  const auto replicas = static_cast<std::size_t>(landscape.options().replicas);
  const DType dtype = landscape.params().dtype();
  const Tensor offsets = empty({landscape.options().replicas, size}, {dtype, Device::cpu()});
  const auto fill = [&](std::size_t row, std::size_t job) {  // job: a point and a draw
    const std::size_t point = job / noise.size(), draw = job % noise.size();
    const double x = out.x[point % out.x.size()], y = out.y[point / out.x.size()];
    const double* u = plane.u.data<double>();
    const double* v = plane.v.defined() ? plane.v.data<double>() : nullptr;
    const double* e = noise[draw].defined() ? noise[draw].data<double>() : nullptr;
    visit_floating(op, dtype, [&]<class T>(T) {
      T* to = offsets.data<T>() + static_cast<std::int64_t>(row) * size;
      for (std::int64_t i = 0; i < size; ++i) {
        double at = x * u[i];
        if (v) at += y * v[i];
        if (e) at += e[i];
        to[i] = static_cast<T>(at);
      }
    });
  };
  out.loss.assign(points, 0.0);
  const auto first_of = [&](std::int64_t pass) { return static_cast<std::size_t>(pass) * replicas; };
  const auto means = [&](std::int64_t number) {
    const std::size_t first = first_of(number), count = std::min(replicas, total - first);
    for (std::size_t r = 0; r < count; ++r) fill(r, first + r);
    filter::PassOptions pass{.M = static_cast<std::int64_t>(count)};
    pass.perturbations = slice(offsets, 0, 0, pass.M).to(landscape.params().device());
    const ReplicaLosses losses = landscape.own_losses(pass, landscape.rows());
    Ranks::Numbers found;
    for (std::int64_t r = 0; r < pass.M; ++r) found.push_back(losses.mean(r));
    return found;
  };
  const auto add = [&](std::int64_t number, const Ranks::Numbers& found) {
    const std::size_t first = first_of(number);
    for (std::size_t r = 0; r < found.size(); ++r)
      out.loss[(first + r) / noise.size()] += found[r] / static_cast<double>(noise.size());
    if (options.progress) options.progress(first + found.size(), total);
  };
  landscape.ranks().in_order(pieces_of(static_cast<std::int64_t>(total), landscape.options().replicas), means,
                             add);
  return out;
}

}  // namespace lpf::sharpness
