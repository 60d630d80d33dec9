#include "lpf/ops/topk.hpp"

#include <algorithm>
#include <numeric>

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

TopK topk_of(const FixtureCase& c, const Tensor& x) {
  return topk(x, c.hyper["k"], c.hyper["axis"], c.hyper["largest"]);
}

TEST_CASE("topk: values, indices, and ties by their place") {
  const Tensor x = tensor({3.0, 1.0, 4.0, 1.0, 5.0, 4.0}).reshape({2, 3});
  const auto [values, indices] = topk(x, 2);
  CHECK(holds(values, {2, 2}, {4, 3, 5, 4}));
  CHECK(holds(indices, {2, 2}, {2, 0, 1, 2}));
  CHECK(indices.dtype() == int64);
  CHECK(holds(topk(x, 1, 0).values, {1, 3}, {3, 5, 4}));
  CHECK(holds(topk(x, 2, 1, false).values, {2, 2}, {1, 3, 1, 4}));
  const Tensor equal = tensor({2.0, 1.0, 2.0, 2.0, 1.0});
  CHECK(holds(topk(equal, 5).indices, {5}, {0, 2, 3, 1, 4}));
  CHECK(holds(topk(equal, 5, 0, false).indices, {5}, {1, 4, 0, 2, 3}));
  CHECK(holds(topk(tensor({0.0, -0.0, 0.0}), 3).indices, {3}, {0, 1, 2}));
  CHECK(topk(zeros({2, 3}), 0).values.shape() == Shape{2, 0});
  CHECK(topk(zeros({0, 3}), 2).indices.shape() == Shape{0, 2});
  CHECK(topk(zeros({2, 0}), 0).values.shape() == Shape{2, 0});
  CHECK(holds(topk(tensor<std::uint8_t>({3, 200, 7}), 2).values, {2}, {200, 7}));
  CHECK(holds(topk(tensor<std::int32_t>({-3, 2, -7}), 2, 0, false).values, {2}, {-7, -3}));
}

TEST_CASE("topk: a whole axis is a stable sort") {
  for (const DType type : {float32, float64, int64, int32, uint8}) {
    const std::int64_t n = 1500;
    const Tensor x = affine(abs(normal({n}, 3)), is_floating(type) ? 1 : 9, 0).to(type);  // with ties
    const auto from = x.to_vector();
    std::vector<std::int64_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      return from[static_cast<std::size_t>(a)] > from[static_cast<std::size_t>(b)];
    });
    CHECK(topk(x, n).indices.to_vector<std::int64_t>() == order);
    order.resize(40);
    CHECK(topk(x, 40).indices.to_vector<std::int64_t>() == order);
  }
}

TEST_CASE("topk: PyTorch's values") {
  int cases = for_each_case("ops.safetensors", "topk", [](const FixtureCase& c) {
    CHECK(same_bits(topk_of(c, c["x"]).indices, c["indices"]));
    check_case(c, {"x"}, [&](auto leaf) { return topk_of(c, leaf.at("x")).values; });
  });
  CHECK(cases == 14);
  cases = for_each_case("ops.safetensors", "topk_special", [](const FixtureCase& c) {
    check_special_case(c, {"x"}, [&](auto leaf) { return topk_of(c, leaf.at("x")).values; });
  });
  CHECK(cases == 4);
  cases = for_each_case("ops.safetensors", "topk_integers", [](const FixtureCase& c) {
    CHECK(same_bits(topk_of(c, c["x"]).values, c["y"]));
    CHECK(same_bits(topk_of(c, c["x"]).indices, c["indices"]));
  });
  CHECK(cases == 1);
}

TEST_CASE("topk: derivatives, replicas, threads") {
  for (const auto& [shape, k, axis] : std::vector<std::tuple<Shape, int, int>>{{{5}, 3, 0},
                                                                               {{1}, 1, 0},
                                                                               {{3, 4}, 2, 0},
                                                                               {{3, 4}, 4, 1},
                                                                               {{2, 4, 3}, 2, 1},
                                                                               {{0, 3}, 2, 1},
                                                                               {{3}, 0, 0}})
    for (const bool largest : {true, false})
      check_derivatives(
          [&, k = k, axis = axis](auto& v) { return topk(v[0] * v[0], k, axis, largest).values; },
          {normal(shape)});
  check_maps_replicas([](const Tensor& w) { return topk(w, 2, 0).values; }, normal({3, 4, 2}));
  check_maps_replicas([](const Tensor& w) { return topk(w, 2, -1, false).values; }, normal({2, 5}));
  check_maps_replicas([](const Tensor& w) { return topk(w, 2).indices; }, normal({2, 5}, 1, float32));
  const Tensor x = normal({40, 3, 700}, 1, float32);
  check_same_for_any_threads([&] {
    const TopK last = topk(x, 17), middle = topk(x, 2, 1);
    return std::vector<Tensor>{last.values, last.indices, middle.values, middle.indices};
  });
}

TEST_CASE("topk: errors") {
  const Tensor x = zeros({2, 3});
  CHECK_ERROR(topk(x, 4), ValueError, "[topk]", "k is 4", "[2, 3]", "[0, 3]");
  CHECK_ERROR(topk(x, -1), ValueError, "[topk]", "k is -1");
  CHECK_ERROR(topk(x, 1, 2), ShapeError, "[topk]", "axis 2");
  CHECK_ERROR(topk(full({}, 1), 1), ShapeError, "[topk]", "rank 0");
  CHECK_ERROR(topk(tensor({true, false}), 1), DTypeError, "[topk]", "bool");
}

}  // namespace
}  // namespace lpf::test
