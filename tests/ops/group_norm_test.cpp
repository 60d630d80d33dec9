#include "lpf/ops/group_norm.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

/// Group norm by its definition, in plain loops.
Tensor group_norm_by_loops(const Tensor& x_, std::int64_t groups, double eps) {
  const Tensor x = on_host(x_);
  const std::int64_t samples = x.shape()[0], c = x.shape()[x.rank() - 1],
                     positions = x.shape().product(1, x.rank() - 1);
  std::vector<double> values = x.to_vector();
  const auto at = [&](std::int64_t b, std::int64_t p, std::int64_t k) -> double& {
    return values[static_cast<std::size_t>((b * positions + p) * c + k)];
  };
  const std::int64_t each = c / groups, n = positions * each;
  for (std::int64_t b = 0; b < samples; ++b)
    for (std::int64_t g = 0; g < groups; ++g) {
      double mean = 0, variance = 0;
      for (std::int64_t i = 0; i < n; ++i)
        mean += at(b, i / each, g * each + i % each) / static_cast<double>(n);
      for (std::int64_t i = 0; i < n; ++i)
        variance += std::pow(at(b, i / each, g * each + i % each) - mean, 2) / static_cast<double>(n);
      for (std::int64_t i = 0; i < n; ++i) {
        double& v = at(b, i / each, g * each + i % each);
        v = (v - mean) / std::sqrt(variance + eps);
      }
    }
  return from_vector(values, x.shape()).to(x_.device());
}

TEST_CASE("group_norm: PyTorch's values, gradients and Hessian products") {
  const int cases = for_each_case("sequences.safetensors", "group_norm", [](const FixtureCase& c) {
    check_case(c, {"x", "weight", "bias"}, [&](auto leaf) {
      return group_norm(leaf.at("x"), c.hyper["groups"], leaf.at("weight"), leaf.at("bias"), c.hyper["eps"]);
    });
  });
  CHECK(cases == 10);
}

TEST_CASE("group_norm: against the definition, and the norms that it contains") {
  for (const Shape& shape :
       {Shape{3, 6}, Shape{2, 5, 6}, Shape{2, 3, 4, 6}, Shape{1, 1, 6}, Shape{70, 300, 6}})
    for (const std::int64_t groups : {1, 2, 3, 6}) {
      if (shape.rank() == 2 && groups == 6) continue;  // one value each: 0
      const Tensor x = normal(shape) * 2.0 + 1.0, weight = normal({6}, 2), bias = normal({6}, 3);
      const Tensor expected = group_norm_by_loops(x, groups, 1e-3);
      CHECK(relative_error(group_norm(x, groups, {}, {}, 1e-3), expected) < 1e-12);
      CHECK(relative_error(group_norm(x, groups, weight, bias, 1e-3), expected * weight + bias) < 1e-12);
      CHECK(relative_error(group_norm(x.to(float32), groups, weight.to(float32), {}, 1e-3).to(float64),
                           expected * weight) < 1e-4);
    }
  const Tensor x = normal({4, 3, 5, 6});
  CHECK(relative_error(group_norm(x, 1), layer_norm(x, {3, 5, 6}, {}, {})) < 1e-14);
  CHECK(relative_error(group_norm(x[0].reshape({1, 15, 6}), 6),
                       batch_norm_train(x[0].reshape({15, 6}), {}, {}, {0, 15}).y.reshape({1, 15, 6})) <
        1e-12);
}

TEST_CASE("group_norm: derivatives") {
  for (const Shape& shape : {Shape{2, 3, 4}, Shape{3, 4}, Shape{2, 2, 2, 4}, Shape{0, 3, 4}, Shape{2, 0, 4}})
    for (const std::int64_t groups : {1, 2, 4}) {
      const Tensor x = normal(shape), weight = normal({4}, 2), bias = normal({4}, 3);
      check_derivatives([&](auto& v) { return group_norm(v[0], groups, v[1], v[2], 0.1); },
                        {x, weight, bias});
      check_derivatives([&](auto& v) { return group_norm(v[0], groups, {}, {}, 0.1); }, {x});
      check_derivatives([&](auto& v) { return group_norm(x, groups, {}, v[0], 0.1); }, {bias});
    }
}

