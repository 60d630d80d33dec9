#include "lpf/ops/index.hpp"

#include "fixture_case.hpp"
#include "lpf/ops/replicate.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

Tensor numbered(const Shape& shape) { return arange(shape.numel()).to(float64).reshape(shape); }
Tensor at(std::vector<std::int64_t> values, Shape shape) { return from_vector(values, shape); }
Tensor at(std::vector<std::int64_t> values) {
  return from_vector(values, {static_cast<std::int64_t>(values.size())});
}

}  // namespace

TEST_CASE("index_select") {
  const Tensor x = numbered({3, 2});
  CHECK(holds(index_select(x, 0, at({2, 0, 2})), {3, 2}, {4, 5, 0, 1, 4, 5}));
  CHECK(holds(index_select(x, 1, at({1, 1})), {3, 2}, {1, 1, 3, 3, 5, 5}));
  CHECK(holds(index_select(x, -1, at({0})), {3, 1}, {0, 2, 4}));
  CHECK(index_select(x, 0, at({})).shape() == Shape{0, 2});
  CHECK(index_select(zeros({0, 2}), 0, at({})).shape() == Shape{0, 2});
  CHECK(index_select(zeros({3, 0}), 0, at({1, 1})).shape() == Shape{2, 0});
  CHECK(index_select(tensor({true, false}), 0, at({1})).dtype() == DType::bool_);
  CHECK_INDEX_ERROR(index_select(x, 0, at({3})), "[index_select]", "index 3", "[0, 3)");
  CHECK_INDEX_ERROR(index_select(x, 0, at({0, -1})), "[index_select]", "index -1");
  CHECK_INDEX_ERROR(index_select(zeros({0, 2}), 0, at({0})), "[index_select]", "[0, 0)");
  CHECK_ERROR(index_select(x, 0, tensor<std::int32_t>({0})), DTypeError, "[index_select]", "int32", "int64");
  CHECK_ERROR(index_select(x, 0, at({0}, {1, 1})), ShapeError, "[index_select]", "[1, 1]", "rank 1");
  CHECK_ERROR(index_select(x, 2, at({0})), ShapeError, "[index_select]", "axis 2");
  for (const auto& [shape, axis] : std::vector<std::pair<Shape, int>>{
           {{3}, 0}, {{3, 2}, 0}, {{2, 3}, 1}, {{2, 3, 2}, 1}, {{2, 0, 3}, 2}, {{1, 3, 1, 2}, -3}})
    for (const auto& index : {at({0, 2, 2, 1}), at({1}), at({})})
      CHECK(wrong_derivatives([&, a = axis](auto& in) { return index_select(in[0] * in[0], a, index); },
                              {normal(shape)}) == "");
  const auto rearranged = [](const std::vector<Tensor>& in) {
    return index_select(slice(in[0].transpose(), 0, 0, 4, 2), 0, at({1, 0, 1}));
  };
  CHECK(wrong_derivatives(rearranged, {normal({3, 4})}) == "");
}

TEST_CASE("gather") {
  const Tensor x = numbered({2, 3});
  CHECK(holds(gather(x, 1, at({2, 0, 1, 1}, {2, 2})), {2, 2}, {2, 0, 4, 4}));
  CHECK(holds(gather(x, 0, at({1, 0, 1}, {1, 3})), {1, 3}, {3, 1, 5}));
  CHECK(holds(gather(x, -1, at({2, 0}, {2, 1})), {2, 1}, {2, 3}));
  CHECK(gather(x, 1, at({}, {2, 0})).shape() == Shape{2, 0});
  const Tensor y = numbered({2, 3, 4});
  const Tensor index = at({0, 1, 2, 0, 2, 2, 1, 1}, {2, 1, 4});
  const Tensor g = gather(y, 1, index);
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t k = 0; k < 4; ++k)
      CHECK(g[i][0][k].item() == y[i][index[i][0][k].item<std::int64_t>()][k].item());
  CHECK(holds(gather(x, 1, at({2, 1}, {1, 2})), {1, 2}, {2, 1}));  // a part of the rows
  CHECK_ERROR(gather(x, 1, at({0, 1, 0}, {3, 1})), ShapeError, "[gather]", "[3, 1]", "[2, 3]", "axis 1");
  CHECK_INDEX_ERROR(gather(x, 1, at({0, 3}, {2, 1})), "[gather]", "index 3", "[0, 3)");
  CHECK_ERROR(gather(x, 1, at({0, 1})), ShapeError, "[gather]", "[2]");
  CHECK_ERROR(gather(x, 1, tensor({0.0, 1.0}).reshape({2, 1})), DTypeError, "[gather]", "float64");
  CHECK(wrong_derivatives([&](auto& in) { return gather(in[0] * in[0], 1, index); }, {normal({2, 3, 4})}) ==
        "");
  CHECK(wrong_derivatives(
            [&](auto& in) {
              return gather(in[0] * in[0], 0, at({1, 1, 0, 1, 1, 1}, {2, 3}));
            },
            {normal({2, 3})}) == "");
  CHECK(wrong_derivatives(
            [&](auto& in) {
              return gather(in[0] * in[0], 1, at({}, {2, 0}));
            },
            {normal({2, 3})}) == "");
}

