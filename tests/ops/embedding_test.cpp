#include "lpf/ops/embedding.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

Tensor indices(const std::vector<std::int64_t>& values, const Shape& shape) {
  return from_vector(values, shape);
}

TEST_CASE("embedding: rows by their numbers") {
  const Tensor weight = normal({6, 3});
  for (const Shape& shape : {Shape{4}, Shape{2, 2}, Shape{2, 1, 2}}) {
    const Tensor y = embedding(indices({5, 0, 3, 3}, shape), weight);
    CHECK(y.rank() == shape.rank() + 1);
    const Tensor rows = reshape(y, {4, 3});
    const std::int64_t expected[] = {5, 0, 3, 3};
    for (std::int64_t i = 0; i < 4; ++i) CHECK(same_bits(rows[i], weight[expected[i]]));
  }
  CHECK(same_bits(embedding(indices({4}, {}), weight), weight[4]));
  CHECK(embedding(indices({}, {0, 5}), weight).shape() == Shape{0, 5, 3});
  CHECK(embedding(indices({0, 0}, {2}), normal({1, 0})).shape() == Shape{2, 0});
}

TEST_CASE("embedding: derivatives") {
  const auto twice = [](const Tensor& y) { return mul(y, y); };  // with a second derivative
  for (const auto& index :
       {indices({0, 3, 3, 1, 3, 0}, {2, 3}), indices({2}, {}), indices({}, {0}), indices({1}, {1, 1})}) {
    check_derivatives([&](auto& w) { return twice(embedding(index, w[0])); }, {normal({4, 2})});
    check_derivatives([&](auto& w) { return embedding(index, w[0]); }, {normal({4, 2})});
  }
}

TEST_CASE("embedding: the padding row is read, but has no gradient") {
  const Tensor weight = normal({4, 2}).requires_grad_(), index = indices({1, 3, 1, 0}, {4}),
               g = normal({4, 2}, 2);
  for (const std::int64_t padding : {1, -3}) {
    const Tensor y = embedding(index, weight, {.padding_idx = padding});
    CHECK(same_bits(y.detach(), embedding(index, weight).detach()));
    for (const bool create_graph : {false, true}) {
      const Tensor d =
          grad(y, {weight}, {.create_graph = create_graph, .retain_graph = true, .gradient = g})[0].detach();
      CHECK(same_bits(d[3], g[1]));
      CHECK(same_bits(d[0], g[3]));
      CHECK(holds(d[1], {2}, {0, 0}));
      CHECK(holds(d[2], {2}, {0, 0}));
    }
  }
  // the gradient of the other rows is differentiable
  const Tensor squares = sum(pow(embedding(index, weight, {.padding_idx = 1}), 3));
  const Tensor first = grad(squares, {weight}, {.create_graph = true})[0];
  const Tensor second = grad(sum(first), {weight})[0];
  CHECK(relative_error(second[3], affine(weight.detach()[3], 6, 0)) < 1e-14);
  CHECK(holds(second[1], {2}, {0, 0}));
}

TEST_CASE("embedding: one pass over replicas is their separate passes") {
  const std::int64_t M = 3, entries = 5;
  const Tensor index = indices({0, 4, 1, 1, 2, 0, 4, 4, 3, 0, 1, 1, 1, 4}, {7, 2});
  for (const auto padding : {std::optional<std::int64_t>{}, std::optional<std::int64_t>{4}})
    for (const bool summed : {false, true}) {
      const auto plan = std::make_shared<ReplicaPlan>(M);
      const auto slices = Slices(plan->count(), 7).boundaries();
      const Tensor all = normal({M, entries, 3}).requires_grad_(), g = normal({7, 2, 3}, 2);
      Tensor w = detail::add_replica_dim(all, plan), arrived;
      if (summed) {  // a pass with one gradient for all replicas
        Tensor t = all.alias({entries, 3});
        t.impl().replicas = plan;
        t.impl().sum_gradient = true;
        w = record("summed", std::move(t), {all}, [&arrived](const Tensor& d, Need) {
          arrived = d;
          return Grads{Tensor()};
        });
      }
      const Tensor y = embedding(index, w, {.padding_idx = padding});
      for (const bool create_graph : {false, true}) {
        const auto d =
            grad(y, {all}, {.create_graph = create_graph, .retain_graph = true, .gradient = g})[0].detach();
        Tensor total = zeros({entries, 3}, all.options());
        for (std::int64_t r = 0; r < M; ++r) {
          const auto from = slices[static_cast<std::size_t>(r)], to = slices[static_cast<std::size_t>(r) + 1];
          const Tensor own = all.detach()[r].clone().requires_grad_();
          const Tensor alone = embedding(slice(index, 0, from, to), own, {.padding_idx = padding});
          CHECK(same_bits(slice(y.detach(), 0, from, to), alone.detach()));
          const Tensor expected = grad(alone, {own}, {.gradient = slice(g, 0, from, to)})[0];
          if (!summed) CHECK(same_bits(d[r], expected));
          total = add(total, expected);
        }
        if (summed) {
          CHECK(!arrived.is_replicated());
          CHECK(relative_error(arrived.detach(), total) < 1e-14);
        }
      }
    }
  const auto plan = std::make_shared<ReplicaPlan>(2);
  check_derivatives(
      [&](auto& w) {
        const Tensor y = embedding(indices({0, 1, 1, 2, 0, 1}, {3, 2}), detail::add_replica_dim(w[0], plan));
        return mul(y, y);
      },
      {normal({2, 3, 2})});
}

TEST_CASE("embedding: PyTorch's values") {
  const int cases = for_each_case("layers.safetensors", "embedding", [](const FixtureCase& c) {
    EmbeddingOptions options;
    if (!c.hyper["padding_idx"].is_null()) options.padding_idx = c.hyper["padding_idx"];
    check_case(c, {"weight"}, [&](auto leaf) { return embedding(c["index"], leaf.at("weight"), options); });
  });
  CHECK(cases == 3);
}

TEST_CASE("embedding: errors") {
  const Tensor weight = normal({6, 3});
  CHECK_INDEX_ERROR(embedding(indices({0, 6}, {2}), weight), "[embedding]", "6", "[0, 6)");
  CHECK_INDEX_ERROR(embedding(indices({-1}, {1}), weight), "-1");
  CHECK_ERROR(embedding(normal({2}), weight), DTypeError, "float64", "int64");
  CHECK_ERROR(embedding(indices({0}, {1}), normal({6})), ShapeError, "[entries, features]", "[6]");
  CHECK_ERROR(embedding(indices({0}, {1}), reshape(arange(4), {2, 2})), DTypeError, "embedding");
  CHECK_ERROR(embedding(indices({0}, {1}), weight, {.padding_idx = 6}), IndexError, "padding_idx 6",
              "6 rows");
  CHECK_ERROR(embedding(indices({0}, {1}), weight, {.padding_idx = -7}), IndexError, "padding_idx -7");
  const Tensor replicated = detail::add_replica_dim(normal({3, 6, 2}), std::make_shared<ReplicaPlan>(3));
  CHECK_ERROR(embedding(indices({0}, {}), replicated), ShapeError, "batch axis");
  CHECK_ERROR(embedding(indices({0, 1}, {2}), replicated), ShapeError, "M = 3");
}

}  // namespace
}  // namespace lpf::test