TEST_CASE("group_norm: one pass over replicas is their separate passes") {
  const std::int64_t M = 3, batch = 7;
  for (const Shape& sample : {Shape{6}, Shape{4, 6}, Shape{2, 3, 6}})
    for (const std::int64_t groups : {1, 2, 6}) {
      const auto plan = plan_of(M);
      const Slices slices(M, batch);
      const Tensor x = normal(sample.prepended(batch)).requires_grad_(),
                   weight = normal({M, 6}, 2).requires_grad_(), bias = normal({M, 6}, 3).requires_grad_(),
                   g = normal(x.shape(), 4);
      const Tensor one = group_norm(x, groups, detail::add_replica_dim(weight, plan),
                                    detail::add_replica_dim(bias, plan), 0.1);
      for (const bool create_graph : {false, true}) {
        const auto grads =
            grad(one, {x, weight, bias}, {.create_graph = create_graph, .retain_graph = true, .gradient = g});
        for (std::int64_t r = 0; r < M; ++r) {
          const auto part = [&](const Tensor& t) {
            return slice(t.detach(), 0, slices.begin(r), slices.end(r));
          };
          const Tensor own_x = part(x).clone().requires_grad_(),
                       own_weight = weight.detach()[r].clone().requires_grad_(),
                       own_bias = bias.detach()[r].clone().requires_grad_();
          const Tensor alone = group_norm(own_x, groups, own_weight, own_bias, 0.1);
          const auto expected = grad(alone, {own_x, own_weight, own_bias}, {.gradient = part(g)});
          CHECK(relative_error(part(one), alone) < 1e-13);
          CHECK(relative_error(part(grads[0]), expected[0]) < 1e-12);
          CHECK(relative_error(grads[1].detach()[r], expected[1]) < 1e-12);
          CHECK(relative_error(grads[2].detach()[r], expected[2]) < 1e-12);
        }
      }
    }
}

TEST_CASE("group_norm: errors") {
  const Tensor x = normal({2, 3, 6});
  CHECK_ERROR(group_norm(x, 4), ShapeError, "[group_norm] 6 channels do not divide into 4 groups",
              "[2, 3, 6]");
  CHECK_ERROR(group_norm(normal({6}), 2), ShapeError, "[group_norm]", "[B, …, C]", "[6]");
  CHECK_ERROR(group_norm(x, 0), ValueError, "[group_norm]", "got 0");
  CHECK_ERROR(group_norm(x, 2, {}, {}, -1), ValueError, "[group_norm] eps", "-1");
  CHECK_ERROR(group_norm(x, 2, {}, {}, not_a_number), ValueError, "[group_norm] eps");
  CHECK_ERROR(group_norm(x, 2, normal({3})), ShapeError, "[group_norm] weight has shape [3]");
  CHECK_ERROR(group_norm(x, 2, {}, normal({6, 1})), ShapeError, "[group_norm] bias has shape [6, 1]");
  CHECK_ERROR(group_norm(x, 2, normal({6}, 1, float32)), DTypeError, "[group_norm]", "float32");
  CHECK_ERROR(group_norm(x.to(int64), 2), DTypeError, "[group_norm]", "int64");
  const Tensor weight = detail::add_replica_dim(normal({3, 6}), plan_of(3));
  CHECK_ERROR(group_norm(x, 2, weight), ShapeError, "[group_norm] M = 3");
  CHECK_ERROR(group_norm(detail::add_replica_dim(normal({2, 2, 3, 6}), plan_of(2)), 2), ReplicaError,
              "[group_norm]");
}

}  // namespace
}  // namespace lpf::test
