// The loss at many perturbed copies of the weights, a few copies a pass, and the low-pass-filter measure of
// sharpness.
#pragma once

#include "lpf/filter/perturbation.hpp"
#include "lpf/sharpness/units.hpp"

namespace lpf::sharpness {

/// A Monte-Carlo value and its standard error.
struct Estimate {
  double value = 0, standard_error = 0;
  std::int64_t draws = 0;
};

/// Inputs and targets whose mean loss is measured.
struct Data {
  Tensor x, y;
};

namespace detail {

/// `t` [N, …] repeated M times along its first axis: every replica sees the whole batch.
inline Tensor repeated(const Tensor& t, std::int64_t M) {
  const Tensor all = expand(unsqueeze(t, 0), t.shape().prepended(M));
  return reshape(all, t.shape().with(0, M * t.size(0)));
}

/// Mean loss over `data` of each replica of a pass. `losses(x, y)` gives the losses of the samples, [B].
template <class Losses>
std::vector<double> losses_of_pass(const ParameterStore& params, const filter::Rows& rows,
                                   const filter::PassOptions& pass, const Data& data, Losses losses) {
  constexpr std::int64_t rows_a_pass = 8192;
  const auto off = no_grad();
  const std::int64_t n = data.x.size(0), step = std::max<std::int64_t>(1, std::min(n, rows_a_pass / pass.M));
  std::vector<double> mean(static_cast<std::size_t>(pass.M), 0.0);
  for (std::int64_t at = 0; at < n; at += step) {
    const Tensor x = slice(data.x, 0, at, at + step), y = slice(data.y, 0, at, at + step);
    const filter::Perturbation scope(params, rows, pass, std::make_shared<bool>());
    const auto part = scope.replica_losses(losses(repeated(x, pass.M), repeated(y, pass.M)));
    for (std::size_t r = 0; r < mean.size(); ++r)
      mean[r] += part[r] * static_cast<double>(x.size(0)) / static_cast<double>(n);
  }
  return mean;
}

}  // namespace detail

/// Mean loss over `data` at θ + each row of offsets [K, size of θ], in evaluation mode: points of a
/// landscape.
template <class Losses>
std::vector<double> losses_at(const ParameterStore& params, const Tensor& offsets, const Data& data,
                              Losses losses, std::int64_t replicas = 8) {
  check(replicas >= 1, "sharpness::losses_at", "replicas must be at least 1, got ", replicas);
  const EvalMode eval(params);
  const filter::Rows rows = unit_rows(params);
  std::vector<double> out;
  for (std::int64_t at = 0; at < offsets.size(0); at += replicas) {
    filter::PassOptions pass{.M = std::min(replicas, offsets.size(0) - at)};
    pass.offsets = slice(offsets, 0, at, at + pass.M);
    const auto part = detail::losses_of_pass(params, rows, pass, data, losses);
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

struct LowPassOptions {
  double sigma = 0.01;  ///< σ, in units of each filter's size if filter_normalize
  std::int64_t draws = 100;
  bool filter_normalize = true;  ///< noise N(0, σ²c²) with c the unit sizes (units.hpp); else N(0, σ²I)
  std::uint64_t seed = 0;        ///< the same seed gives two models of one shape the same noise
  std::int64_t replicas = 8;     ///< draws a pass
};

/// The paper's measure: E_{ε ~ N(0, σ²)} L(θ + ε), the mean loss of the perturbed model over `data`, in
/// evaluation mode. (Bisla et al. 2022, section 3; reference values use σ 0.01, 100 draws.) The standard
/// error is that of the draws.
template <class Losses>
Estimate low_pass(const ParameterStore& params, const Data& data, Losses losses,
                  const LowPassOptions& options = {}) {
  check(options.draws >= 2, "sharpness::low_pass", "at least 2 draws are needed for a standard error, got ",
        options.draws);
  check(options.replicas >= 1, "sharpness::low_pass", "replicas must be at least 1, got ", options.replicas);
  check(options.sigma >= 0, "sharpness::low_pass", "sigma cannot be negative, got ", options.sigma);
  const EvalMode eval(params);
  const filter::Rows rows = unit_rows(params);
  const Tensor size = options.filter_normalize ? unit_sizes(params) : ones_like(params.theta());
  const Tensor scale = affine(at_rows(size, rows), options.sigma, 0);
  double sum = 0, squares = 0;
  for (std::int64_t at = 0; at < options.draws; at += options.replicas) {
    filter::PassOptions pass{.M = std::min(options.replicas, options.draws - at)};
    pass.key = {options.seed, Purpose::measure, static_cast<std::uint64_t>(at), 0, 0};
    pass.scale = scale;
    for (double loss : detail::losses_of_pass(params, rows, pass, data, losses)) {
      sum += loss;
      squares += loss * loss;
    }
  }
  const auto n = static_cast<double>(options.draws);
  const double mean = sum / n, variance = std::max(0.0, (squares - n * mean * mean) / (n - 1));
  return {mean, std::sqrt(variance / n), options.draws};
}

}  // namespace lpf::sharpness
