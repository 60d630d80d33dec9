// Label noise and data noise: distribution, seed, and what is unchanged.
#include "lpf/data/noise.hpp"

#include <cmath>

#include "lpf_test.hpp"

using namespace lpf;

namespace {

TensorDataset all_of_class(std::int64_t label, std::int64_t n) {
  return {zeros({n, 1}), full({n}, static_cast<double>(label), {.dtype = int64}), 10};
}

}  // namespace

TEST_CASE("label noise: uniform over all classes, with the probability asked for") {
  const std::int64_t n = 100000;
  const TensorDataset clean = all_of_class(4, n);
  const TensorDataset noisy = with_label_noise(clean, {.probability = 0.2, .seed = 1});
  CHECK(noisy.images.is_same(clean.images));
  CHECK(clean.class_counts()[4] == n);  // the original is unchanged
  CHECK(noisy.classes() == 10);
  const auto counts = noisy.class_counts();
  for (std::int64_t c = 0; c < 10; ++c) {
    const double p = c == 4 ? 0.8 + 0.2 / 10 : 0.2 / 10, sd = std::sqrt(p * (1 - p) * static_cast<double>(n));
    CHECK(std::abs(static_cast<double>(counts[static_cast<std::size_t>(c)]) - p * static_cast<double>(n)) <
          4.5 * sd);
  }
}

TEST_CASE("label noise: depends on the seed alone, and grows with the probability") {
  const TensorDataset clean = all_of_class(4, 1000);
  const auto labels = [&](double p, std::uint64_t seed) {
    return with_label_noise(clean, {.probability = p, .seed = seed}).labels.to_vector<std::int64_t>();
  };
  CHECK(labels(0.5, 1) == labels(0.5, 1));
  CHECK(labels(0.5, 1) != labels(0.5, 2));
  CHECK(labels(0, 1) == clean.labels.to_vector<std::int64_t>());
  const auto some = labels(0.2, 1), many = labels(0.6, 1), all = labels(1, 1);
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (some[i] != 4) CHECK(many[i] == some[i]);
    if (many[i] != 4) CHECK(all[i] == many[i]);
  }
  // the streams are documented: results depend on them
  for (std::int64_t i = 0; i < 1000; ++i) {
    const bool anew = bernoulli_at({.seed = 1, .purpose = Purpose::label_noise, .parameter = 0}, i, 0.6);
    const NoiseKey key{.seed = 1, .purpose = Purpose::label_noise, .parameter = 1};
    CHECK(many[static_cast<std::size_t>(i)] == (anew ? uniform_below_at(key, i, 10) : 4));
  }
  // the noise of sample i does not depend on later samples
  const auto shorter =
      with_label_noise(clean.take(10), {.probability = 0.6, .seed = 1}).labels.to_vector<std::int64_t>();
  CHECK(shorter == std::vector(many.begin(), many.begin() + 10));

  CHECK_THROWS_AS(with_label_noise(clean, {.probability = 1.5}), ValueError);
  CHECK_THROWS_AS(with_label_noise(clean, {.probability = -0.1}), ValueError);
  CHECK_THROWS_AS(with_label_noise(clean, {.probability = NAN}), ValueError);
  CHECK_THROWS_AS(with_label_noise({zeros({2, 1}), zeros({2})}, {.probability = 0.1}), DTypeError);
  CHECK(with_label_noise(clean.take(0), {.probability = 0.1}).size() == 0);
}

TEST_CASE_TEMPLATE("data noise: x + sigma e, unclipped, from the stream", T, float, double) {
  const Tensor x = full({500, 4, 4, 1}, 0.5, {.dtype = dtype_of<T>()});
  const TensorDataset clean{x, zeros({500}, {.dtype = int64})};
  const TensorDataset noisy = with_data_noise(clean, {.sigma = 0.3, .seed = 9});
  CHECK(noisy.labels.is_same(clean.labels));
  CHECK(x.template to_vector<double>()[7] == 0.5);
  const NoiseKey key{.seed = 9, .purpose = Purpose::data_noise};
  double sum = 0, squares = 0;
  bool above = false, below = false;
  const auto y = noisy.images.template span<T>();
  for (std::size_t i = 0; i < y.size(); ++i) {
    CHECK(y[i] == std::fma(T(0.3), normal_at<T>(key, static_cast<std::int64_t>(i)), T(0.5)));
    sum += static_cast<double>(y[i]) - 0.5;
    squares += std::pow(static_cast<double>(y[i]) - 0.5, 2);
    above = above || y[i] > 1;
    below = below || y[i] < 0;
  }
  const double n = static_cast<double>(y.size());
  CHECK(std::abs(sum / n) < 4.5 * 0.3 / std::sqrt(n));
  CHECK(squares / n == doctest::Approx(0.09).epsilon(4.5 * std::sqrt(2 / n)));
  CHECK(above);
  CHECK(below);
  CHECK_THROWS_AS(with_data_noise(clean, {.sigma = -1}), ValueError);
  CHECK_THROWS_AS(with_data_noise(clean, {.sigma = INFINITY}), ValueError);
  CHECK_THROWS_AS(with_data_noise({zeros({1, 1}, {.dtype = uint8}), zeros({1})}, {.sigma = 1}), DTypeError);
}
