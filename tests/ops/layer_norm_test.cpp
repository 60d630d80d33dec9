#include "lpf/ops/layer_norm.hpp"

#include "fixture_case.hpp"
#include "lpf/backend/threads.hpp"

namespace lpf::test {
namespace {

/// Layer norm by its definition, composed of elementary operations.
Tensor reference(const Tensor& x, int axes, double eps) {
  Axes over;
  for (int i = x.rank() - axes; i < x.rank(); ++i) over.push_back(i);
  const Tensor centred = sub(x, mean(x, over, true));
  return div(centred, sqrt(mean(square(centred), over, true) + eps));
}

TEST_CASE("layer_norm: against the definition") {
  const double eps = 1e-3;
  for (const Shape& shape :
       {Shape{4, 6}, Shape{5}, Shape{3, 1}, Shape{2, 3, 5}, Shape{3, 4, 5}, Shape{2, 5000}, Shape{300, 7}})
    for (int axes = 1; axes <= shape.rank(); ++axes) {
      const Shape own = shape.slice(shape.rank() - axes, shape.rank());
      const Tensor x = normal(shape) * 2.0 + 1.0, weight = normal(own, 2), bias = normal(own, 3);
      const Tensor expected = reference(x, axes, eps);
      CHECK(relative_error(layer_norm(x, own, {}, {}, eps), expected) < 1e-13);
      CHECK(relative_error(layer_norm(x, weight, bias, eps), add(mul(expected, weight), bias)) < 1e-13);
      CHECK(relative_error(layer_norm(x, weight, {}, eps), mul(expected, weight)) < 1e-13);
      CHECK(relative_error(layer_norm(x, {}, bias, eps), add(expected, bias)) < 1e-13);
      CHECK(relative_error(layer_norm(x.to(float32), weight.to(float32), {}, eps).to(float64),
                           mul(expected, weight)) < 1e-5);
    }
  CHECK(relative_error(layer_norm(normal({4, 6}), {}, {}), reference(normal({4, 6}), 1, 1e-5)) < 1e-13);
}

TEST_CASE("layer_norm: derivatives, fused and composed") {
  for (const Shape& shape : {Shape{3, 4}, Shape{4}, Shape{2, 1}, Shape{2, 2, 3}, Shape{0, 3}, Shape{2, 20}}) {
    const Shape own{shape[shape.rank() - 1]};
    const Tensor x = normal(shape), weight = normal(own, 2), bias = normal(own, 3);
    check_derivatives([](auto& v) { return layer_norm(v[0], v[1], v[2], 0.1); }, {x, weight, bias});
    check_derivatives([](auto& v) { return layer_norm(v[0], {}, {}, 0.1); }, {x});
    check_derivatives([](auto& v) { return layer_norm(v[0], v[1], {}, 0.1); }, {x, weight});
    check_derivatives([](auto& v) { return layer_norm(v[0], {}, v[1], 0.1); }, {x, bias});
    check_derivatives([&](auto& v) { return layer_norm(x, v[0], v[1], 0.1); }, {weight, bias});
  }
  check_derivatives([](auto& v) { return layer_norm(v[0], v[1], v[2], 0.1); },
                    {normal({2, 3, 2}), normal({3, 2}, 2), normal({3, 2}, 3)});
  check_derivatives([](auto& v) { return layer_norm(v[0], {}, {}); }, {zeros({3, 0}, {.dtype = float64})});
}

TEST_CASE("layer_norm: one pass over replicas is their separate passes") {
  const std::int64_t M = 3, batch = 7;
  for (const Shape& own : {Shape{5}, Shape{2, 5}})
    for (const int kind : {0, 1, 2}) {  // both replicated; weight plain; bias absent
      const auto plan = std::make_shared<ReplicaPlan>(M);
      const auto slices = Slices(plan->count(), batch).boundaries();
      const Shape sample = Shape{4, 2, 5};
      const Tensor x = normal(sample.prepended(batch)),
                   all_weight = normal(own.prepended(kind == 1 ? 1 : M), 2),
                   all_bias = normal(own.prepended(M), 3), g = normal(x.shape(), 4);
      const auto y = [&](const std::vector<Tensor>& v) {
        return layer_norm(v[0], own, kind == 1 ? v[1][0] : detail::add_replica_dim(v[1], plan),
                          kind == 2 ? Tensor() : detail::add_replica_dim(v[2], plan));
      };
      const std::vector<Tensor> leaves{x.clone().requires_grad_(), all_weight.clone().requires_grad_(),
                                       all_bias.clone().requires_grad_()};
      const Tensor one = y(leaves);
      Tensor sum_weight = zeros(own, x.options());
      for (const bool create_graph : {false, true}) {
        const auto grads =
            grad(one, leaves, {.create_graph = create_graph, .retain_graph = true, .gradient = g});
        sum_weight.zero_();
        for (std::int64_t r = 0; r < M; ++r) {
          const auto from = slices[static_cast<std::size_t>(r)], to = slices[static_cast<std::size_t>(r) + 1];
          const auto part = [&](const Tensor& t) { return slice(t.detach(), 0, from, to); };
          const Tensor own_x = part(x).clone().requires_grad_(),
                       weight = all_weight[kind == 1 ? 0 : r].clone().requires_grad_(),
                       bias = all_bias[r].clone().requires_grad_();
          const Tensor alone = layer_norm(own_x, own, weight, kind == 2 ? Tensor() : bias);
          const auto expected = grad(alone, {own_x, weight, bias}, {.gradient = part(g)});
          CHECK(relative_error(part(one), alone) < 1e-14);
          CHECK(relative_error(part(grads[0]), expected[0]) < 1e-13);
          CHECK(relative_error(grads[2].detach()[r], expected[2]) < 1e-13);
          sum_weight = add(sum_weight, expected[1]);
          if (kind != 1) CHECK(relative_error(grads[1].detach()[r], expected[1]) < 1e-13);
        }
        CHECK(relative_error(sum(grads[1].detach(), {0}), sum_weight) < 1e-12);
      }
    }
  const auto plan = std::make_shared<ReplicaPlan>(2);
  check_derivatives(
      [&](auto& v) {
        return layer_norm(v[0], detail::add_replica_dim(v[1], plan), detail::add_replica_dim(v[2], plan),
                          0.1);
      },
      {normal({3, 2, 2}), normal({2, 2}, 2), normal({2, 2}, 3)});
}

TEST_CASE("layer_norm: a large mean costs no digits, and bits do not depend on threads") {
  const Tensor spread = affine(round(affine(normal({3, 400}), 256, 0)), 1.0 / 256, 0);  // exact in float32
  CHECK(relative_error(layer_norm(affine(spread, 1, 1e4).to(float32), {}, {}).to(float64),
                       layer_norm(spread, {}, {})) < 2e-3);
  CHECK(relative_error(layer_norm(affine(spread, 1, 1e9), {}, {}), layer_norm(spread, {}, {})) < 1e-6);
  for (const Shape& shape : {Shape{2, 90000}, Shape{700, 33}}) {
    const Shape own{shape[1]};
    const Tensor x = normal(shape, 1, float32).requires_grad_(), g = normal(shape, 2, float32),
                 weight = normal(own, 3, float32).requires_grad_(),
                 bias = normal(own, 4, float32).requires_grad_();
    std::vector<Tensor> results;
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      const Tensor y = layer_norm(x, weight, bias);
      results.push_back(y.detach());
      for (const Tensor& t : grad(y, {x, weight, bias}, {.gradient = g})) results.push_back(t);
    }
    set_num_threads(0);
    for (std::size_t i = 4; i < results.size(); ++i) CHECK(same_bits(results[i], results[i % 4]));
  }
}

TEST_CASE("layer_norm: PyTorch's values") {
  const int cases = for_each_case("layers.safetensors", "layer_norm", [](const FixtureCase& c) {
    const std::vector<std::int64_t> sizes = c.hyper["normalized_shape"];
    check_case(c, {"x", "weight", "bias"}, [&](auto leaf) {
      return layer_norm(leaf.at("x"), Shape(sizes), leaf.at("weight"), leaf.at("bias"), c.hyper["eps"]);
    });
  });
  CHECK(cases == 6);
}

TEST_CASE("layer_norm: errors") {
  CHECK_ERROR(layer_norm(normal({2, 3}), normal({4}), {}), ShapeError, "[layer_norm]", "[2, 3]", "[4]");
  CHECK_ERROR(layer_norm(normal({2, 3}), Shape{3}, {}, normal({2})), ShapeError, "bias", "[2]", "[3]");
  CHECK_ERROR(layer_norm(normal({3}), normal({2, 3}), {}), ShapeError, "layer_norm");
  CHECK_ERROR(layer_norm(normal({3}), Shape{}, {}, {}), ShapeError, "layer_norm");
  CHECK_ERROR(layer_norm(full({}, 1), {}, {}), ShapeError, "scalar");
  CHECK_ERROR(layer_norm(normal({2, 3}), normal({3}, 1, float32), {}), DTypeError, "layer_norm");
  CHECK_ERROR(layer_norm(reshape(arange(6), {2, 3}), {}, {}), DTypeError, "int64");
  const Tensor weight = detail::add_replica_dim(normal({2, 3}), std::make_shared<ReplicaPlan>(2));
  CHECK_ERROR(layer_norm(normal({3}), weight, {}), ShapeError, "batch axis");
}

}  // namespace
}  // namespace lpf::test
