#include "lpf/ops/logsumexp.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

Tensor logsumexp_of(const FixtureCase& c, const Tensor& x) {
  return logsumexp(x, c.hyper["axes"].get<Axes>(), c.hyper.value("keepdim", false));
}

TEST_CASE("logsumexp: values") {
  const Tensor x = tensor({0.0, std::log(3.0), 1.0, 1.0}).reshape({2, 2});
  CHECK(largest_difference(logsumexp(x, {1}), tensor({std::log(4.0), 1 + std::log(2.0)})) < 1e-15);
  CHECK(logsumexp(x).shape() == Shape{});
  CHECK(logsumexp(x, {0}, true).shape() == Shape{1, 2});
  CHECK(logsumexp(x, {}, true).shape() == Shape{1, 1});
  CHECK(holds(logsumexp(full({}, 3)), {}, {3}));
  CHECK(holds(logsumexp(tensor({1e4, -1e4}), {0}), {}, {1e4}));
  CHECK(holds(logsumexp(zeros({2, 0}), {1}), {2}, {-infinity, -infinity}));  // over no elements
  CHECK(holds(logsumexp(zeros({0})), {}, {-infinity}));
  CHECK(logsumexp(zeros({0, 2}), {1}).shape() == Shape{0});
  CHECK(largest_difference(logsumexp(normal({3, 4, 5}), {2, 0}), log(sum(exp(normal({3, 4, 5})), {0, 2}))) <
        1e-14);
}

TEST_CASE("logsumexp: PyTorch's values") {
  int cases = for_each_case("ops.safetensors", "logsumexp", [](const FixtureCase& c) {
    check_case(c, {"x"}, [&](auto leaf) { return logsumexp_of(c, leaf.at("x")); });
  });
  CHECK(cases == 7);
  cases = for_each_case("ops.safetensors", "logsumexp_special", [](const FixtureCase& c) {
    check_special_case(c, {"x"}, [&](auto leaf) { return logsumexp_of(c, leaf.at("x")); });
  });
  CHECK(cases == 2);
}

TEST_CASE("logsumexp: derivatives and replicas") {
  for (const Shape& shape : shapes) {
    check_derivatives([](auto& v) { return logsumexp(v[0]); }, {normal(shape)});
    for (int axis = 0; axis < shape.rank(); ++axis) {
      check_derivatives([axis](auto& v) { return logsumexp(v[0], {axis}, true); }, {normal(shape)});
      if (shape.numel() > 0)
        check_maps_replicas([axis](const Tensor& w) { return logsumexp(w, {axis}); },
                            normal(shape.prepended(2)));
    }
  }
  check_derivatives([](auto& v) { return logsumexp(v[0].transpose(), {0, 2}); }, {normal({2, 3, 2})});
  check_maps_replicas([](const Tensor& w) { return logsumexp(w); }, normal({3, 2, 4}));
  check_maps_replicas([](const Tensor& w) { return logsumexp(w, {-1, 0}, true); }, normal({2, 2, 3, 2}));
  check_maps_replicas([](const Tensor& w) { return logsumexp(w); }, normal({3}));  // of scalars
}

TEST_CASE("logsumexp: errors") {
  CHECK_ERROR(logsumexp(arange(3)), DTypeError, "[logsumexp]", "int64");
  CHECK_ERROR(logsumexp(zeros({2, 3}), {2}), ShapeError, "[logsumexp]", "axis 2");
  CHECK_ERROR(logsumexp(zeros({2, 3}), {1, -1}), ShapeError, "[logsumexp]", "twice");
}

}  // namespace
}  // namespace lpf::test
