// The paper's sharpness measure (Bisla, Wang, Choromanska 2022, section 3): the loss
// convolved with a Gaussian,
//
//   LPF = E_{ε ~ N(0, σ²I)} L(θ + ε)        σ 0.01, 100 draws, after filter normalisation
//
// that is, E L(θ + σ C ε) with C the sizes of the units. On a quadratic with Hessian H it is L + σ²/2
// tr(CHC). The noise of a filter of n weights is √n σ times as long as the filter: a wide layer gets more of
// it than a narrow one. low_pass_fan_in() has the deviation σ/√n in each layer instead. Also the losses at
// arbitrary points of the landscape.
#pragma once

#include "lpf/sharpness/blocks.hpp"
#include "lpf/sharpness/estimate.hpp"
#include "lpf/sharpness/landscape.hpp"

namespace lpf::sharpness {

/// The number of random draws of a measure, and their key.
struct Draws {
  std::int64_t draws = 100;
  std::uint64_t key = 0;  ///< the same key gives two models of one shape the same noise
  Until until = {};
};

namespace detail {

/// E L(θ + s ⊙ ε) with s the deviation of each row, with the errors of the draws and of the data.
LPF_ONCE Estimate mean_loss(const Landscape& landscape, const Tensor& deviations, const Draws& draws) {
  std::vector<double> per_draw, sums(static_cast<std::size_t>(landscape.samples()), 0.0);
  const auto now = [&] {
    double value = 0;
    for (const double loss : per_draw) value += loss / static_cast<double>(per_draw.size());
    std::vector<double> per_sample = sums;
    for (double& s : per_sample) s /= static_cast<double>(per_draw.size());
    return estimate_of(value, per_draw, std::move(per_sample), draws.until.relative_error);
  };
  const auto more = [&](std::int64_t first, std::int64_t count) {
    landscape.each_pass(draws.key, first, count, deviations, [&](std::int64_t, const ReplicaLosses& losses) {
      for (std::int64_t r = 0; r < losses.M; ++r) {
        per_draw.push_back(losses.mean(r));
        for (std::int64_t i = 0; i < losses.N; ++i) sums[static_cast<std::size_t>(i)] += losses.at(r, i);
      }
    });
  };
  draw_until(draws.draws, draws.until, landscape.options().replicas, more, now);
  return now();
}

}  // namespace detail

namespace detail {
LPF_ONCE void check_low_pass(double sigma, const Draws& draws,
                             const char* operation = "sharpness::low_pass") {
  check_draws(operation, draws.draws, draws.until);
  check(sigma >= 0 && std::isfinite(sigma), operation, "sigma must be finite and not negative, got ", sigma);
}
}  // namespace detail

/// LPF. @throws ValueError for a negative σ, or fewer than 2 draws.
LPF_ONCE Estimate low_pass(const Landscape& landscape, double sigma = 0.01, const Draws& draws = {}) {
  detail::check_low_pass(sigma, draws);
  return detail::mean_loss(landscape, landscape.scale(sigma), draws);
}

/// LPF with σ/√n in each layer, n its fan-in (Coordinates::fan_in_scale): E L(θ + σ C ε/√n). @throws as low_pass.
LPF_ONCE Estimate low_pass_fan_in(const Landscape& landscape, double sigma = 0.1, const Draws& draws = {}) {
  detail::check_low_pass(sigma, draws, "sharpness::low_pass_fan_in");
  return detail::mean_loss(landscape, landscape.fan_in_scale(sigma), draws);
}

/// The increase of the loss by noise on one block alone, E L(θ + σ C ε_b) − L(θ), for each block from `draws`
/// draws of the noise that the whole measure has there.
LPF_ONCE std::vector<BlockValue> low_pass_blocks(const Landscape& landscape, const std::vector<Block>& blocks,
                                                 double sigma = 0.01, const Draws& draws = {}) {
  detail::check_draws("sharpness::low_pass_blocks", draws.draws, draws.until);
  const double clean = landscape.losses().mean(0);
  std::vector<BlockValue> out;
  for (const Block& block : blocks) {
    filter::Segments rows = landscape.rows();
    std::vector<backend::Segment> own;
    for (std::size_t p = 0; p < rows.segment_of.size(); ++p) {
      std::int64_t& segment = rows.segment_of[p];
      if (std::find(block.parameters.begin(), block.parameters.end(), p) == block.parameters.end())
        segment = -1;
      if (segment < 0) continue;
      own.push_back(rows.segments[static_cast<std::size_t>(segment)]);
      segment = std::ssize(own) - 1;
    }
    rows.segments = own;
    if (own.empty()) continue;
    std::vector<double> rise;
    landscape.each_pass(draws.key, 0, draws.draws, landscape.scale(sigma), rows,
                        [&](std::int64_t, const ReplicaLosses& losses) {
                          for (std::int64_t r = 0; r < losses.M; ++r) rise.push_back(losses.mean(r) - clean);
                        });
    const MeanError found = mean_error(rise);
    out.push_back({block.name, found.mean, std::sqrt(found.squared)});
  }
  return out;
}

struct LowPassOptions {
  double sigma = 0.01;  ///< σ, in units of each filter's size if filter_normalize
  std::int64_t draws = 100;
  bool filter_normalize = true;  ///< noise N(0, σ²c²) with c the unit sizes (units.hpp); else N(0, σ²I)
  bool fan_in = false;        ///< the variance divided by the fan-in of the layer; then σ 0.1 is customary
  std::uint64_t seed = 0;     ///< the same seed gives two models of one shape the same noise
  std::int64_t replicas = 8;  ///< draws per pass
};

/// The same for losses(x, y), the losses of the samples, [B].
LPF_ONCE Estimate low_pass(const ParameterStore& params, const Data& data, Landscape::Losses losses,
                           const LowPassOptions& options = {}) {
  const Landscape landscape(params, data, std::move(losses), {options.filter_normalize, options.replicas, 0});
  const Draws draws{.draws = options.draws, .key = options.seed};
  return options.fan_in ? low_pass_fan_in(landscape, options.sigma, draws)
                        : low_pass(landscape, options.sigma, draws);
}

/// Mean loss over `data` at θ + each row of offsets [K, size of θ], in evaluation mode:
/// points of a landscape.
LPF_ONCE std::vector<double> losses_at(const ParameterStore& params, const Tensor& offsets, const Data& data,
                                       Landscape::Losses losses, std::int64_t replicas = 8) {
  const Landscape landscape(params, data, std::move(losses), {false, replicas, 0});
  std::vector<double> out;
  for (std::int64_t at = 0; at < offsets.size(0); at += replicas) {
    filter::PassOptions pass{.M = std::min(replicas, offsets.size(0) - at)};
    pass.perturbations = slice(offsets, 0, at, at + pass.M);
    const ReplicaLosses found = landscape.losses(pass);
    for (std::int64_t r = 0; r < pass.M; ++r) out.push_back(found.mean(r));
  }
  return out;
}

}  // namespace lpf::sharpness
