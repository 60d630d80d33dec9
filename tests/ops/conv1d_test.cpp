#include "lpf/ops/conv1d.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

Conv1dOptions conv1d_options(const FixtureCase& c) {
  return {c.hyper["stride"], c.hyper["padding"], c.hyper["dilation"], c.hyper["groups"]};
}

TEST_CASE("conv1d: PyTorch's values, gradients and Hessian products") {
  const int cases = for_each_case("sequences.safetensors", "conv1d", [](const FixtureCase& c) {
    check_case(c, {"x", "weight", "bias"}, [&](auto leaf) {
      return conv1d(leaf.at("x"), permute(leaf.at("weight"), {0, 2, 1}), leaf.at("bias"), conv1d_options(c));
    });
  });
  CHECK(cases == 11);
}

TEST_CASE("conv1d: conv2d over images of one row, to the bit") {
  const Tensor x = normal({5, 11, 6}), w = normal({8, 3, 3}, 2), bias = normal({8}, 3);
  const Tensor y = conv1d(x, w, bias, {.stride = 2, .padding = 3, .dilation = 2, .groups = 2});
  const Tensor image = conv2d(x.reshape({5, 1, 11, 6}), w.reshape({8, 1, 3, 3}), bias,
                              {.stride = {1, 2}, .padding = {0, 3}, .dilation = {1, 2}, .groups = 2});
  CHECK(y.shape() == Shape{5, 7, 8});
  CHECK(same_bits(y, image.reshape({5, 7, 8})));
  CHECK(conv1d(normal({0, 5, 2}), normal({3, 2, 2})).shape() == Shape{0, 4, 3});
  CHECK(relative_error(conv1d(x.to(float32), w.to(float32), {}, {.groups = 2}).to(float64),
                       conv1d(x, w, {}, {.groups = 2})) < 1e-5);
}

TEST_CASE("conv1d: derivatives") {
  for (const auto& o :
       {Conv1dOptions{}, Conv1dOptions{.stride = 2, .padding = 1}, Conv1dOptions{.dilation = 2, .groups = 2}})
    for (const Shape& shape : {Shape{2, 6, 2}, Shape{1, 5, 2}, Shape{0, 6, 2}}) {
      const Tensor x = normal(shape), w = normal({2, 2, 2 / o.groups}, 2), bias = normal({2}, 3);
      check_derivatives([&](auto& v) { return conv1d(v[0], v[1], v[2], o); }, {x, w, bias});
      check_derivatives([&](auto& v) { return conv1d(v[0], v[1], {}, o); }, {x, w});
    }
}

TEST_CASE("conv1d: one pass over replicas is their separate passes") {
  const std::int64_t M = 3, batch = 7;
  const auto plan = plan_of(M);
  const Slices slices(M, batch);
  const Conv1dOptions o{.stride = 2, .padding = 1};
  const Tensor x = normal({batch, 6, 4}).requires_grad_(), w = normal({M, 5, 3, 4}, 2).requires_grad_(),
               bias = normal({M, 5}, 3).requires_grad_();
  const Tensor one = conv1d(x, detail::add_replica_dim(w, plan), detail::add_replica_dim(bias, plan), o);
  const Tensor g = normal(one.shape(), 4);
  for (const bool create_graph : {false, true}) {
    const auto grads =
        grad(one, {x, w, bias}, {.create_graph = create_graph, .retain_graph = true, .gradient = g});
    for (std::int64_t r = 0; r < M; ++r) {
      const auto part = [&](const Tensor& t) { return slice(t.detach(), 0, slices.begin(r), slices.end(r)); };
      const Tensor own_x = part(x).clone().requires_grad_(), own_w = w.detach()[r].clone().requires_grad_(),
                   own_bias = bias.detach()[r].clone().requires_grad_();
      const Tensor alone = conv1d(own_x, own_w, own_bias, o);
      const auto expected = grad(alone, {own_x, own_w, own_bias}, {.gradient = part(g)});
      CHECK(relative_error(part(one), alone) < 1e-13);
      CHECK(relative_error(part(grads[0]), expected[0]) < 1e-13);
      CHECK(relative_error(grads[1].detach()[r], expected[1]) < 1e-13);
      CHECK(relative_error(grads[2].detach()[r], expected[2]) < 1e-13);
    }
  }
  // A gradient wanted as a sum arrives as one.
  Tensor summed = detail::add_replica_dim(w.detach(), plan);
  summed = record("test", summed.alias(summed.shape()), {w}, [](const Tensor& s, Need) {
    CHECK_FALSE(s.is_replicated());
    return Grads{expand(s, s.shape().prepended(3))};
  });
  summed.impl().replicas = plan;
  summed.impl().sum_gradient = true;
  const Tensor dw = grad(conv1d(x, summed, {}, o), {w}, {.gradient = g})[0];
  CHECK(relative_error(dw[0], sum(grad(one, {w}, {.gradient = g})[0], {0})) < 1e-13);
}

TEST_CASE("conv1d: errors") {
  const Tensor x = normal({2, 5, 4}), w = normal({6, 3, 4});
  CHECK_ERROR(conv1d(normal({5, 4}), w), ShapeError, "[conv1d]", "[B, L, C]", "[5, 4]");
  CHECK_ERROR(conv1d(normal({2, 5, 5, 4}), w), ShapeError, "[conv1d]", "[2, 5, 5, 4]");
  CHECK_ERROR(conv1d(x, normal({6, 1, 3, 4})), ShapeError, "[conv1d]", "[K, k, C/groups]");
  CHECK_ERROR(conv1d(x, normal({6, 3, 3})), ShapeError,
              "[conv1d] input has 4 channels, the weight expects 3");
  CHECK_ERROR(conv1d(x, w, {}, {.groups = 2}), ShapeError, "[conv1d]", "8 (2 groups of 4)");
  CHECK_ERROR(conv1d(x, w, normal({5})), ShapeError, "[conv1d] the bias has shape [5]");
  CHECK_ERROR(conv1d(x, normal({6, 6, 4})), ShapeError, "[conv1d] a kernel that reaches over 6 positions",
              "has 5 and 0 of padding");
  CHECK_ERROR(conv1d(normal({2, 0, 4}), w, {}, {.padding = 2}), ShapeError, "no positions");
  CHECK_ERROR(conv1d(x, w, {}, {.groups = 0}), ValueError, "[conv1d] groups");
  CHECK_ERROR(conv1d(x, w, {}, {.stride = 0}), ValueError, "[conv1d] the stride must be positive, got 0");
  CHECK_ERROR(conv1d(x, w, {}, {.padding = -1}), ValueError,
              "[conv1d] the padding cannot be negative, got -1");
  CHECK_ERROR(conv1d(x, w, {}, {.dilation = 0}), ValueError, "[conv1d] the dilation");
  CHECK_ERROR(conv1d(x, normal({6, 3, 4}, 1, float32)), DTypeError, "[conv1d]", "float32");
  CHECK_ERROR(conv1d(x.to(int64), w), DTypeError, "[conv1d]", "int64");
  const Tensor replicas = detail::add_replica_dim(normal({3, 6, 3, 4}), plan_of(3));
  CHECK_ERROR(conv1d(x, replicas), ShapeError, "[conv1d] M = 3");
  CHECK_ERROR(conv1d(detail::add_replica_dim(normal({2, 2, 5, 4}), plan_of(2)), w), ReplicaError);
}

}  // namespace
}  // namespace lpf::test
