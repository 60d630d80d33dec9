#include "lpf/ops/flip.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

TEST_CASE("flip: values") {
  const Tensor x = tensor({1.0, 2.0, 3.0, 4.0, 5.0, 6.0}).reshape({2, 3});
  CHECK(holds(flip(x, {0}), {2, 3}, {4, 5, 6, 1, 2, 3}));
  CHECK(holds(flip(x, {-1}), {2, 3}, {3, 2, 1, 6, 5, 4}));
  CHECK(holds(flip(x, {0, 1}), {2, 3}, {6, 5, 4, 3, 2, 1}));
  CHECK(holds(flip(x, {}), {2, 3}, {1, 2, 3, 4, 5, 6}));
  CHECK(holds(flip(tensor<bool>({true, false}), {0}), {2}, {0, 1}));
  CHECK(holds(flip(tensor<std::uint8_t>({1, 2, 3}), {0}), {3}, {3, 2, 1}));
  CHECK(holds(flip(full({}, 3), {}), {}, {3}));
  CHECK(flip(zeros({0, 2}), {0, 1}).shape() == Shape{0, 2});
  const Tensor y = normal({5, 70, 33}, 1, float32);
  CHECK(same_bits(flip(flip(y, {1}), {1}), y));
  CHECK(same_bits(flip(flip(flip(y, {2}), {0}), {1}), flip(y, {0, 1, 2})));
}

TEST_CASE("flip: PyTorch's values") {
  const int cases = for_each_case("ops.safetensors", "flip", [](const FixtureCase& c) {
    check_case(c, {"x"}, [&](auto leaf) { return flip(leaf.at("x"), c.hyper["axes"].get<Axes>()); });
  });
  CHECK(cases == 8);
}

TEST_CASE("flip: derivatives, replicas, threads") {
  for (const Shape& shape : shapes)
    for (int axis = 0; axis < shape.rank(); ++axis) {
      check_derivatives([axis](auto& v) { return flip(v[0] * v[0], {axis}); }, {normal(shape)});
      check_maps_replicas([axis](const Tensor& w) { return flip(w, {axis}); }, normal(shape.prepended(2)));
    }
  check_maps_replicas([](const Tensor& w) { return flip(w, {-1, 0}); }, normal({3, 2, 4}));
  const Tensor x = normal({50, 30, 40});
  check_same_for_any_threads([&] { return std::vector<Tensor>{flip(x, {0}), flip(x, {1, 2})}; });
}

TEST_CASE("flip: errors") {
  CHECK_ERROR(flip(zeros({2, 3}), {2}), ShapeError, "[flip]", "axis 2");
  CHECK_ERROR(flip(zeros({2, 3}), {1, -1}), ShapeError, "[flip]", "axis -1", "twice");
  CHECK_ERROR(flip(full({}, 1), {0}), ShapeError, "[flip]", "rank 0");
}

}  // namespace
}  // namespace lpf::test
