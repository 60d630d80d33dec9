// Data sets in memory: subsets, splits, folds, statistics.
#include "lpf/data/dataset.hpp"

#include <algorithm>
#include <set>

#include "lpf_test.hpp"

using namespace lpf;

namespace {

/// n samples; sample i is (i, -i) and its label i mod 3.
TensorDataset numbered(std::int64_t n) {
  std::vector<float> x;
  std::vector<std::int64_t> y;
  for (std::int64_t i = 0; i < n; ++i) {
    x.push_back(static_cast<float>(i));
    x.push_back(static_cast<float>(-i));
    y.push_back(i % 3);
  }
  return {from_vector(x, {n, 2}), from_vector(y, {n})};
}

/// The indices of these samples in numbered(); checks that they are complete.
std::vector<std::int64_t> ids(const TensorDataset& data) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const float* x = data.images.data<float>() + 2 * i;
    CHECK(x[1] == -x[0]);
    out.push_back(static_cast<std::int64_t>(x[0]));
    CHECK(data.labels.data<std::int64_t>()[i] == out.back() % 3);
  }
  return out;
}

}  // namespace

TEST_CASE("dataset: size, classes, parts") {
  const TensorDataset data = numbered(10);
  CHECK(data.size() == 10);
  CHECK(data.classes() == 3);
  CHECK(data.class_counts() == std::vector<std::int64_t>{4, 3, 3});
  CHECK(ids(data.subset({7, 0, 7})) == std::vector<std::int64_t>{7, 0, 7});
  CHECK(data.subset({0}).classes() == 3);  // a subset keeps the number of classes
  CHECK(data.subset({0}).class_counts() == std::vector<std::int64_t>{1, 0, 0});
  const TensorDataset first = data.take(4);
  CHECK(ids(first) == std::vector<std::int64_t>{0, 1, 2, 3});
  CHECK(first.images.raw() == data.images.raw());
  CHECK(data.take(0).size() == 0);
  CHECK(data.subset(std::span<const std::int64_t>{}).size() == 0);
  CHECK(TensorDataset(zeros({3, 2}), zeros({3, 5})).classes() == 0);  // a regression
  CHECK(TensorDataset(zeros({3, 2}), zeros({3, 5})).class_counts().empty());

  CHECK_THROWS_AS(data.subset({10}), IndexError);
  CHECK_THROWS_AS(data.subset({-1}), IndexError);
  CHECK_THROWS_AS(data.take(11), ValueError);
  CHECK_THROWS_AS(data.take(-1), ValueError);
  CHECK_THROWS_AS(TensorDataset(zeros({3, 2}), zeros({4})), ShapeError);
  CHECK_THROWS_AS(TensorDataset(full({}, 1), full({}, 1)), ShapeError);
  CHECK_THROWS_AS(TensorDataset(zeros({2, 2}), tensor<std::int64_t>({0, -1})), IndexError);
  CHECK_THROWS_AS(TensorDataset(zeros({2, 2}), tensor<std::int64_t>({0, 3}), 3), IndexError);
  CHECK(TensorDataset(zeros({2, 2}), tensor<std::int64_t>({0, 2}), 3).classes() == 3);
}

TEST_CASE("dataset: a split is disjoint, at random, and the same for the same seed") {
  const TensorDataset data = numbered(100);
  const auto [train, validation, test] = split(data, {60, 30, 10}, 7);
  CHECK(train.size() == 60);
  CHECK(validation.size() == 30);
  CHECK(test.size() == 10);
  std::set<std::int64_t> seen;
  for (const auto* part : {&train, &validation, &test})
    for (const auto i : ids(*part)) CHECK(seen.insert(i).second);
  CHECK(seen.size() == 100);
  auto sorted = ids(train);
  std::sort(sorted.begin(), sorted.end());
  CHECK(ids(train) != sorted);

  CHECK(ids(split(data, {60, -1}, 7)[0]) == ids(train));
  CHECK(ids(split(data, {60}, 8)[0]) != ids(train));
  CHECK(split(data, {-1, 30}, 7)[0].size() == 70);
  CHECK(split(data, {10, 20}, 7)[1].size() == 20);
  CHECK(split(data, {100, -1}, 7)[1].size() == 0);
  // the order is documented: results depend on it
  const auto order = permutation(100, {.seed = 7, .purpose = Purpose::split});
  CHECK(ids(train) == std::vector(order.begin(), order.begin() + 60));

  CHECK_THROWS_AS(split(data, {60, 41}, 7), ValueError);
  CHECK_THROWS_AS(split(data, {-1, -1}, 7), ValueError);
  CHECK_THROWS_AS(split(data, {-2}, 7), ValueError);
  CHECK_THROWS_AS(split(data, {INT64_MAX, INT64_MAX}, 7), ValueError);
}

TEST_CASE("dataset: in k folds each sample is held out once") {
  const TensorDataset data = numbered(23);
  std::set<std::int64_t> held;
  for (std::int64_t fold = 0; fold < 5; ++fold) {
    const auto [train, validation] = k_fold(data, {.folds = 5, .fold = fold, .seed = 3});
    CHECK(validation.size() == (fold < 3 ? 5 : 4));
    CHECK(train.size() + validation.size() == 23);
    std::set<std::int64_t> all;
    for (const auto i : ids(validation)) {
      CHECK(held.insert(i).second);
      all.insert(i);
    }
    for (const auto i : ids(train)) all.insert(i);
    CHECK(all.size() == 23);
  }
  CHECK(held.size() == 23);
  const auto order = permutation(23, {.seed = 3, .purpose = Purpose::split, .draw = 1});
  CHECK(ids(k_fold(data, {.folds = 5, .fold = 1, .seed = 3}).validation) ==
        std::vector(order.begin() + 5, order.begin() + 10));
  CHECK_THROWS_AS(k_fold(data, {.folds = 1}), ValueError);
  CHECK_THROWS_AS(k_fold(data, {.folds = 24}), ValueError);
  CHECK_THROWS_AS(k_fold(data, {.folds = 5, .fold = 5}), ValueError);
}

TEST_CASE("dataset: statistics and normalisation by channel") {
  // two images of 1×2 pixels with two channels
  const Tensor images = from_vector<double>({1, 10, 3, 10, 5, 30, 7, 30}, {2, 1, 2, 2});
  const ChannelStatistics s = channel_statistics(images);
  CHECK(s.mean == std::vector<double>{4, 20});
  CHECK(s.sd[0] == doctest::Approx(std::sqrt(5.0)).epsilon(1e-15));
  CHECK(s.sd[1] == doctest::Approx(10).epsilon(1e-15));
  const auto y = normalize(images, s).to_vector<double>();
  CHECK(y[0] == doctest::Approx(-3 / std::sqrt(5.0)).epsilon(1e-15));
  CHECK(y[7] == doctest::Approx(1).epsilon(1e-15));
  CHECK(normalize(images, {{1}, {2}}).to_vector<double>()[1] == 4.5);
  CHECK(channel_statistics(tensor<std::uint8_t>({0, 255})).mean == std::vector<double>{127.5});

  CHECK_THROWS_AS(normalize(images, {{1, 2, 3}, {1, 1, 1}}), ShapeError);
  CHECK_THROWS_AS(normalize(images, {{1}, {}}), ShapeError);
  CHECK_THROWS_AS(normalize(images, {{1}, {0}}), ValueError);
  CHECK_THROWS_AS(normalize(tensor<std::uint8_t>({0}), {{1}, {1}}), DTypeError);
  CHECK_THROWS_AS(channel_statistics(empty({0, 4})), ValueError);
}