TEST_CASE("the adjoints: what is added twice counts twice") {
  CHECK(holds(detail::index_add(tensor({1.0, 2.0, 4.0}), {3}, 0, at({2, 0, 2})), {3}, {2, 0, 5}));
  CHECK(holds(
      detail::scatter_add(tensor({1.0, 2.0, 4.0, 8.0}).reshape({2, 2}), {2, 3}, 1, at({0, 0, 2, 1}, {2, 2})),
      {2, 3}, {3, 0, 0, 0, 8, 4}));
  CHECK(wrong_derivatives(
            [](auto& in) {
              return detail::index_add(in[0] * in[0], {2, 4}, 1, at({3, 3, 0}));
            },
            {normal({2, 3})}) == "");
  CHECK(wrong_derivatives(
            [](auto& in) {
              return detail::scatter_add(in[0] * in[0], {2, 4}, 1, at({3, 3, 0, 1}, {2, 2}));
            },
            {normal({2, 2})}) == "");
}

TEST_CASE("amax and amin") {
  const Tensor x = tensor({1.0, 5.0, 2.0, 4.0, 0.0, 6.0}).reshape({2, 3});
  CHECK(holds(amax(x, 1), {2}, {5, 6}));
  CHECK(holds(amax(x, 0), {3}, {4, 5, 6}));
  CHECK(holds(amin(x, -1, true), {2, 1}, {1, 0}));
  CHECK(holds(amax(x, {0, 1}), {}, {6}));
  CHECK(holds(amin(x, {-1, -2}, true), {1, 1}, {0}));
  CHECK(holds(amax(x, {1}), {2}, {5, 6}));
  CHECK(holds(amax(x, {}), {}, {6}));  // all axes, not axis 0
  CHECK(holds(amin(x), {}, {0}));
  CHECK(holds(amax(x.reshape({1, 2, 3}), {0, 2}), {2}, {5, 6}));
  CHECK(holds(amax(full({}, 3)), {}, {3}));
  CHECK(x.max().item() == 6);
  CHECK(x.min().item() == 0);
  CHECK(x.max().shape() == Shape{});
  CHECK(full({}, 3).max().item() == 3);
  CHECK(std::isnan(tensor({1.0, not_a_number, 2.0}).max().item()));
  CHECK(std::isnan(tensor({1.0, not_a_number, 2.0}).min().item()));
  CHECK(tensor<std::int64_t>({3, 7}).max().item() == 7);
  CHECK(holds(amin(tensor({true, false}), 0), {}, {0}));
  CHECK(amax(tensor<std::uint8_t>({3, 200}), 0).dtype() == uint8);
  const Tensor tie = tensor({2.0, 2.0, 1.0}).requires_grad_();
  CHECK(holds(grad(amax(tie, 0), {tie})[0], {3}, {0.5, 0.5, 0}));
  CHECK(holds(grad(tie.max(), {tie})[0], {3}, {0.5, 0.5, 0}));
  CHECK(amax(zeros({0, 3}), 1).shape() == Shape{0});
  CHECK_ERROR(amax(zeros({0, 3}), 0), ShapeError, "[amax]", "axis 0", "[0, 3]", "empty");
  CHECK_ERROR(amax(zeros({0, 3})), ShapeError, "[amax]", "axis 0", "empty");
  CHECK_ERROR(amin(zeros({2, 0}), -1), ShapeError, "[amin]", "axis 1", "empty");
  CHECK_ERROR(amax(x, 2), ShapeError, "[amax]", "axis 2");
  CHECK_ERROR(amax(x, {0, -2}), ShapeError, "[amax]", "twice");
  CHECK_ERROR(amax(full({}, 3), 0), ShapeError, "[amax]", "rank 0");
  CHECK_ERROR(zeros({0}).max(), ShapeError, "empty");
  for (const auto& [shape, axis] : std::vector<std::pair<Shape, int>>{
           {{4}, 0}, {{1}, 0}, {{3, 2}, 0}, {{3, 2}, 1}, {{2, 3, 2}, 1}, {{0, 3}, 1}, {{1, 2, 1, 3}, 3}}) {
    CHECK(wrong_derivatives([a = axis](auto& in) { return amax(in[0] * in[0], a); }, {normal(shape)}) == "");
    CHECK(wrong_derivatives([a = axis](auto& in) { return amin(in[0] * in[0], a, true); }, {normal(shape)}) ==
          "");
  }
  for (const Axes& axes : {Axes{}, Axes{0, 2}, Axes{-1, 1}, Axes{0, 1}})
    CHECK(wrong_derivatives([&](auto& in) { return amax(in[0] * in[0], axes) * amin(in[0], axes); },
                            {normal({2, 3, 2})}) == "");
  CHECK(wrong_derivatives([](auto& in) { return in[0].max() * in[0].min(); }, {normal({2, 3})}) == "");
}

