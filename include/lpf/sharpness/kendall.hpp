// Kendall's rank correlation with bootstrap intervals: how well a measure orders models by
// their generalisation.
//
//   τ_b = (C − D) / √((n₀ − n₁)(n₀ − n₂))
//
// over the n₀ = n(n−1)/2 pairs: C have the same order in x and y, D the opposite one, n₁ are tied in x and n₂
// in y (Kendall 1945). Knight's algorithm (1966): sort by x, then count the exchanges that sort y, n log n.
// The granulated coefficient is the mean of τ_b over groups of models that differ in one hyper-parameter
// only, so that no other can cause the order (Jiang et al. 2020).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <span>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/gaussian.hpp"

namespace lpf::sharpness {

namespace detail {

/// Sorts `v` and returns the number of its pairs that were in the wrong order.
LPF_ONCE std::int64_t sort_and_count(std::span<double> v) {
  if (v.size() < 2) return 0;
  const auto left = v.first(v.size() / 2), right = v.subspan(v.size() / 2);
  std::int64_t wrong = sort_and_count(left) + sort_and_count(right);
  std::vector<double> merged;
  merged.reserve(v.size());
  auto l = left.begin(), r = right.begin();
  while (l != left.end() || r != right.end()) {
    if (r == right.end() || (l != left.end() && *l <= *r)) {
      merged.push_back(*l++);
    } else {
      wrong += left.end() - l;
      merged.push_back(*r++);
    }
  }
  std::copy(merged.begin(), merged.end(), v.begin());
  return wrong;
}

/// Pairs within runs of 0 … n−1 whose neighbours are `same`.
template <class Same>
std::int64_t tied_pairs(std::size_t n, Same same) {
  std::int64_t pairs = 0, run = 1;
  for (std::size_t i = 1; i < n; ++i) {
    run = same(i - 1, i) ? run + 1 : 1;
    pairs += run - 1;
  }
  return pairs;
}

}  // namespace detail

/// τ_b in [−1, 1]; NaN where x or y is constant, or there are fewer than two. @throws ShapeError unless x and
/// y have the same length; ValueError for values that are not finite.
LPF_ONCE double kendall_tau_b(std::span<const double> x, std::span<const double> y) {
  constexpr const char* op = "kendall_tau_b";
  check<ShapeError>(x.size() == y.size(), op, "there are ", x.size(), " x and ", y.size(), " y");
  for (const auto values : {x, y})
    for (const double v : values)
      check(std::isfinite(v), op, "values must be finite, got ", v, ": leave such pairs out");
  const std::size_t n = x.size();
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t i, std::size_t j) { return x[i] != x[j] ? x[i] < x[j] : y[i] < y[j]; });
  const auto same_x = [&](std::size_t i, std::size_t j) { return x[order[i]] == x[order[j]]; };
  std::vector<double> by_x;
  for (const std::size_t i : order) by_x.push_back(y[i]);
  const std::int64_t ties_x = detail::tied_pairs(n, same_x),
                     ties_both = detail::tied_pairs(
                         n, [&](std::size_t i, std::size_t j) { return same_x(i, j) && by_x[i] == by_x[j]; });
  const std::int64_t discordant = detail::sort_and_count(by_x);
  const std::int64_t ties_y =
      detail::tied_pairs(n, [&](std::size_t i, std::size_t j) { return by_x[i] == by_x[j]; });
  const auto count = static_cast<std::int64_t>(n);
  const std::int64_t pairs = n < 2 ? 0 : count * (count - 1) / 2;
  const std::int64_t difference = pairs - ties_x - ties_y + ties_both - 2 * discordant;  // C − D
  const double scale = std::sqrt(static_cast<double>(pairs - ties_x) * static_cast<double>(pairs - ties_y));
  return scale > 0 ? static_cast<double>(difference) / scale : std::numeric_limits<double>::quiet_NaN();
}

/// A value with an interval; NaN where undefined.
struct Interval {
  double value = std::numeric_limits<double>::quiet_NaN(), low = value, high = value;
};

struct BootstrapOptions {
  std::int64_t resamples = 1000;
  double level = 0.95;     ///< of the interval
  std::uint64_t seed = 0;  ///< of the resampling
};

/// A statistic, and its value on each resample; NaN where undefined.
struct Resampled {
  double value = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> resamples = {};

