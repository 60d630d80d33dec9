#include "lpf/ops/scatter.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

Tensor ints(std::vector<std::int64_t> values, Shape shape) { return from_vector(values, shape); }
Tensor ints(std::vector<std::int64_t> values) {
  return from_vector(values, {static_cast<std::int64_t>(values.size())});
}
int axis_of(const FixtureCase& c) { return c.hyper["axis"].get<int>(); }

TEST_CASE("scatter: the last of several entries for one place counts, in value and gradient") {
  const Tensor x = tensor({1.0, 2.0, 3.0});
  CHECK(holds(scatter(x, 0, ints({2, 0, 2}), tensor({4.0, 5.0, 6.0})), {3}, {5, 2, 6}));
  CHECK(holds(scatter(x, 0, ints({1}), 9), {3}, {1, 9, 3}));
  CHECK(holds(x, {3}, {1, 2, 3}));  // x is unchanged
  const Tensor source = tensor({4.0, 5.0, 6.0}).requires_grad_(), input = x.clone().requires_grad_();
  const Tensor y = scatter(input, 0, ints({2, 0, 2}), source);
  const auto grads = grad(y, {input, source}, {.gradient = tensor({1.0, 2.0, 3.0})});
  CHECK(holds(grads[0], {3}, {0, 2, 0}));
  CHECK(holds(grads[1], {3}, {0, 1, 3}));
  CHECK(holds(scatter(zeros({2, 2}), 1, ints({1, 0}, {2, 1}), 1), {2, 2}, {0, 1, 1, 0}));
  CHECK(holds(scatter(tensor({true, true, true}), 0, ints({1}), 0), {3}, {1, 0, 1}));
  CHECK(holds(scatter(tensor<std::uint8_t>({1, 2}), 0, ints({1}), 255), {2}, {1, 255}));
  CHECK(holds(scatter(x, 0, ints({}), tensor<double>({})), {3}, {1, 2, 3}));
  CHECK(scatter(zeros({0, 2}), 1, ints({}, {0, 2}), 1).shape() == Shape{0, 2});
  // the index covers a part of both
  CHECK(holds(scatter(zeros({2, 3}), 1, ints({2, 0}, {1, 2}), ones({2, 3})), {2, 3}, {1, 0, 1, 0, 0, 0}));
}

TEST_CASE("scatter_add and index_add: values") {
  const Tensor x = tensor({1.0, 2.0, 3.0});
  CHECK(holds(scatter_add(x, 0, ints({2, 0, 2}), tensor({4.0, 5.0, 6.0})), {3}, {6, 2, 13}));
  CHECK(holds(index_add(x, 0, ints({2, 0, 2}), tensor({4.0, 5.0, 6.0}), 2), {3}, {11, 2, 23}));
  CHECK(holds(index_add(zeros({2, 3}), 1, ints({2, 2}), ones({2, 2})), {2, 3}, {0, 0, 2, 0, 0, 2}));
  for (const DType type : {uint8, int32, int64}) {
    const Tensor whole = tensor({1.0, 2.0, 3.0}).to(type);
    CHECK(holds(scatter_add(whole, 0, ints({1, 1}), whole), {3}, {1, 5, 3}));
    CHECK(holds(index_add(whole, 0, ints({1, 1}), slice(whole, 0, 0, 2), 3), {3}, {1, 11, 3}));
    CHECK(index_add(whole, 0, ints({1}), slice(whole, 0, 0, 1)).dtype() == type);
  }
  CHECK(holds(index_add(reshape(arange(6), {2, 3}), 0, ints({0, 0}), reshape(arange(6), {2, 3})), {2, 3},
              {3, 6, 9, 3, 4, 5}));
  // in the order of the index, beginning with x
  const Tensor big = tensor({1e16});
  CHECK(scatter_add(big, 0, ints({0, 0}), tensor({-1e16, 1.0})).item() == 1);
  CHECK(index_add(big, 0, ints({0, 0}), tensor({-1e16, 1.0})).item() == 1);
}

TEST_CASE("index_select, gather, scatter, scatter_add, index_add: PyTorch's values") {
  const auto run = [](const char* op, const std::vector<std::string>& names, auto f) {
    return for_each_case("ops.safetensors", op, [&](const FixtureCase& c) {
      check_case(c, names, [&](auto leaf) { return f(c, leaf.at("x"), leaf); });
    });
  };
  CHECK(run("index_select", {"x"}, [](const FixtureCase& c, const Tensor& x, const auto&) {
          return index_select(x, axis_of(c), c["index"]);
        }) == 3);
  CHECK(run("gather", {"x"}, [](const FixtureCase& c, const Tensor& x, const auto&) {
          return gather(x, axis_of(c), c["index"]);
        }) == 5);
  CHECK(run("scatter", {"x", "source"}, [](const FixtureCase& c, const Tensor& x, const auto& leaf) {
          return scatter(x, axis_of(c), c["index"], leaf.at("source"));
        }) == 5);
  CHECK(run("scatter_add", {"x", "source"}, [](const FixtureCase& c, const Tensor& x, const auto& leaf) {
          return scatter_add(x, axis_of(c), c["index"], leaf.at("source"));
        }) == 5);
  CHECK(run("index_add", {"x", "source"}, [](const FixtureCase& c, const Tensor& x, const auto& leaf) {
          return index_add(x, axis_of(c), c["index"], leaf.at("source"), c.hyper["alpha"]);
        }) == 6);
  for (const auto& [op, f] :
       std::vector<std::pair<const char*, Tensor (*)(const Tensor&, int, const Tensor&, const Tensor&)>>{
           {"scatter_part", scatter}, {"scatter_add_part", scatter_add}})
    CHECK(for_each_case("ops.safetensors", op, [&, f = f](const FixtureCase& c) {
            CHECK(relative_error(f(c["x"], axis_of(c), c["index"], c["source"]), c["y"]) < 1e-15);
          }) == 4);
}