TEST_CASE("amax and amin: the same over rows and over columns") {
  for (const DType type : {float32, float64, int64, uint8}) {
    const Tensor x = affine(abs(normal({37, 150})), 9, 0).to(type);  // with ties
    if (is_floating(type)) {
      const Tensor special = tensor({not_a_number, infinity, -infinity, 0.0, -0.0, not_a_number}).to(type);
      for (std::int64_t i = 0; i < 36; ++i) slice(x[i], 0, 3 * i, 3 * i + 6).copy_(special);
    }
    const Tensor rows = x.transpose();
    CHECK(same_bits(amax(x, 0), amax(rows, 1)));
    CHECK(same_bits(amin(x, 0), amin(rows, 1)));
    CHECK(same_bits(amax(x, 0), reshape(gather(x, 0, argmax(x, 0, true)), {150})));
    check_same_for_any_threads([&] { return std::vector<Tensor>{amax(x, 0), amin(x, 0)}; });
  }
}

TEST_CASE("amax and amin: PyTorch's values") {
  for (const auto& [name, f] :
       std::vector<std::pair<std::string, Tensor (*)(const Tensor&, const Axes&, bool)>>{{"amax", amax},
                                                                                         {"amin", amin}}) {
    CHECK(for_each_case("ops.safetensors", name, [f = f](const FixtureCase& c) {
            check_case(c, {"x"}, [&](auto leaf) {
              return f(leaf.at("x"), c.hyper["axes"].get<Axes>(), c.hyper["keepdim"]);
            });
          }) == 10);
    CHECK(for_each_case("ops.safetensors", name + "_special", [f = f](const FixtureCase& c) {
            check_special_case(c, {"x"}, [&](auto leaf) { return f(leaf.at("x"), {1}, false); });
          }) == 2);
  }
}

TEST_CASE("amax and amin of replicas: each its own") {
  check_maps_replicas([](const Tensor& w) { return amax(w, 0); }, normal({3, 2, 4}));
  check_maps_replicas([](const Tensor& w) { return amin(w, {-1, 0}, true); }, normal({2, 2, 3, 2}));
  check_maps_replicas([](const Tensor& w) { return w.max() * amin(w); }, normal({2, 5}));
  check_maps_replicas([](const Tensor& w) { return amax(w); }, normal({3}));  // of scalars
}

TEST_CASE("one_hot") {
  CHECK(holds(one_hot(at({2, 0}), 3), {2, 3}, {0, 0, 1, 1, 0, 0}));
  CHECK(one_hot(at({2, 0}), 3).dtype() == float32);
  CHECK(one_hot(at({1, 0, 1, 1}, {2, 2}), 2, float64).shape() == Shape{2, 2, 2});
  CHECK(one_hot(at({}), 3).shape() == Shape{0, 3});
  CHECK(one_hot(at({7}), 1000000).shape() == Shape{1, 1000000});  // needs no memory of a million squared
  CHECK(one_hot(at({1}), 2, int64).dtype() == int64);
  CHECK_INDEX_ERROR(one_hot(at({3}), 3), "[one_hot]", "index 3", "[0, 3)");
  CHECK_ERROR(one_hot(at({}), -1), ValueError, "[one_hot]", "-1");
  CHECK_ERROR(one_hot(tensor({1.0}), 3), DTypeError, "[one_hot]", "float64");
}

TEST_CASE("indexing replicas: other axes, the first is refused by name") {
  const Tensor all = normal({2, 3, 2}), w = detail::add_replica_dim(all, std::make_shared<ReplicaPlan>(2));
  CHECK(same_bits(detail::remove_replica_dim(index_select(w, 1, at({1, 0, 1}))),
                  index_select(all, 2, at({1, 0, 1}))));
  CHECK_ERROR(index_select(w, 0, at({0})), ReplicaError, "[index_select]", "1 rows of a perturbed parameter",
              "embedding()", "Embedding::rows()");
  CHECK_ERROR(gather(w, 0, at({0, 0}, {1, 2})), ReplicaError, "[gather]");
}