  /// The percentile interval (Efron 1979). Resamples where the statistic is NaN are excluded.
  LPF_ONCE Interval interval(double level = 0.95) const {
    check(level >= 0 && level <= 1, "interval", "a level lies in [0, 1], got ", level);
    Interval out{.value = value};
    std::vector<double> values;
    for (const double v : resamples)
      if (std::isfinite(v)) values.push_back(v);
    if (values.empty() || !std::isfinite(value)) return out;
    std::sort(values.begin(), values.end());
    const auto at = [&](double quantile) {
      return values[static_cast<std::size_t>(std::lround(quantile * static_cast<double>(values.size() - 1)))];
    };
    out.low = at((1 - level) / 2);
    out.high = at((1 + level) / 2);
    return out;
  }
};

/// a − b, of two statistics on the same resamples: its interval is that of paired differences, far shorter than the two
/// intervals suggest where the statistics go together. @throws ShapeError for different numbers of resamples.
LPF_ONCE Resampled operator-(const Resampled& a, const Resampled& b) {
  check<ShapeError>(a.resamples.size() == b.resamples.size(), "bootstrap",
                    "a difference needs the same resamples, there are ", a.resamples.size(), " and ",
                    b.resamples.size());
  Resampled out{a.value - b.value, a.resamples};
  for (std::size_t i = 0; i < b.resamples.size(); ++i) out.resamples[i] -= b.resamples[i];
  return out;
}

/// statistic(index) of 0 … n−1, and of each resample of n out of n with replacement (Efron 1979). The same n, seed and
/// number give the same resamples. @throws ValueError for options out of range.
LPF_ONCE Resampled resampled(std::size_t n,
                             const std::function<double(std::span<const std::size_t>)>& statistic,
                             const BootstrapOptions& options = {}) {
  check(options.resamples >= 1 && options.level > 0 && options.level < 1, "bootstrap",
        "resamples must be positive and level in (0, 1), got ", options.resamples, " and ", options.level);
  std::vector<std::size_t> index(n);
  std::iota(index.begin(), index.end(), std::size_t{0});
  Resampled out{.value = statistic(index)};
  for (std::int64_t b = 0; b < options.resamples && n > 0; ++b) {
    const NoiseKey key{.seed = options.seed, .draw = static_cast<std::uint64_t>(b)};
    for (std::size_t i = 0; i < n; ++i) {
      const double u = uniform_at<double>(key, static_cast<std::int64_t>(i));
      index[i] = std::min(n - 1, static_cast<std::size_t>(u * static_cast<double>(n)));
    }
    out.resamples.push_back(statistic(index));
  }
  return out;
}

/// The statistic with its percentile interval.
LPF_ONCE Interval bootstrap(std::size_t n,
                            const std::function<double(std::span<const std::size_t>)>& statistic,
                            const BootstrapOptions& options = {}) {
  return resampled(n, statistic, options).interval(options.level);
}

/// τ_b with its bootstrap interval.
LPF_ONCE Interval kendall(std::span<const double> x, std::span<const double> y,
                          const BootstrapOptions& options = {}) {
  check<ShapeError>(x.size() == y.size(), "kendall", "there are ", x.size(), " x and ", y.size(), " y");
  return bootstrap(
      x.size(),
      [&](std::span<const std::size_t> index) {
        std::vector<double> a, b;
        for (const std::size_t i : index) a.push_back(x[i]), b.push_back(y[i]);
        return kendall_tau_b(a, b);
      },
      options);
}

/// The mean of τ_b over the groups: model i is in group[i]. Groups where τ_b is NaN (x or y constant, or
/// fewer than two models) are excluded. The interval resamples groups.
LPF_ONCE Interval granulated_kendall(std::span<const std::size_t> group, std::span<const double> x,
                                     std::span<const double> y, const BootstrapOptions& options = {}) {
  check<ShapeError>(x.size() == y.size() && group.size() == x.size(), "granulated_kendall", "there are ",
                    group.size(), " groups, ", x.size(), " x and ", y.size(), " y");
  std::map<std::size_t, std::array<std::vector<double>, 2>> members;
  for (std::size_t i = 0; i < x.size(); ++i) {
    auto& [a, b] = members[group[i]];
    a.push_back(x[i]), b.push_back(y[i]);
  }
  std::vector<double> taus;
  for (const auto& [number, member] : members)
    if (const double tau = kendall_tau_b(member[0], member[1]); !std::isnan(tau)) taus.push_back(tau);
  if (taus.empty()) return {};
  return bootstrap(
      taus.size(),
      [&](std::span<const std::size_t> index) {
        double mean = 0;
        for (const std::size_t i : index) mean += taus[i] / static_cast<double>(index.size());
        return mean;
      },
      options);
}

}  // namespace lpf::sharpness
