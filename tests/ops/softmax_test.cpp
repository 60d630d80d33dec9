#include "lpf/ops/softmax.hpp"

#include "fixture_case.hpp"
#include "lpf/backend/threads.hpp"

namespace lpf::test {
namespace {

/// log Σ exp along the middle axis of [outer, n, inner], element by element.
std::vector<double> naive_log_softmax(const std::vector<double>& x, std::size_t outer, std::size_t n,
                                      std::size_t inner) {
  std::vector<double> y(x.size());
  for (std::size_t o = 0; o < outer; ++o)
    for (std::size_t i = 0; i < inner; ++i) {
      const auto at = [&](std::size_t j) { return (o * n + j) * inner + i; };
      double top = -std::numeric_limits<double>::infinity(), total = 0;
      for (std::size_t j = 0; j < n; ++j) top = std::max(top, x[at(j)]);
      for (std::size_t j = 0; j < n; ++j) total += std::exp(x[at(j)] - top);
      for (std::size_t j = 0; j < n; ++j) y[at(j)] = x[at(j)] - top - std::log(total);
    }
  return y;
}

TEST_CASE("softmax: against the definition, along every axis") {
  for (const Shape& shape : {Shape{7}, Shape{3, 5}, Shape{2, 4, 3}, Shape{2, 3, 2, 2}, Shape{1, 1},
                             Shape{4, 1}, Shape{0, 3}, Shape{3, 0}, Shape{2, 0, 3}, Shape{2, 40}}) {
    const Tensor x = affine(normal(shape), 3, 0);
    for (int axis = -shape.rank(); axis < shape.rank(); ++axis) {
      const int a = axis < 0 ? axis + shape.rank() : axis;
      const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
      const auto expected = naive_log_softmax(x.to_vector(), size(shape.product(0, a)), size(shape[a]),
                                              size(shape.product(a + 1, shape.rank())));
      const Tensor reference = from_vector(expected, shape);
      CHECK(relative_error(log_softmax(x, axis), reference) < 1e-13);
      CHECK(relative_error(softmax(x, axis), exp(reference)) < 1e-13);
      CHECK(relative_error(softmax(x.to(float32), axis).to(float64), exp(reference)) < 1e-6);
      CHECK(relative_error(log_softmax(x.to(float32), axis).to(float64), reference) < 1e-6);
    }
  }
}

TEST_CASE("softmax: derivatives, fused and composed") {
  for (const bool logarithm : {false, true}) {
    const auto f = [logarithm](int axis) {
      return [=](const std::vector<Tensor>& x) {
        return logarithm ? log_softmax(x[0], axis) : softmax(x[0], axis);
      };
    };
    check_derivatives(f(-1), {normal({3, 5})});
    check_derivatives(f(0), {normal({4, 2})});
    check_derivatives(f(1), {normal({2, 3, 2})});
    check_derivatives(f(0), {normal({4})});
    check_derivatives(f(1), {normal({3, 1})});
    check_derivatives(f(1), {normal({0, 3})});
    check_derivatives(f(1), {normal({3, 0})});
    check_derivatives(f(1), {normal({2, 33})});
  }
}

TEST_CASE("softmax: extreme logits") {
  for (const DType type : {float32, float64}) {
    const Tensor x =
        from_vector<double>({1e4, -1e4, 0, -1e4, -1e4, -1e4, 1e4, 1e4, -1e4, 1e30, -1e30, 0}, {4, 3})
            .to(type)
            .requires_grad_();
    const Tensor p = softmax(x), l = log_softmax(x);
    CHECK(relative_error(sum(p, {1}), ones({4}, x.options())) < 1e-6);
    CHECK(all(is_finite(l)).item<bool>());
    CHECK(relative_error(l[0], from_vector<double>({0, -2e4, -1e4}, {3}).to(type)) < 1e-6);
    CHECK(relative_error(l[1], full({3}, -std::log(3.0), x.options())) < 1e-6);
    const auto g = normal({4, 3}).to(type);
    CHECK(all(is_finite(grad(p, {x}, {.gradient = g})[0])).item<bool>());
    CHECK(all(is_finite(grad(l, {x}, {.gradient = g})[0])).item<bool>());
  }
  // a masked class
  const Tensor masked = from_vector<double>({1, -std::numeric_limits<double>::infinity(), 2}, {3});
  CHECK(softmax(masked).to_vector()[1] == 0);
  CHECK(sum(softmax(masked)).item() == doctest::Approx(1));
}

TEST_CASE("softmax: the same bits for any number of threads") {
  for (const Shape& shape : {Shape{1, 100000}, Shape{700, 130}}) {
    const Tensor x = normal(shape, 1, float32).requires_grad_(), g = normal(shape, 2, float32);
    std::vector<Tensor> results;
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      for (const bool logarithm : {false, true}) {
        const Tensor y = logarithm ? log_softmax(x) : softmax(x);
        results.push_back(y.detach());
        results.push_back(grad(y, {x}, {.gradient = g})[0]);
      }
    }
    set_num_threads(0);
    for (std::size_t i = 4; i < results.size(); ++i) CHECK(same_bits(results[i], results[i % 4]));
  }
}

TEST_CASE("softmax: of a replicated parameter is that of each replica") {
  const auto plan = std::make_shared<ReplicaPlan>(3);
  const Tensor all = normal({3, 4, 2});
  for (const int axis : {0, 1, -1, -2}) {
    const Tensor y = detail::remove_replica_dim(softmax(detail::add_replica_dim(all, plan), axis));
    for (std::int64_t r = 0; r < 3; ++r) CHECK(relative_error(y[r], softmax(all[r], axis)) < 1e-15);
  }
}

TEST_CASE("softmax: errors") {
  CHECK_ERROR(softmax(normal({2, 3}), 2), ShapeError, "softmax", "axis 2", "rank 2");
  CHECK_ERROR(log_softmax(normal({2, 3}), -3), ShapeError, "log_softmax");
  CHECK_ERROR(softmax(full({}, 1, {.dtype = float64})), ShapeError, "softmax");
  CHECK_ERROR(softmax(arange(3)), DTypeError, "softmax", "int64");
}

TEST_CASE("softmax: PyTorch's values") {
  for (const bool logarithm : {false, true}) {
    const int cases =
        for_each_case("activations.safetensors", logarithm ? "log_softmax" : "softmax", [&](const auto& c) {
          const int axis = c.hyper["dim"];
          check_case(c, {"x"}, [&](auto leaf) {
            return logarithm ? log_softmax(leaf.at("x"), axis) : softmax(leaf.at("x"), axis);
          });
        });
    CHECK(cases == 3);
  }
}

}  // namespace
}  // namespace lpf::test
