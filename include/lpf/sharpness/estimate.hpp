// The result of a measure: a value with the standard error of its random draws, the error due to the data,
// and the number of draws these errors suggest.
//
// A loss that depends on draw r and sample i varies over both. With ψ_r the value from draw r alone (all
// samples) and χ_i the value from sample i alone (all draws):
//   standard error of the draws   sd(ψ)/√R     falls with the number of draws R
//   error of the data             sd(χ)/√N     change of the value for another data set of N samples
// More draws are useless once the first is small compared with the second.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/host_device.hpp"

namespace lpf::sharpness {

/// The part of a measure that belongs to one block of parameters (blocks.hpp).
struct BlockValue {
  std::string name;
  double value = 0, standard_error = 0;
};

/// A Monte-Carlo value and its standard error.
struct Estimate {
  double value = 0, standard_error = 0;  ///< an exact value has error 0
  std::int64_t draws = 0;                ///< 0: a deterministic measure
  /// Standard error of the data as a sample of the population; NaN where it is not estimated.
  double data_error = std::numeric_limits<double>::quiet_NaN();
  /// The smallest number of draws whose variance is a tenth of the data's, or which reaches the requested
  /// relative error (5 % if none was), whichever is less; 0 for an exact value, and where it cannot be told (NaN).
  std::int64_t advised_draws = 0;
  std::vector<BlockValue> blocks = {};
  std::vector<double> per_draw = {};    ///< ψ_r; for a function of a mean, its linearisation
  std::vector<double> per_sample = {};  ///< χ_i, where available
};

/// A curve over x with standard errors.
struct Curve {
  std::vector<double> x = {}, y = {}, standard_error = {};
};

/// When to stop drawing.
struct Until {
  double relative_error = 0;       ///< draw until standard error ≤ this · |value|; 0: exactly `draws`
  std::int64_t max_draws = 10000;  ///< upper limit of draws
};

/// Mean and squared standard error of the mean.
struct MeanError {
  double mean = 0, squared = 0;
};
LPF_ONCE MeanError mean_error(const std::vector<double>& values) {
  MeanError out;
  const auto n = static_cast<double>(values.size());
  for (const double v : values) out.mean += v / n;
  for (const double v : values) out.squared += (v - out.mean) * (v - out.mean);
  out.squared = n > 1 ? out.squared / (n - 1) / n : 0;
  return out;
}

/// The estimate from these ψ and χ (empty where unknown); `value` is a mean of ψ, or a function of means
/// whose linearisation is ψ and χ.
LPF_ONCE Estimate estimate_of(double value, std::vector<double> per_draw, std::vector<double> per_sample = {},
                              double relative_error = 0) {
  Estimate out{.value = value, .draws = std::ssize(per_draw)};
  const double draws = mean_error(per_draw).squared;
  out.standard_error = std::sqrt(draws);
  double enough = std::pow((relative_error > 0 ? relative_error : 0.05) * value, 2);
  if (per_sample.size() > 1) {
    const double data = mean_error(per_sample).squared;
    out.data_error = std::sqrt(data);
    enough = std::max(enough, data / 10);
  }
  if (!per_draw.empty()) {
    const double wanted = enough == 0 ? 2 : std::ceil(draws * static_cast<double>(out.draws) / enough);
    out.advised_draws = lpf::detail::saturated<std::int64_t>(std::clamp(wanted, 2.0, 1e9));
  }
  out.per_draw = std::move(per_draw);
  out.per_sample = std::move(per_sample);
  return out;
}

/// Calls more(first, count) until `draws` are made or, with a relative error, now() is an estimate that
/// reaches it. Counts are multiples of `group`, except the last. The size of the next call is predicted from
/// the error so far, at most twice the number of draws made.
template <class More, class Now>
void draw_until(std::int64_t draws, const Until& until, std::int64_t group, More more, Now now) {
  if (until.relative_error <= 0) return more(std::int64_t{0}, draws);
  const auto whole = [group](double n) {
    return static_cast<std::int64_t>(std::ceil(n / static_cast<double>(group))) * group;
  };
  std::int64_t done = std::min(whole(16), until.max_draws);
  more(std::int64_t{0}, done);
  while (done < until.max_draws) {
    const Estimate found = now();
    const double missing = found.standard_error / (until.relative_error * std::abs(found.value));
    if (!(missing > 1)) return;  // NaN too: no number of draws makes it smaller
    const auto present = static_cast<double>(done);
    const auto next = whole(std::clamp(present * (missing * missing - 1), 1.0, 2 * present));
    const std::int64_t count = std::min(next, until.max_draws - done);
    more(done, count);
    done += count;
  }
}

namespace detail {

LPF_ONCE void check_draws(const char* operation, std::int64_t draws, const Until& until) {
  check(draws >= 2, operation, "at least 2 draws are needed for a standard error, got ", draws);
  check(until.relative_error >= 0 && std::isfinite(until.relative_error), operation,
        "until.relative_error must be finite and not negative, got ", until.relative_error);
  check(until.max_draws >= 2, operation, "until.max_draws must be at least 2, got ", until.max_draws);
}

}  // namespace detail
}  // namespace lpf::sharpness
