// The noise that a filter adds, divided by its scale: independent standard Gaussians over steps, replicas,
// elements and parameters. Seeds are fixed, so the results are deterministic.
#include <algorithm>

#include "networks.hpp"

namespace lpf::test {
namespace {

/// The noise ε of draws [0, draws) of a filter: ε[draw][replica] holds every perturbed element of θ.
using Noise = std::vector<std::vector<std::vector<double>>>;

Noise noise_of(const ParameterStore& params, const LowPassFilter& filter, std::uint64_t draws) {
  const filter::Segments rows = filter::segments_of(params, NoiseLaw::filter_wise, {});
  const std::vector<double> s = filter::scales(params, rows, filter.options().gamma).to_vector();
  Noise out;
  for (std::uint64_t draw = 0; draw < draws; ++draw) {
    const Tensor offsets = filter.offsets(params, draw);
    out.emplace_back();
    for (std::int64_t r = 0; r < offsets.size(0); ++r) {
      const std::vector<double> values = offsets[r].to_vector();
      std::vector<double> own;
      for (const auto& segment : rows.segments)
        for (std::int64_t i = 0; i < segment.rows * segment.length; ++i)
          own.push_back(values[static_cast<std::size_t>(segment.offset + i)] /
                        s[static_cast<std::size_t>(segment.first_scale + i / segment.length)]);
      out.back().push_back(std::move(own));
    }
  }
  return out;
}

/// Kolmogorov's p-value for n numbers under the standard normal distribution.
double kolmogorov_smirnov(std::vector<double> e) {
  std::sort(e.begin(), e.end());
  const double n = static_cast<double>(e.size());
  double distance = 0;
  for (std::size_t i = 0; i < e.size(); ++i) {
    const double u = std::erfc(-e[i] / std::sqrt(2.0)) / 2, rank = static_cast<double>(i);
    distance = std::max({distance, u - rank / n, (rank + 1) / n - u});
  }
  double p = 0;
  for (int k = 1; k < 100; ++k) p += (k % 2 ? 2 : -2) * std::exp(-2 * k * k * distance * distance * n);
  return p;
}

/// √n times the correlation of pairs about the known mean 0: standard normal if they are independent.
struct Correlation {
  double aa = 0, bb = 0, ab = 0, n = 0;
  void add(double a, double b) { aa += a * a, bb += b * b, ab += a * b, ++n; }
  double value() const { return ab / std::sqrt(aa * bb) * std::sqrt(n); }
};

/// The sample moments of powers 1 … 4, in units of their standard errors.
void check_moments(const std::vector<double>& e) {
  double power[5] = {};
  for (const double x : e)
    for (double k = 1, p = x; k <= 4; ++k, p *= x) power[static_cast<int>(k)] += p;
  const double n = static_cast<double>(e.size()), root = std::sqrt(n);
  CHECK(std::abs(power[1] / n) * root < 4.5);
  CHECK(std::abs(power[2] / n - 1) * root / std::sqrt(2.0) < 4.5);
  CHECK(std::abs(power[3] / n) * root / std::sqrt(15.0) < 4.5);
  CHECK(std::abs(power[4] / n - 3) * root / std::sqrt(96.0) < 4.5);
}

void check_law(DType dtype) {
  constexpr std::uint64_t draws = 40;
  constexpr std::int64_t M = 8;
  const ParameterStore params({.dtype = dtype, .seed = 2});
  const nn::Linear fc1(params / "fc1", 31, 17), fc2(params / "fc2", 17, 10);
  const nn::Conv2d conv(params / "conv", 5, 7, 3);
  const nn::Embedding embed(params / "embed", 13, 6);
  const LowPassFilter filter({.M = M, .gamma = 0.01, .seed = 12});
  const Noise noise = noise_of(params, filter, draws);
  const std::size_t size = noise[0][0].size();
  REQUIRE(size == static_cast<std::size_t>(params.numel()));

  // the distribution of all numbers, of each step, of each replica, and of every
  // element over steps and replicas
  std::vector<double> all;
  std::vector<std::vector<double>> by_replica(M);
  for (const auto& step : noise) {
    std::vector<double> own;
    for (std::size_t r = 0; r < M; ++r) {
      own.insert(own.end(), step[r].begin(), step[r].end());
      by_replica[r].insert(by_replica[r].end(), step[r].begin(), step[r].end());
    }
    check_moments(own);
    all.insert(all.end(), own.begin(), own.end());
  }
  for (const auto& own : by_replica) check_moments(own);
  check_moments(all);
  CHECK(kolmogorov_smirnov(all) > 1e-3);
  std::vector<double> means, variances;
  for (std::size_t i = 0; i < size; ++i) {
    double sum = 0, squares = 0;
    for (const auto& step : noise)
      for (const auto& own : step) sum += own[i], squares += own[i] * own[i];
    const double n = static_cast<double>(draws * M);
    means.push_back(sum / std::sqrt(n));
    variances.push_back((squares - n) / std::sqrt(2 * n));
  }
  CHECK(kolmogorov_smirnov(means) > 1e-3);  // standard normal exactly
  check_moments(means);
  CHECK(*std::max_element(variances.begin(), variances.end()) <
        6);  // of a chi-squared law: skewed to the right
  CHECK(*std::min_element(variances.begin(), variances.end()) > -5);

  // independence of values and of their squares, over steps, replicas and elements
  for (const std::size_t lag : {1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 64}) {
    CAPTURE(lag);
    Correlation elements, squares;
    for (const auto& step : noise)
      for (const auto& own : step)
        for (std::size_t i = 0; i + lag < size; ++i) {
          elements.add(own[i], own[i + lag]);
          squares.add(own[i] * own[i] - 1, own[i + lag] * own[i + lag] - 1);
        }
    CHECK(std::abs(elements.value()) < 4.5);
    CHECK(std::abs(squares.value()) < 4.5);
  }
  for (std::size_t lag = 1; lag < M; ++lag) {
    CAPTURE(lag);
    Correlation replicas, steps, diagonal, squares;
    for (std::size_t t = 0; t + lag < draws; ++t)
      for (std::size_t r = 0; r + lag < M; ++r)
        for (std::size_t i = 0; i < size; ++i) {
          replicas.add(noise[t][r][i], noise[t][r + lag][i]);
          steps.add(noise[t][r][i], noise[t + lag][r][i]);
          diagonal.add(noise[t][r + lag][i], noise[t + lag][r][i]);
          squares.add(noise[t][r][i] * noise[t][r][i] - 1, noise[t + lag][r][i] * noise[t + lag][r][i] - 1);
        }
    CHECK(std::abs(replicas.value()) < 4.5);
    CHECK(std::abs(steps.value()) < 4.5);
    CHECK(std::abs(diagonal.value()) < 4.5);
    CHECK(std::abs(squares.value()) < 4.5);
  }
  // parameters: the same element of two of them
  const auto& infos = params.parameters();
  std::vector<std::size_t> first{0};
  for (const auto& info : infos) first.push_back(first.back() + static_cast<std::size_t>(info.numel()));
  for (std::size_t p = 0; p < infos.size(); ++p)
    for (std::size_t q = p + 1; q < infos.size(); ++q) {
      Correlation pair;
      const auto n = static_cast<std::size_t>(std::min(infos[p].numel(), infos[q].numel()));
      for (const auto& step : noise)
        for (const auto& own : step)
          for (std::size_t i = 0; i < n; ++i) pair.add(own[first[p] + i], own[first[q] + i]);
      INFO(infos[p].name, " and ", infos[q].name);
      CHECK(std::abs(pair.value()) < 4.5);
    }
}

TEST_CASE("the noise over steps, replicas and elements is standard normal and independent (float32)") {
  check_law(float32);
}
TEST_CASE("the noise over steps, replicas and elements is standard normal and independent (float64)") {
  check_law(float64);
}

TEST_CASE("antithetic noise: pairs of opposite signs, independent of one another") {
  const Problem p(Kind::conv);
  const LowPassFilter filter({.M = 8, .gamma = 0.1, .estimator = Estimator::antithetic, .seed = 3});
  const Noise noise = noise_of(p.params, filter, 100);
  std::vector<double> plus;
  bool opposite = true;
  Correlation pairs, steps;
  for (std::size_t t = 0; t < noise.size(); ++t)
    for (std::size_t r = 0; r < 8; r += 2)
      for (std::size_t i = 0; i < noise[t][r].size(); ++i) {
        opposite = opposite && noise[t][r][i] == -noise[t][r + 1][i];
        plus.push_back(noise[t][r][i]);
        if (r > 0) pairs.add(noise[t][r][i], noise[t][r - 2][i]);
        if (t > 0) steps.add(noise[t][r][i], noise[t - 1][r][i]);
      }
  CHECK(opposite);
  check_moments(plus);
  CHECK(kolmogorov_smirnov(plus) > 1e-3);
  CHECK(std::abs(pairs.value()) < 4.5);
  CHECK(std::abs(steps.value()) < 4.5);
}

}  // namespace
}  // namespace lpf::test
