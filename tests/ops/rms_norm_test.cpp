#include "lpf/ops/rms_norm.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

TEST_CASE("rms_norm: against the definition") {
  for (const Shape& shape :
       {Shape{4, 6}, Shape{5}, Shape{3, 1}, Shape{2, 3, 5}, Shape{2, 3, 4, 5}, Shape{2, 5000}})
    for (int axes = 1; axes <= shape.rank(); ++axes) {
      const Shape own = shape.slice(shape.rank() - axes, shape.rank());
      const Tensor x = normal(shape) * 2.0 + 1.0, weight = normal(own, 2);
      const Tensor y = rms_norm(x, own, {}, 1e-3), scaled = rms_norm(x, own, weight, 1e-3);
      const std::int64_t n = own.numel();
      const auto from = x.to_vector(), found = y.to_vector(), times = scaled.to_vector(),
                 w = weight.to_vector();
      for (std::size_t row = 0; row < from.size(); row += static_cast<std::size_t>(n)) {
        double squares = 0;
        for (std::size_t i = 0; i < w.size(); ++i) squares += from[row + i] * from[row + i];
        const double root = std::sqrt(squares / static_cast<double>(n) + 1e-3);
        for (std::size_t i = 0; i < w.size(); ++i) {
          CHECK(found[row + i] == doctest::Approx(from[row + i] / root).epsilon(1e-13));
          CHECK(times[row + i] == doctest::Approx(from[row + i] / root * w[i]).epsilon(1e-13));
        }
      }
      CHECK(relative_error(rms_norm(x.to(float32), own, weight.to(float32), 1e-3).to(float64), scaled) <
            1e-5);
    }
}

TEST_CASE("rms_norm: derivatives") {
  for (const Shape& shape : {Shape{3, 4}, Shape{4}, Shape{2, 1}, Shape{2, 2, 3}, Shape{0, 3}, Shape{2, 20}}) {
    const Shape own{shape[shape.rank() - 1]};
    const Tensor x = normal(shape), weight = normal(own, 2);
    check_derivatives([&](auto& v) { return rms_norm(v[0], own, v[1], 0.1); }, {x, weight});
    check_derivatives([&](auto& v) { return rms_norm(v[0], own); }, {x});
    check_derivatives([&](auto& v) { return rms_norm(x, own, v[0], 0.1); }, {weight});
  }
  check_derivatives(
      [](auto& v) {
        return rms_norm(v[0], {3, 2}, v[1], 0.1);
      },
      {normal({2, 3, 2}), normal({3, 2}, 2)});
  check_derivatives([](auto& v) { return rms_norm(v[0], {0}); }, {zeros({3, 0}, {.dtype = float64})});
}

TEST_CASE("rms_norm: one pass over replicas is their separate passes") {
  const std::int64_t M = 3, batch = 7;
  for (const Shape& own : {Shape{5}, Shape{2, 5}})
    for (const Shape& sample : {own, Shape{4, 2, 5}}) {
      const auto plan = plan_of(M);
      const Slices slices(M, batch);
      const Tensor x = normal(sample.prepended(batch)).requires_grad_(),
                   weight = normal(own.prepended(M), 2).requires_grad_(), g = normal(x.shape(), 4);
      const Tensor one = rms_norm(x, own, detail::add_replica_dim(weight, plan));
      for (const bool create_graph : {false, true}) {
        const auto grads =
            grad(one, {x, weight}, {.create_graph = create_graph, .retain_graph = true, .gradient = g});
        for (std::int64_t r = 0; r < M; ++r) {
          const auto part = [&](const Tensor& t) {
            return slice(t.detach(), 0, slices.begin(r), slices.end(r));
          };
          const Tensor own_x = part(x).clone().requires_grad_(),
                       own_weight = weight.detach()[r].clone().requires_grad_();
          const Tensor alone = rms_norm(own_x, own, own_weight);
          const auto expected = grad(alone, {own_x, own_weight}, {.gradient = part(g)});
          CHECK(relative_error(part(one), alone) < 1e-14);
          CHECK(relative_error(part(grads[0]), expected[0]) < 1e-13);
          CHECK(relative_error(grads[1].detach()[r], expected[1]) < 1e-13);
        }
      }
    }
  const auto plan = plan_of(2);
  check_derivatives([&](auto& v) { return rms_norm(v[0], {2}, detail::add_replica_dim(v[1], plan), 0.1); },
                    {normal({3, 2, 2}), normal({2, 2}, 2)});
}

