// Pooling of sequences, and ceil_mode and divisor_override of all pooling.
#include "lpf/ops/pool1d.hpp"

#include "fixture_case.hpp"
#include "lpf/ops/math.hpp"

namespace lpf::test {
namespace {

/// Compares a case's y and gradient of x with f(x); there is no Hessian product.
void check_pool_case(const FixtureCase& c, const std::function<Tensor(const Tensor&)>& f) {
  check_case(c, {"x"}, [&](auto leaf) { return f(leaf.at("x")); });
}

Size2d size_of(const Json& pair) { return pair.is_array() ? Size2d(pair[0], pair[1]) : Size2d(pair); }

TEST_CASE("pool1d: PyTorch's values and gradients, with and without ceil_mode") {
  int cases = for_each_case("sequences.safetensors", "max_pool1d", [](const FixtureCase& c) {
    const MaxPool1dOptions o{c.hyper["stride"], c.hyper["padding"], c.hyper["ceil_mode"]};
    check_pool_case(c, [&](const Tensor& x) { return max_pool1d(x, c.hyper["kernel"], o); });
  });
  CHECK(cases == 6);
  cases = for_each_case("sequences.safetensors", "avg_pool1d", [](const FixtureCase& c) {
    const AvgPool1dOptions o{c.hyper["stride"], c.hyper["padding"], c.hyper["count_include_pad"],
                             c.hyper["ceil_mode"]};
    check_pool_case(c, [&](const Tensor& x) { return avg_pool1d(x, c.hyper["kernel"], o); });
  });
  CHECK(cases == 12);
  cases = for_each_case("sequences.safetensors", "adaptive_avg_pool1d", [](const FixtureCase& c) {
    check_pool_case(c, [](const Tensor& x) { return adaptive_avg_pool1d(x, 3); });
  });
  CHECK(cases == 1);
}

TEST_CASE("pool2d: PyTorch's values and gradients with ceil_mode and divisor_override") {
  int cases = for_each_case("sequences.safetensors", "max_pool2d", [](const FixtureCase& c) {
    const auto& h = c.hyper;
    const MaxPool2dOptions o{size_of(h["stride"]), size_of(h["padding"]), h["ceil_mode"]};
    check_pool_case(c, [&](const Tensor& x) { return max_pool2d(x, size_of(h["kernel"]), o); });
  });
  CHECK(cases == 7);
  cases = for_each_case("sequences.safetensors", "avg_pool2d", [](const FixtureCase& c) {
    const auto& h = c.hyper;
    AvgPool2dOptions o{size_of(h["stride"]), size_of(h["padding"]), h["count_include_pad"], h["ceil_mode"]};
    if (!h["divisor_override"].is_null()) o.divisor_override = h["divisor_override"].get<std::int64_t>();
    check_pool_case(c, [&](const Tensor& x) { return avg_pool2d(x, size_of(h["kernel"]), o); });
  });
  CHECK(cases == 26);
}

TEST_CASE("pool1d: derivatives, global pooling, nothing in the batch") {
  for (const Shape& shape : {Shape{2, 7, 2}, Shape{1, 4, 1}, Shape{0, 5, 2}}) {
    const Tensor x = normal(shape, 2);
    for (const bool ceil : {false, true}) {
      check_derivatives([&](auto& v) { return square(max_pool1d(v[0], 3, {2, 1, ceil})); }, {x});
      for (const bool counted : {false, true})
        check_derivatives([&](auto& v) { return square(avg_pool1d(v[0], 3, {2, 1, counted, ceil})); }, {x});
    }
    check_derivatives([](auto& v) { return square(global_max_pool1d(v[0])); }, {x});
    check_derivatives([](auto& v) { return square(global_avg_pool1d(v[0])); }, {x});
    check_derivatives([](auto& v) { return square(adaptive_avg_pool1d(v[0], 3)); }, {x});
    CHECK(same_bits(global_max_pool1d(x), amax(x, 1)));
    CHECK(same_bits(global_avg_pool1d(x), mean(x, {1})));
  }
  const Tensor image = normal({2, 3, 5, 4});
  CHECK(same_bits(global_max_pool2d(image), amax(amax(image, 1), 1)));
  check_derivatives([](auto& v) { return square(global_max_pool2d(v[0])); }, {image});
  check_derivatives(
      [](auto& v) {
        return square(avg_pool2d(v[0], 3, {.stride = 2, .ceil_mode = true, .divisor_override = 5}));
      },
      {image});
}

TEST_CASE("pool2d: with ceil_mode the last window begins in the image, and no number overflows") {
  const Tensor x = normal({1, 4, 5, 2}).requires_grad_();
  const auto rows = [&](Size2d kernel, Size2d stride, Size2d padding) {
    return max_pool2d(x, kernel, {stride, padding, true}).size(1);
  };
  CHECK(rows(2, 2, 0) == 2);
  CHECK(rows(3, 3, 0) == 2);  // ⌈(4 − 3)/3⌉ + 1
  CHECK(rows(2, 3, 1) == 2);  // ⌈(6 − 2)/3⌉ + 1 = 3, whose last would begin at 5 = 4 + 1
  CHECK(rows(5, 2, 0) == 1);  // a kernel beyond the image by less than a stride
  CHECK_ERROR(rows(6, 2, 0), ShapeError, "[max_pool2d] a kernel that reaches over 6 pixels of height",
              "has 4");
  const std::int64_t huge = std::int64_t{1} << 61;
  for (const std::int64_t size : {huge, 2 * huge, INT64_MAX}) {
    CHECK(same_bits(max_pool2d(x, size, {.stride = size, .ceil_mode = true}), max_pool2d(x, {4, 5})));
    CHECK(same_bits(avg_pool2d(x, size, {.stride = size, .ceil_mode = true}), avg_pool2d(x, {4, 5})));
    CHECK_ERROR(max_pool2d(x, size, {.stride = size - 4, .ceil_mode = true}), ShapeError, "does not fit");
    const Tensor strided = max_pool2d(x, 3, {.stride = size, .ceil_mode = true});
    CHECK(same_bits(strided, max_pool2d(x, 3, {.stride = 7})));
  }
}

TEST_CASE("pool1d: errors") {
  const Tensor x = normal({2, 5, 4});
  CHECK_ERROR(max_pool1d(normal({2, 5, 5, 4}), 2), ShapeError, "[max_pool1d]", "[B, L, C]");
  CHECK_ERROR(max_pool1d(x, 6), ShapeError, "[max_pool1d] a kernel that reaches over 6 positions", "has 5");
  CHECK_ERROR(avg_pool1d(x, 0), ValueError, "[avg_pool1d] the kernel");
  CHECK_ERROR(avg_pool1d(x, 2, {.stride = 0}), ValueError, "[avg_pool1d] the stride must be positive, got 0");
  CHECK_ERROR(max_pool1d(x, 3, {.padding = 2}), ValueError, "[max_pool1d]", "half the kernel",
              "padding is 2, kernel 3");
  CHECK_ERROR(max_pool1d(x.to(int64), 2), DTypeError, "[max_pool1d]", "int64");
  CHECK_ERROR(adaptive_avg_pool1d(x, 0), ValueError, "[adaptive_avg_pool1d]", "got 0");
  for (const auto& f : {global_avg_pool1d, global_max_pool1d})
    CHECK_ERROR(f(normal({2, 0, 4})), ShapeError, "no positions", "[2, 0, 4]");
  CHECK_ERROR(adaptive_avg_pool1d(normal({2, 0, 4}), 1), ShapeError, "no positions");
  CHECK_ERROR(global_max_pool2d(normal({2, 3, 0, 4})), ShapeError, "[global_max_pool2d]", "no pixels");
  for (const std::int64_t bad : {0, -3})
    CHECK_ERROR(avg_pool2d(normal({1, 4, 4, 1}), 2, {.divisor_override = bad}), ValueError,
                "[avg_pool2d] divisor_override must be at least 1", concat(bad));
  const Tensor replicas = detail::add_replica_dim(normal({2, 2, 5, 4}), plan_of(2));
  CHECK_ERROR(max_pool1d(replicas, 2), ReplicaError);
  CHECK_ERROR(global_avg_pool1d(replicas), ReplicaError);
}

}  // namespace
}  // namespace lpf::test
