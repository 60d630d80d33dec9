#include "lpf/ops/mask.hpp"

#include "fixture_case.hpp"
#include "lpf/ops/replicate.hpp"

namespace lpf::test {
namespace {

Tensor bools(const Shape& shape, std::uint64_t seed) { return normal(shape, seed) > 0.0; }
Tensor mask_of(const FixtureCase& c) { return c["mask"].to(DType::bool_); }

TEST_CASE("masked_fill: values") {
  const Tensor x = tensor({1.0, 2.0, 3.0, 4.0}).reshape({2, 2}), mask = tensor({true, false});
  CHECK(holds(masked_fill(x, mask, -infinity), {2, 2}, {-infinity, 2, -infinity, 4}));
  CHECK(holds(masked_fill(x, mask.reshape({2, 1}), full({}, 7, {float64})), {2, 2}, {7, 7, 3, 4}));
  CHECK(
      holds(masked_fill(tensor({1.0, 2.0}), tensor({true, false}).reshape({2, 1}), 9), {2, 2}, {9, 9, 1, 2}));
  CHECK(holds(masked_fill(tensor<std::uint8_t>({1, 2}), mask, 255), {2}, {255, 2}));
  CHECK(masked_fill(tensor<std::int32_t>({1, 2}), mask, 3).dtype() == int32);
  CHECK(holds(masked_fill(tensor({false, false}), mask, 1), {2}, {1, 0}));
  CHECK(masked_fill(zeros({0, 2}), mask, 1).shape() == Shape{0, 2});
  const Tensor leaf = tensor({1.0, 2.0}).requires_grad_();
  CHECK(holds(grad(sum(masked_fill(leaf, mask, not_a_number)), {leaf})[0], {2}, {0, 1}));
}

TEST_CASE("nonzero and masked_select: values") {
  const Tensor x = tensor({0.0, 2.0, 0.0, 4.0, -5.0, 0.0}).reshape({2, 3});
  CHECK(holds(nonzero(x), {3, 2}, {0, 1, 1, 0, 1, 1}));
  CHECK(nonzero(x).dtype() == int64);
  CHECK(holds(nonzero(tensor({0.0, not_a_number, -0.0})), {1, 1}, {1}));
  CHECK(nonzero(full({}, 2)).shape() == Shape{1, 0});
  CHECK(nonzero(zeros({})).shape() == Shape{0, 0});
  CHECK(nonzero(zeros({2, 0, 3})).shape() == Shape{0, 3});
  CHECK(nonzero(zeros({2, 3})).shape() == Shape{0, 2});
  CHECK_FALSE(nonzero(normal({2, 3}).requires_grad_()).requires_grad());
  CHECK(holds(masked_select(x, x != 0.0), {3}, {2, 4, -5}));
  CHECK(holds(masked_select(x, tensor({true, false, true})), {4}, {0, 0, 4, 0}));
  CHECK(holds(masked_select(tensor({1.0, 2.0}), tensor({true, false}).reshape({2, 1})), {2}, {1, 2}));
  CHECK(holds(masked_select(full({}, 3), full({}, 1, {DType::bool_})), {1}, {3}));
  CHECK(masked_select(x, x > 100.0).shape() == Shape{0});
  CHECK(masked_select(zeros({0, 3}), tensor({true, true, false})).shape() == Shape{0});
  CHECK(masked_select(tensor<std::int32_t>({4, 5}), tensor({false, true})).dtype() == int32);
  // against a loop, long enough for several blocks of a scan
  const Tensor values = normal({3, 1111, 2}, 4), mask = bools({3, 1111, 2}, 5);
  const auto from = values.to_vector(), is_true = mask.to_vector();
  std::vector<double> chosen, indices;
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (is_true[i] == 0) continue;
    chosen.push_back(from[i]);
    for (const std::size_t place : {i / 2222, i / 2 % 1111, i % 2})
      indices.push_back(static_cast<double>(place));
  }
  const auto count = static_cast<std::int64_t>(chosen.size());
  CHECK(holds(masked_select(values, mask), {count}, chosen));
  CHECK(holds(nonzero(mask), {count, 3}, indices));
}

TEST_CASE("tril and triu: values") {
  const Tensor x = affine(arange(6), 1, 1).reshape({2, 3});
  CHECK(holds(tril(x), {2, 3}, {1, 0, 0, 4, 5, 0}));
  CHECK(holds(tril(x, 1), {2, 3}, {1, 2, 0, 4, 5, 6}));
  CHECK(holds(tril(x, -1), {2, 3}, {0, 0, 0, 4, 0, 0}));
  CHECK(holds(triu(x), {2, 3}, {1, 2, 3, 0, 5, 6}));
  CHECK(holds(triu(x, 2), {2, 3}, {0, 0, 3, 0, 0, 0}));
  for (const std::int64_t far : {INT64_MAX, std::int64_t{1} << 62, std::int64_t{5}}) {
    CHECK(same_bits(tril(x, far), x));
    CHECK(same_bits(triu(x, -far), x));
    CHECK(same_bits(tril(x, -far), zeros_like(x)));
    CHECK(same_bits(triu(x, far), zeros_like(x)));
  }
  CHECK(same_bits(triu(x, INT64_MIN), x));
  CHECK(holds(tril(ones({2, 2}, {DType::bool_})), {2, 2}, {1, 0, 1, 1}));
  CHECK(tril(zeros({2, 0, 3})).shape() == Shape{2, 0, 3});
}

TEST_CASE("masks: PyTorch's values") {
  CHECK(for_each_case("ops.safetensors", "masked_fill", [](const FixtureCase& c) {
          check_case(c, {"x", "value"},
                     [&](auto leaf) { return masked_fill(leaf.at("x"), mask_of(c), leaf.at("value")); });
        }) == 6);
  CHECK(for_each_case("ops.safetensors", "masked_fill_special", [](const FixtureCase& c) {
          const double value = std::stod(c.hyper["value"].get<std::string>());
          check_special_case(c, {"x"},
                             [&](auto leaf) { return masked_fill(leaf.at("x"), mask_of(c), value); });
        }) == 4);
  CHECK(for_each_case("ops.safetensors", "masked_select", [](const FixtureCase& c) {
          check_case(c, {"x"}, [&](auto leaf) { return masked_select(leaf.at("x"), mask_of(c)); });
        }) == 6);
  CHECK(for_each_case("ops.safetensors", "nonzero",
                      [](const FixtureCase& c) { CHECK(same_bits(nonzero(c["x"]), c["y"])); }) == 7);
  for (const auto& [name, f] : std::vector<std::pair<std::string, Tensor (*)(const Tensor&, std::int64_t)>>{
           {"tril", tril}, {"triu", triu}}) {
    CHECK(for_each_case("ops.safetensors", name, [f = f](const FixtureCase& c) {
            check_case(c, {"x"}, [&](auto leaf) { return f(leaf.at("x"), c.hyper["diagonal"]); });
          }) == 19);
    CHECK(for_each_case("ops.safetensors", name + "_special", [f = f](const FixtureCase& c) {
            check_special_case(c, {"x"}, [&](auto leaf) { return f(leaf.at("x"), 0); });
          }) == 2);
  }
}

TEST_CASE("masks: derivatives") {
  for (const auto& [shape, mask] : std::vector<std::pair<Shape, Shape>>{{{3, 4}, {3, 4}},
                                                                        {{3, 4}, {4}},
                                                                        {{4}, {3, 1}},
                                                                        {{0, 4}, {4}},
                                                                        {{1}, {1}},
                                                                        {{}, {}},
                                                                        {{2, 1, 3}, {2, 2, 1}}}) {
    const Tensor where = bools(mask, 7);
    check_derivatives([&](auto& v) { return masked_fill(v[0] * v[0], where, v[1] * v[1]); },
                      {normal(shape), normal({}, 2)});
    check_derivatives([&](auto& v) { return masked_select(v[0] * v[0], where); }, {normal(shape)});
  }
  for (const Shape& shape : {Shape{3, 4}, Shape{2, 3, 3}, Shape{1, 1}, Shape{0, 2}})
    for (const std::int64_t diagonal : {0, 1, -1}) {
      check_derivatives([=](auto& v) { return tril(v[0] * v[0], diagonal); }, {normal(shape)});
      check_derivatives([=](auto& v) { return triu(v[0] * v[0], diagonal); }, {normal(shape)});
    }
}

TEST_CASE("masks: replicas") {
  const Tensor w = normal({3, 4, 4}), mask = bools({4, 4}, 3);
  check_maps_replicas([](const Tensor& t) { return tril(t, -1); }, w);
  check_maps_replicas([](const Tensor& t) { return triu(t); }, w);
  check_maps_replicas([&](const Tensor& t) { return masked_fill(t, mask, 2); }, w);
  check_maps_replicas([&](const Tensor& t) { return masked_fill(t, mask[1], 2); }, w);
  check_maps_replicas([&](const Tensor& t) { return masked_fill(t, replicate(mask, t), 2); }, w);
  check_maps_replicas([&](const Tensor& t) { return masked_fill(t, replicate(mask[1], t), 2); }, w);
  const Tensor parameter = detail::add_replica_dim(w, plan_of(3));
  CHECK_ERROR(masked_fill(parameter, bools({2, 4, 4}, 1), 0), ReplicaError, "[masked_fill]", "[2, 4, 4]",
              "M = 3", "per_sample");
  CHECK_ERROR(masked_fill(detail::add_replica_dim(normal({3, 1, 4}), plan_of(3)), bools({2, 4}, 1), 0),
              ReplicaError, "[masked_fill]", "[2, 4]", "[1, 4]");
  CHECK_ERROR(masked_fill(w[0], replicate(mask, parameter), 0), ReplicaError, "[masked_fill]");
  CHECK_ERROR(masked_fill(parameter, detail::add_replica_dim(bools({3, 4, 4}, 1), plan_of(3)), 0),
              ReplicaError, "two different");
  CHECK_ERROR(masked_fill(w[0], mask, detail::add_replica_dim(normal({3}), plan_of(3))), ReplicaError,
              "[masked_fill]", "M = 3");
  CHECK_ERROR(masked_select(parameter, mask), ReplicaError, "[masked_select]", "M = 3");
  CHECK_ERROR(nonzero(parameter), ReplicaError, "[nonzero]", "M = 3");
}

TEST_CASE("masks: errors") {
  const Tensor x = zeros({2, 3}), mask = ones({2, 3}, {DType::bool_});
  CHECK_ERROR(masked_fill(x, x, 1), DTypeError, "[masked_fill]", "float32", "bool");
  CHECK_ERROR(masked_fill(x, ones({2}, {DType::bool_}), 1), ShapeError, "[2]", "[2, 3]");
  CHECK_ERROR(masked_fill(x, mask, zeros({1})), ShapeError, "[masked_fill]", "[1]", "rank 0");
  CHECK_ERROR(masked_fill(x, mask, zeros({}, {float64})), DTypeError, "float64");
  CHECK_ERROR(masked_fill(x.to(int32), mask, 0.5), DTypeError, "[masked_fill]", "int32", "0.5");
  CHECK_ERROR(masked_fill(x.to(uint8), mask, 300), DTypeError, "[masked_fill]", "uint8", "300");
  CHECK_ERROR(masked_fill(x.to(int64), mask, infinity), DTypeError, "[masked_fill]", "inf");
  CHECK_ERROR(masked_select(x, x), DTypeError, "[masked_select]", "float32", "bool");
  CHECK_ERROR(masked_select(x, ones({2}, {DType::bool_})), ShapeError, "[masked_select]", "[2]", "[2, 3]");
  CHECK_ERROR(tril(zeros({3})), ShapeError, "[tril]", "[3]");
  CHECK_ERROR(triu(full({}, 1)), ShapeError, "[triu]", "[]");
}

}  // namespace
}  // namespace lpf::test