TEST_CASE("scatter, scatter_add, index_add: derivatives, also with places named twice") {
  struct Case {
    Shape x, index, source;
    int axis;
  };
  for (const Case& k : {Case{{5}, {4}, {4}, 0}, Case{{1}, {3}, {3}, 0}, Case{{3, 4}, {3, 5}, {3, 5}, 1},
                        Case{{3, 4}, {2, 4}, {3, 4}, 0}, Case{{2, 3, 3}, {2, 4, 2}, {2, 5, 3}, 1},
                        Case{{3, 4}, {3, 0}, {3, 2}, -1}, Case{{0, 3}, {0, 2}, {0, 2}, 1}}) {
    const int axis = normalize_axis("", k.axis, k.x.rank());
    const Tensor index = integers(k.index, [&](std::int64_t i) { return (i * i + i) % k.x[axis]; });
    CAPTURE(k.x.to_string());
    check_derivatives([&](auto& v) { return scatter(v[0] * v[0], k.axis, index, v[1] * v[1]); },
                      {normal(k.x), normal(k.source, 2)});
    check_derivatives([&](auto& v) { return scatter_add(v[0] * v[0], k.axis, index, v[1] * v[1]); },
                      {normal(k.x), normal(k.source, 2)});
    check_derivatives([&](auto& v) { return scatter(v[0] * v[0], k.axis, index, 2); }, {normal(k.x)});
  }
  for (const auto& [shape, axis] :
       std::vector<std::pair<Shape, int>>{{{4}, 0}, {{3, 2}, 0}, {{2, 4}, 1}, {{2, 3, 2}, 1}, {{3, 0}, 0}}) {
    const Tensor index = ints({0, 2, 2, 0});
    check_derivatives([&, a = axis](auto& v) { return index_add(v[0] * v[0], a, index, v[1] * v[1], -0.5); },
                      {normal(shape), normal(shape.with(axis, 4), 2)});
  }
}

TEST_CASE("scatter, scatter_add, index_add: errors") {
  const Tensor x = zeros({2, 3}), index = ints({0, 1}, {2, 1}), one = zeros({2, 1});
  CHECK_INDEX_ERROR(scatter(x, 1, ints({0, 3}, {2, 1}), one), "[scatter]", "index 3", "[0, 3)");
  CHECK_INDEX_ERROR(scatter_add(x, 1, ints({0, -1}, {2, 1}), one), "[scatter_add]", "index -1");
  CHECK_INDEX_ERROR(index_add(x, 0, ints({2}), zeros({1, 3})), "[index_add]", "index 2", "[0, 2)");
  CHECK_ERROR(scatter(x, 2, index, one), ShapeError, "[scatter]", "axis 2");
  CHECK_ERROR(scatter(x, 1, ints({0, 1}), one), ShapeError, "[scatter]", "[2]", "[2, 3]");
  CHECK_ERROR(scatter(x, 1, ints({0, 1, 0}, {3, 1}), zeros({3, 1})), ShapeError, "[scatter]", "[3, 1]",
              "[2, 3]");
  CHECK_ERROR(scatter(x, 1, index, zeros({1, 1})), ShapeError, "[scatter]", "source [1, 1]");
  CHECK_ERROR(scatter(x, 1, index, one.to(float64)), DTypeError, "[scatter]", "float64");
  CHECK_ERROR(scatter(x, 1, index.to(int32), one), DTypeError, "[scatter]", "int32", "int64");
  CHECK_ERROR(scatter(x.to(int32), 1, index, 0.5), DTypeError, "[scatter]", "int32", "0.5");
  CHECK_ERROR(scatter_add(x.to(DType::bool_), 1, index, one.to(DType::bool_)), DTypeError, "[scatter_add]",
              "bool");
  CHECK_ERROR(index_add(x, 0, index, x), ShapeError, "[index_add]", "[2, 1]", "rank 1");
  CHECK_ERROR(index_add(x, 0, ints({1}), zeros({2, 3})), ShapeError, "[index_add]", "[2, 3]", "[1, 3]");
  CHECK_ERROR(index_add(x.to(int32), 0, ints({1}), zeros({1, 3}, {int32}), 0.5), DTypeError, "0.5");
  CHECK_ERROR(index_add(x.to(DType::bool_), 0, ints({1}), zeros({1, 3}, {DType::bool_})), DTypeError, "bool");
  const Tensor w = detail::add_replica_dim(zeros({4, 2, 3}), plan_of(4));
  CHECK_ERROR(scatter(w, 1, index, one), ReplicaError, "[scatter]", "M = 4");
  CHECK_ERROR(scatter_add(x, 1, index, w), ReplicaError, "[scatter_add]", "M = 4");
  CHECK_ERROR(index_add(w, 0, ints({1}), zeros({1, 3})), ReplicaError, "[index_add]", "M = 4");
}

}  // namespace
}  // namespace lpf::test
