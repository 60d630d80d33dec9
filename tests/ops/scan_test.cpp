#include "lpf/ops/scan.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

TEST_CASE("cumsum: values") {
  const Tensor x = tensor({1.0, 2.0, 3.0, 4.0, 5.0, 6.0}).reshape({2, 3});
  CHECK(holds(cumsum(x, 1), {2, 3}, {1, 3, 6, 4, 9, 15}));
  CHECK(holds(cumsum(x, -2), {2, 3}, {1, 2, 3, 5, 7, 9}));
  CHECK(holds(cumsum(tensor<bool>({true, false, true}), 0), {3}, {1, 1, 2}));
  CHECK(cumsum(tensor<bool>({true}), 0).dtype() == int64);
  CHECK(cumsum(tensor<std::int32_t>({1, 2}), 0).dtype() == int64);
  CHECK(holds(cumsum(tensor<std::uint8_t>({200, 100}), 0), {2}, {200, 300}));
  const std::int64_t large = (std::int64_t{1} << 62) + 1;
  CHECK(cumsum(tensor({large, std::int64_t{1}}), 0).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{large, large + 1});
  CHECK(cumsum(tensor({large, large}), 0).to_vector<std::int64_t>()[1] == INT64_MIN + 2);  // modulo 2^64
  CHECK(cumsum(zeros({0, 3}), 0).shape() == Shape{0, 3});
  CHECK(cumsum(zeros({3, 0}), 0).shape() == Shape{3, 0});
  // float32 is summed in double: 2^24 + 1 + 1 …
  const Tensor ones_behind = concatenate({full({1}, 0x1p24), ones({100})}, 0);
  CHECK(cumsum(ones_behind, 0).to_vector()[100] == 0x1p24 + 100);
}

TEST_CASE("cumsum: PyTorch's values") {
  int cases = for_each_case("ops.safetensors", "cumsum", [](const FixtureCase& c) {
    check_case(c, {"x"}, [&](auto leaf) { return cumsum(leaf.at("x"), c.hyper["axis"].get<int>()); });
  });
  CHECK(cases == 8);
  cases = for_each_case("ops.safetensors", "cumsum_special", [](const FixtureCase& c) {
    check_special_case(c, {"x"}, [&](auto leaf) { return cumsum(leaf.at("x"), c.hyper["axis"].get<int>()); });
  });
  CHECK(cases == 2);
  cases = for_each_case("ops.safetensors", "cumsum_integers",
                        [](const FixtureCase& c) { CHECK(same_bits(cumsum(c["x"].to(uint8), 1), c["y"])); });
  CHECK(cases == 1);
}

TEST_CASE("cumsum: derivatives, replicas, threads") {
  for (const Shape& shape : shapes)
    for (int axis = 0; axis < shape.rank(); ++axis)
      check_derivatives([axis](auto& v) { return cumsum(v[0] * v[0], axis); }, {normal(shape)});
  check_derivatives([](auto& v) { return cumsum(v[0].transpose() * v[0].transpose(), 0); }, {normal({3, 4})});
  check_maps_replicas([](const Tensor& w) { return cumsum(w, 0); }, normal({3, 2, 4}));
  check_maps_replicas([](const Tensor& w) { return cumsum(w, -1); }, normal({2, 5}));
  const Tensor one = normal({100003}, 1, float32), many = normal({7, 300, 130}, 2);
  check_same_for_any_threads([&] {
    return std::vector<Tensor>{cumsum(one, 0), cumsum(many, 0), cumsum(many, 1), cumsum(many, 2)};
  });
}

TEST_CASE("cumsum: errors") {
  CHECK_ERROR(cumsum(zeros({2, 3}), 2), ShapeError, "[cumsum]", "axis 2", "rank 2");
  CHECK_ERROR(cumsum(full({}, 1), 0), ShapeError, "[cumsum]", "rank 0");
}

}  // namespace
}  // namespace lpf::test