TEST_CASE("rms_norm: PyTorch's values") {
  const int cases = for_each_case("rms_norm.safetensors", "rms_norm", [](const FixtureCase& c) {
    const std::vector<std::int64_t> sizes = c.hyper["normalized_shape"];
    std::optional<double> eps;
    if (!c.hyper["eps"].is_null()) eps = c.hyper["eps"].get<double>();
    check_case(c, {"x", "weight"},
               [&](auto leaf) { return rms_norm(leaf.at("x"), Shape(sizes), leaf.at("weight"), eps); });
  });
  CHECK(cases == 6);
}

TEST_CASE("rms_norm: float32 rows of zeros, small and huge numbers, as PyTorch's") {
  const int cases = for_each_case("rms_norm.safetensors", "rms_norm_float32", [](const FixtureCase& c) {
    const Tensor x = c["x"].to(float32).requires_grad_();
    const Tensor y = rms_norm(x, {x.size(-1)});
    const Tensor dx = grad(y, {x}, {.gradient = c["gy"].to(float32)})[0];
    CHECK(relative_error(y.to(float64), c["y"]) < 1e-6);
    // dx of a row of zeros is gy/√eps = 2896 gy
    CHECK(largest_difference(dx.to(float64), c["grad.x"]) <= 1e-6 * abs(c["grad.x"]).max().item());
  });
  CHECK(cases == 3);
  const auto of = [](double value) { return rms_norm(full({1, 4}, value), {4}); };
  CHECK(holds(of(0), {1, 4}, {0, 0, 0, 0}));
  const Tensor huge = full({1, 4}, 1e20).requires_grad_(), y = rms_norm(huge, {4});  // x² is infinite
  CHECK(holds(y.detach(), {1, 4}, {0, 0, 0, 0}));
  CHECK(holds(grad(y, {huge}, {.gradient = ones({1, 4})})[0], {1, 4}, {0, 0, 0, 0}));
  CHECK(of(1e18).to_vector()[0] == doctest::Approx(1));
  CHECK(is_nan(of(infinity)).to_vector()[0] == 1);
  CHECK(is_nan(of(not_a_number)).to_vector()[0] == 1);
}

TEST_CASE("rms_norm: errors") {
  CHECK_ERROR(rms_norm(normal({2, 3}), {4}), ShapeError, "[rms_norm]", "[2, 3]", "[4]");
  CHECK_ERROR(rms_norm(normal({2, 3}), {3}, normal({2})), ShapeError, "weight", "[2]", "[3]");
  CHECK_ERROR(rms_norm(normal({3}), {2, 3}), ShapeError, "rms_norm");
  CHECK_ERROR(rms_norm(normal({3}), Shape{}), ShapeError, "rms_norm");
  CHECK_ERROR(rms_norm(full({}, 1), {1}), ShapeError, "rms_norm");
  CHECK_ERROR(rms_norm(normal({2, 3}), {3}, normal({3}, 1, float32)), DTypeError, "[rms_norm]", "float32");
  CHECK_ERROR(rms_norm(reshape(arange(6), {2, 3}), {3}), DTypeError, "[rms_norm]", "int64");
  CHECK_ERROR(rms_norm(normal({2, 3}), {3}, {}, -1), ValueError, "[rms_norm]", "eps", "-1");
  CHECK_ERROR(rms_norm(normal({2, 3}), {3}, {}, not_a_number), ValueError, "eps");
  const Tensor weight = detail::add_replica_dim(normal({2, 3}), plan_of(2));
  CHECK_ERROR(rms_norm(normal({3}), {3}, weight), ShapeError, "[rms_norm]", "batch axis");
  CHECK_ERROR(rms_norm(weight, {3}), ReplicaError, "[rms_norm]", "M = 2");
}

}  // namespace
}  // namespace lpf::test
