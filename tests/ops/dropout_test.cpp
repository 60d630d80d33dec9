#include "lpf/ops/dropout.hpp"

#include "lpf/backend/threads.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

const NoiseKey key{.seed = 7, .purpose = Purpose::dropout, .draw = 3, .parameter = 2};

TEST_CASE("dropout: keeps what the stream keeps") {
  for (const double p : {0.1, 0.5, 0.9}) {
    const Tensor x = normal({40, 25}), y = dropout(x, p, key, 5);
    const auto from = x.to_vector(), found = y.to_vector();
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      const bool keep = bernoulli_at(key, 5 + i, 1 - p);
      kept += keep;
      const auto at = static_cast<std::size_t>(i);
      CHECK(found[at] == doctest::Approx(keep ? from[at] / (1 - p) : 0).epsilon(1e-15));
    }
    CHECK(std::abs(static_cast<double>(kept) - 1000 * (1 - p)) < 4 * std::sqrt(1000 * p * (1 - p)));
    // the mask does not depend on the dtype
    const Tensor small = dropout(x.to(float32), p, key, 5);
    CHECK(relative_error(small.to(float64), y) < 1e-6);
  }
}

TEST_CASE("dropout: its ends") {
  const Tensor x = normal({3, 4}).requires_grad_();
  CHECK(same_bits(dropout(x, 0, key), x));
  const Tensor y = dropout(x, 1, key);
  CHECK(holds(y, {3, 4}, std::vector<double>(12, 0)));
  CHECK(holds(grad(sum(y), {x})[0], {3, 4}, std::vector<double>(12, 0)));
  const Tensor infinite = full({5}, std::numeric_limits<double>::infinity(), {.dtype = float64});
  CHECK(holds(dropout(infinite, 1, key), {5}, std::vector<double>(5, 0)));
  CHECK(dropout(zeros({0, 3}), 0.5, key).shape() == Shape{0, 3});
}

TEST_CASE("dropout: a batch in parts has the mask of the whole, for any number of threads") {
  const Tensor x = normal({50, 600}, 1, float32);
  const Tensor whole = dropout(x, 0.3, key);
  for (const std::int64_t cut : {1, 13, 49}) {
    const Tensor first = dropout(slice(x, 0, 0, cut), 0.3, key),
                 second = dropout(slice(x, 0, cut, 50), 0.3, key, cut * 600);
    CHECK(same_bits(concatenate({first, second}), whole));
  }
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    CHECK(same_bits(dropout(x, 0.3, key), whole));
  }
  set_num_threads(0);
  NoiseKey other = key;
  ++other.draw;
  CHECK(!same_bits(dropout(x, 0.3, other), whole));
}

TEST_CASE("dropout: derivatives") {
  for (const Shape& shape : {Shape{3, 4}, Shape{1}, Shape{}, Shape{0, 2}})
    for (const double p : {0.0, 0.4, 1.0})
      check_derivatives([&](auto& x) { return mul(dropout(x[0], p, key, 3), x[0]); }, {normal(shape)});
}

TEST_CASE("dropout: errors") {
  CHECK_ERROR(dropout(normal({2}), -0.1, key), ValueError, "[dropout]", "[0, 1]", "-0.1");
  CHECK_ERROR(dropout(normal({2}), 1.1, key), ValueError, "1.1");
  CHECK_ERROR(dropout(normal({2}), std::nan(""), key), ValueError, "dropout");
  CHECK_ERROR(dropout(arange(3), 0.5, key), DTypeError, "dropout", "int64");
  CHECK_ERROR(dropout(normal({2}), 0.5, key, -1), ValueError, "first");
  const Tensor weight = detail::add_replica_dim(normal({2, 3}), std::make_shared<ReplicaPlan>(2));
  CHECK_ERROR(dropout(weight, 0.5, key), ReplicaError, "M = 2");
}

}  // namespace
}  // namespace lpf::test
