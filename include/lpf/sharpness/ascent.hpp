// SAM's sharpness (Foret et al. 2021): the largest rise of the loss within a ball,
//
//   max_{‖v‖ ≤ ρ} L(θ + C v) − L(θ)        ρ 0.05, in units of the filters
//
// by projected gradient ascent: v ← Π(v + s·g/‖g‖), g the gradient over all samples at v, Π the projection
// onto the ball, s from ρ/2 down to ρ/20. Several starts share one pass: ρ g/‖g‖ of the gradient at θ, which
// is SAM's own single step, and random points of the sphere. The value is the largest rise found, a lower
// bound of the maximum.
#pragma once

#include "lpf/backend/float64.hpp"
#include "lpf/sharpness/estimate.hpp"
#include "lpf/sharpness/landscape.hpp"

namespace lpf::sharpness {

struct AscentOptions {
  double rho = 0.05;        ///< ρ
  std::int64_t steps = 20;  ///< ascent steps after the start
  std::int64_t starts = 4;  ///< replicas, each an ascent of its own
  std::uint64_t key = 0;    ///< of the random starts
};

struct Ascent {
  Estimate sharpness;
  double first_step = 0;        ///< the rise at SAM's single step
  std::vector<double> highest;  ///< the largest rise of each start
};

namespace detail {
LPF_ONCE void check_ascent(const AscentOptions& o) {
  constexpr const char* op = "sharpness::sam";
  check(o.rho > 0 && std::isfinite(o.rho), op, "rho must be finite and positive, got ", o.rho);
  check(o.steps >= 1 && o.starts >= 1, op, "steps and starts must be at least 1, got ", o.steps, " and ",
        o.starts);
}
}  // namespace detail

LPF_ONCE Ascent sam_sharpness(const Landscape& landscape, const AscentOptions& o = {}) {
  detail::check_ascent(o);
  const auto off = no_grad();
  const double clean = landscape.losses().mean(0);
  const std::int64_t M = o.starts, N = landscape.samples();
  const Tensor v = zeros({M, landscape.size()}, {float64, Device::cpu()});
  for (std::int64_t r = 0; r < M; ++r) {
    Tensor start = r == 0 ? landscape.gradient()
                          : landscape.random_vector(o.key, Stream::ascent, static_cast<std::uint32_t>(r));
    if (detail::norm(start) == 0) start = landscape.random_vector(o.key, Stream::ascent, 0);
    const double length = detail::norm(start);
    check<NumericError>(length > 0, "sharpness::sam", "a start has length ", length,
                        ": the gradient is not finite, or all filters are zero");
    v[r].copy_(detail::scaled(start, o.rho / length));
  }
  Ascent out{
      {}, 0, std::vector<double>(static_cast<std::size_t>(M), -std::numeric_limits<double>::infinity())};
  for (std::int64_t step = 0; step <= o.steps; ++step) {
    const Tensor g = zeros_like(v);
    std::vector<double> loss(static_cast<std::size_t>(M), 0.0);
    const std::int64_t n = std::max<std::int64_t>(1, landscape.options().samples / M);
    landscape.add_in_order(  // ranks share the batches
        pieces_of(N, n), [N](std::int64_t) { return 1.0 / static_cast<double>(N); },
        [&](std::int64_t b, double factor, const Tensor& to) {
          return landscape.add_gradients(v, landscape.copies(b * n, std::min(n, N - b * n), M), factor, to)
              .to_vector();
        },
        g,
        [&](std::int64_t, const Ranks::Numbers& found) {
          const std::size_t length = found.size() / static_cast<std::size_t>(M);
          for (std::size_t i = 0; i < found.size(); ++i)
            loss[i / length] += found[i] / static_cast<double>(N);
        });
    const double rate = o.rho / 2 * std::pow(0.1, static_cast<double>(step) / static_cast<double>(o.steps));
    for (std::int64_t r = 0; r < M; ++r) {
      const auto i = static_cast<std::size_t>(r);
      if (step == 0 && r == 0) out.first_step = loss[i] - clean;
      out.highest[i] = std::max(out.highest[i], loss[i] - clean);
      const double length = detail::norm(g[r]);
      if (!(length > 0) || !std::isfinite(length)) continue;
      detail::add_scaled(rate / length, g[r], v[r]);
      const double distance = detail::norm(v[r]);
      if (distance > o.rho) v[r].copy_(detail::scaled(v[r], o.rho / distance));
    }
  }
  out.sharpness.value = *std::max_element(out.highest.begin(), out.highest.end());
  return out;
}

}  // namespace lpf::sharpness
