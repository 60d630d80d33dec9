#include "lpf/ops/random.hpp"

#include "lpf/core/gaussian.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

const NoiseKey stream{.seed = 7, .purpose = Purpose::user, .draw = 3, .replica = 1, .parameter = 2};

TEST_CASE("rand and randn: element i is element first + i of the key's stream") {
  for (const std::int64_t first : {0, 1, 6}) {
    const Tensor single = rand({3, 5}, stream, {}, first), normal_single = randn({3, 5}, stream, {}, first);
    const Tensor wide = rand({3, 5}, stream, {.dtype = float64}, first),
                 normal_wide = randn({3, 5}, stream, {.dtype = float64}, first);
    CHECK(single.dtype() == float32);
    CHECK(single.shape() == Shape{3, 5});
    CHECK(normal_wide.dtype() == float64);
    const auto a = single.to_vector(), b = normal_single.to_vector(), c = wide.to_vector(),
               d = normal_wide.to_vector();
    for (std::int64_t i = 0; i < 15; ++i) {
      const auto at = static_cast<std::size_t>(i);
      CHECK(a[at] == uniform_at<float>(stream, first + i));
      CHECK(b[at] == normal_at<float>(stream, first + i));
      CHECK(c[at] == uniform_at<double>(stream, first + i));
      CHECK(d[at] == normal_at<double>(stream, first + i));
    }
  }
}

TEST_CASE("rand and randn: moments, parts of a stream, and keys") {
  const std::int64_t n = 100'000;
  for (const DType dtype : {float32, float64}) {
    const Tensor u = rand({n}, stream, {.dtype = dtype}), z = randn({n}, stream, {.dtype = dtype});
    const double bound = 4 / std::sqrt(static_cast<double>(n));  // of the mean of n numbers of deviation 1
    CHECK(u.min().item() >= 0);
    CHECK(u.max().item() < 1);
    CHECK(std::abs(mean(u).item() - 0.5) < bound * std::sqrt(1 / 12.));
    CHECK(std::abs(var(u).item() - 1 / 12.) < bound * std::sqrt(1 / 180.));
    CHECK(std::abs(mean(z).item()) < bound);
    CHECK(std::abs(var(z).item() - 1) < bound * std::sqrt(2.));
    for (const std::int64_t cut : {1, 4, 4999}) {
      CHECK(same_bits(
          concatenate({rand({cut}, stream, u.options()), rand({n - cut}, stream, u.options(), cut)}), u));
      CHECK(same_bits(
          concatenate({randn({cut}, stream, u.options()), randn({n - cut}, stream, u.options(), cut)}), z));
    }
    check_same_for_any_threads([&] {
      return std::vector{rand({n}, stream, u.options()), randn({n}, stream, u.options())};
    });
  }
  NoiseKey other = stream;
  ++other.draw;
  CHECK(!same_bits(randn({8}, stream), randn({8}, other)));
  CHECK(!same_bits(rand({8}, stream), rand({8}, other)));
  CHECK(rand({0, 3}, stream).shape() == Shape{0, 3});
  CHECK(randn({}, stream).rank() == 0);
  CHECK(!randn({2}, stream).requires_grad());
}

TEST_CASE("rand and randn: errors") {
  CHECK_ERROR(rand({2}, stream, {.dtype = int64}), DTypeError, "[rand]", "int64");
  CHECK_ERROR(randn({2}, stream, {.dtype = bfloat16}), DTypeError, "[randn]", "bfloat16", ".to(dtype)");
  CHECK_ERROR(rand({2}, stream, {}, -1), ValueError, "first is -1");
  const std::int64_t end = std::int64_t{1} << 34;  // of a stream of float32; of float64 it is half as long
  CHECK_NOTHROW(rand({4}, stream, {}, end - 4));
  CHECK_NOTHROW(randn({2}, stream, {.dtype = float64}, end / 2 - 2));
  CHECK_ERROR(rand({4}, stream, {}, end - 3), ValueError, "17179869184");
  CHECK_ERROR(randn({2}, stream, {.dtype = float64}, end / 2 - 1), ValueError, "8589934592");
  NoiseKey far = stream;
  far.draw = std::uint64_t{1} << 32;
  CHECK_ERROR(rand({2}, far), ValueError, "draw");
  far = stream;
  far.replica = 1u << 24;
  CHECK_ERROR(randn({2}, far), ValueError, "replica");
}

}  // namespace
}  // namespace lpf::test
