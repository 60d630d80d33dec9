// The embedded digits are the published ones.
#include "lpf/data/sets/digits.hpp"

#include "lpf_test.hpp"

using namespace lpf;

TEST_CASE("digits: 1,797 images in 10 classes") {
  const TensorDataset data = digits();
  CHECK(data.size() == 1797);
  CHECK(data.images.shape() == Shape{1797, 64});
  CHECK(data.images.dtype() == float32);
  CHECK(data.labels.dtype() == int64);
  CHECK(data.classes() == 10);
  // as documented by scikit-learn
  CHECK(data.class_counts() == std::vector<std::int64_t>{178, 182, 177, 183, 181, 182, 181, 179, 174, 180});
  const float first[] = {0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0};
  for (std::size_t i = 0; i < 16; ++i) CHECK(data.images.span<float>()[i] == first[i] / 16);
  CHECK(data.labels.span<std::int64_t>()[0] == 0);
  double sum = 0;
  for (const float x : data.images.span<float>()) {
    CHECK((x >= 0 && x <= 1));
    sum += 16 * static_cast<double>(x);
  }
  CHECK(sum == 561718);  // of the published table
}

TEST_CASE("digits: options") {
  const TensorDataset flat = digits({.dtype = float64});
  const TensorDataset square = digits({.dtype = float64, .flat = false});
  CHECK(square.images.shape() == Shape{1797, 8, 8, 1});
  CHECK(square.images.to_vector() == flat.images.to_vector());
  const ChannelStatistics s = channel_statistics(digits({.dtype = float64, .normalize = true}).images);
  CHECK(s.mean[0] == doctest::Approx(0).epsilon(1e-12));
  CHECK(s.sd[0] == doctest::Approx(1).epsilon(1e-12));
  CHECK_THROWS_AS(digits({.dtype = int64}), DTypeError);
}
