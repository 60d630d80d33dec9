// MNIST-1D computed here is the published one, and its numbers are NumPy's.
#include "lpf/data/sets/mnist1d.hpp"

#include "lpf/io/npz.hpp"
#include "lpf/lpf.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("mnist1d: every number is that of the published make_dataset(), to 1e-6") {
  const NamedTensors published = load_npz(fixture("mnist1d.npz").string());
  const auto values = [&](const std::string& name) {
    for (const auto& [key, tensor] : published)
      if (key == name) return tensor.to_vector();
    FAIL("no ", name);
    return std::vector<double>();
  };
  for (const auto& [name, split] :
       {std::pair<std::string, Split>{"train", Split::train}, {"test", Split::test}}) {
    CAPTURE(name);
    const TensorDataset exact = mnist1d(split, {.dtype = float64}), data = mnist1d(split);
    const std::int64_t n = split == Split::train ? 4000 : 1000;
    REQUIRE(exact.images.shape() == Shape{n, 40});
    CHECK(data.images.dtype() == float32);
    CHECK(data.classes() == 10);
    const std::vector<double> x = exact.images.to_vector(), rounded = data.images.to_vector(),
                              first = values(name), labels = values(name + "_labels"),
                              sums = values(name + "_sums"), weighted = values(name + "_weighted");
    for (std::size_t i = 0; i < first.size(); ++i) {
      CHECK(std::abs(x[i] - first[i]) < 1e-12);
      CHECK(std::abs(rounded[i] - first[i]) < 1e-6);
    }
    CHECK(data.labels.to_vector() == labels);
    double worst = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) {
      double sum = 0, sum_weighted = 0;
      for (std::size_t j = 0; j < 40; ++j)
        sum += x[40 * i + j], sum_weighted += static_cast<double>(j + 1) * x[40 * i + j];
      worst = std::max({worst, std::abs(sum - sums[i]), std::abs(sum_weighted - weighted[i])});
    }
    CHECK(worst < 1e-10);
  }
}

TEST_CASE("mnist1d: another seed") {
  const NamedTensors published = load_npz(fixture("mnist1d.npz").string(), {"seed4_sums"});
  const Tensor found = mnist1d(Split::train, {.seed = 4, .dtype = float64}).images;
  CHECK(abs(sum(found, {1}) - published.front().second).max().item() < 1e-10);
}

TEST_CASE("mnist1d: numbers of numpy.random.seed(42)") {
  detail::NumPyRandom a(42);
  // rand() twice, randn() and choice(48) three times, permutation(8), randn()
  for (const double expected : {0.3745401188473625, 0.9507143064099162}) CHECK(a.uniform() == expected);
  for (const double expected : {0.6476885381006925, 1.5230298564080254, -0.23415337472333597})
    CHECK(a.normal() == doctest::Approx(expected).epsilon(1e-15));
  for (const std::uint32_t expected : {10u, 10u, 23u}) CHECK(a.below_or_at(47) == expected);
  CHECK(a.permutation(8) == std::vector<std::int64_t>{0, 5, 6, 1, 7, 2, 3, 4});
  CHECK(a.normal() ==
        doctest::Approx(-0.23413695694918055).epsilon(1e-15));  // the second of a pair drawn before
}

TEST_CASE("mnist1d: options") {
  const TensorDataset some = mnist1d(Split::test, {.samples = 100, .train_fraction = 0.7, .flat = false});
  CHECK(some.images.shape() == Shape{30, 40, 1});
  const TensorDataset train = mnist1d(Split::train, {.samples = 100, .train_fraction = 0.7});
  CHECK(train.size() == 70);
  for (std::size_t c = 0; c < 10; ++c) CHECK(some.class_counts()[c] + train.class_counts()[c] == 10);
  CHECK_FALSE(same_bits(train.images,
                        mnist1d(Split::train, {.samples = 100, .train_fraction = 0.7, .seed = 1}).images));
  CHECK_ERROR(mnist1d(Split::train, {.samples = 15}), ValueError, "multiple of 10", "15");
  CHECK_ERROR(mnist1d(Split::train, {.samples = 10, .train_fraction = 1}), ValueError, "train_fraction",
              "empty");
  for (const double fraction : {not_a_number, 1e300, -1e300})
    CHECK_ERROR(mnist1d(Split::train, {.samples = 10, .train_fraction = fraction}), ValueError,
                "train_fraction");
  CHECK_ERROR(mnist1d(Split::train, {.samples = 10, .dtype = int64}), DTypeError, "mnist1d");
}

TEST_CASE("mnist1d: as images of one row") {
  const TensorDataset images = mnist1d_images(Split::test), flat = mnist1d(Split::test);
  CHECK(images.images.shape() == Shape{1000, 1, 40, 1});
  CHECK(same_bits(reshape(images.images, {1000, 40}), flat.images));
  CHECK(same_bits(images.labels, flat.labels));
}
