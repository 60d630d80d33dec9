#include "lpf/ops/clamp.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

TEST_CASE("clamp by tensors: values") {
  const Tensor x = tensor({0.0, 2.0, 5.0}), low = tensor({1.0, 1.0, 1.0}), high = tensor({3.0, 3.0, 3.0});
  CHECK(holds(clamp(x, low, high), {3}, {1, 2, 3}));
  CHECK(holds(clamp(x, low, {}), {3}, {1, 2, 5}));
  CHECK(holds(clamp(x, {}, high), {3}, {0, 2, 3}));
  CHECK(holds(clamp(x, high, low), {3}, {1, 1, 1}));  // low > high: high
  CHECK(holds(clamp(full({}, 2, {float64}), x, {}), {3}, {2, 2, 5}));
  CHECK(clamp(zeros({2, 1}), zeros({3}), ones({})).shape() == Shape{2, 3});
  CHECK(holds(clamp(tensor<std::int64_t>({1, 9}), tensor<std::int64_t>({3, 3}), {}), {2}, {3, 9}));
  CHECK(holds(clamp(tensor<std::uint8_t>({1, 9}), {}, tensor<std::uint8_t>({3, 3})), {2}, {1, 3}));
}

TEST_CASE("clamp by tensors: PyTorch's values") {
  CHECK(for_each_case("ops.safetensors", "clamp", [](const FixtureCase& c) {
          check_case(c, {"x", "low", "high"},
                     [](auto leaf) { return clamp(leaf.at("x"), leaf.at("low"), leaf.at("high")); });
        }) == 8);
  CHECK(for_each_case("ops.safetensors", "clamp_special", [](const FixtureCase& c) {
          check_special_case(c, {"input", "min", "max"}, [](auto leaf) {
            return clamp(leaf.at("input"), leaf.at("min"), leaf.at("max"));
          });
        }) == 6);
}

TEST_CASE("clamp by tensors: derivatives and replicas") {
  const auto square_of = [](const Tensor& t) { return t.defined() ? t * t : t; };
  for (const auto& [shape, low, high] : std::vector<std::tuple<Shape, Shape, Shape>>{{{3, 4}, {3, 4}, {3, 4}},
                                                                                     {{3, 4}, {4}, {3, 1}},
                                                                                     {{1}, {}, {1}},
                                                                                     {{0, 2}, {2}, {}},
                                                                                     {{2, 1}, {3}, {2, 3}}}) {
    const std::vector<Tensor> in = {normal(shape, 3), normal(low, 4), normal(high, 5)};
    check_derivatives([&](auto& v) { return clamp(square_of(v[0]), square_of(v[1]), square_of(v[2])); }, in);
    check_derivatives([&](auto& v) { return clamp(square_of(v[0]), square_of(v[1]), {}); }, {in[0], in[1]});
    check_derivatives([&](auto& v) { return clamp(square_of(v[0]), {}, square_of(v[1])); }, {in[0], in[2]});
  }
  const Tensor w = normal({3, 2, 4}), one = full({}, 0.3, {float64});
  check_maps_replicas([&](const Tensor& t) { return clamp(t, -one, one); }, w);
  check_maps_replicas([&](const Tensor& t) { return clamp(one, t, {}); }, w);
  const auto plan = plan_of(3);
  const Tensor bound = normal({3, 4}, 2);
  const Tensor y = clamp(detail::add_replica_dim(w, plan), detail::add_replica_dim(bound, plan), {});
  for (std::int64_t r = 0; r < 3; ++r)
    CHECK(same_bits(detail::remove_replica_dim(y)[r], clamp(w[r], bound[r], {})));
}

TEST_CASE("clamp by tensors: errors") {
  const Tensor x = zeros({2, 3});
  CHECK_ERROR(clamp(x, Tensor(), Tensor()), ValueError, "[clamp]", "bound");
  CHECK_ERROR(clamp(x, zeros({2}), {}), ShapeError, "[clamp]", "[2, 3]", "[2]");
  CHECK_ERROR(clamp(x, zeros({3}, {float64}), {}), DTypeError, "[clamp]", "float64");
  CHECK_ERROR(clamp(x.to(DType::bool_), x.to(DType::bool_), {}), DTypeError, "[clamp]", "bool");
  const Tensor w = detail::add_replica_dim(x, plan_of(2));
  CHECK_ERROR(clamp(w, zeros({3}), {}), ReplicaError, "[clamp]", "M = 2", "[3]", "per_sample");
  CHECK_ERROR(clamp(w, detail::add_replica_dim(x, plan_of(2)), {}), ReplicaError, "[clamp]", "two different");
}

}  // namespace
}  // namespace lpf::test
