#include "lpf/ops/norm.hpp"

#include <cmath>

#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("vector_norm and stddev: values") {
  CHECK(holds(vector_norm(tensor({3.0, -4.0})), {}, {5}));
  CHECK(holds(vector_norm(tensor({3.0, 4.0, 0.0, 0.0}).reshape({2, 2}), {1}), {2}, {5, 0}));
  CHECK(holds(vector_norm(tensor({3.0, 4.0, 4.0, 3.0}).reshape({2, 2}), {-2}, true), {1, 2}, {5, 5}));
  CHECK(holds(vector_norm(zeros({2, 0}), {1}), {2}, {0, 0}));
  CHECK(holds(vector_norm(tensor({-infinity, 1.0})), {}, {infinity}));
  CHECK(std::isnan(vector_norm(tensor({not_a_number, 1.0})).item()));
  CHECK(holds(stddev(tensor({1.0, 3.0}), {}, 0), {}, {1}));
  CHECK(holds(stddev(tensor({2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0}), {0}, 0, true), {1}, {2}));
  CHECK(std::isnan(stddev(tensor({1.0})).item()));  // undefined for one value
  CHECK(holds(stddev(tensor({7.0, 7.0, 7.0})), {}, {0}));
  const Tensor x = normal({3, 4, 5});
  for (const Axes& axes : {Axes{}, Axes{1}, Axes{0, 2}}) {
    CHECK(relative_error(vector_norm(x, axes), sqrt(sum(square(x), axes))) == 0);
    CHECK(relative_error(stddev(x, axes), sqrt(var(x, axes))) == 0);
  }
}

TEST_CASE("vector_norm and stddev: first and second derivatives, and 0 where they are 0") {
  for (const Shape& shape : {Shape{4}, Shape{2, 3}, Shape{2, 3, 2}}) {
    const int last = shape.rank() - 1;
    CHECK(wrong_derivatives([&](auto& in) { return vector_norm(in[0], {last}); }, {normal(shape)}) == "");
    CHECK(wrong_derivatives([&](auto& in) { return vector_norm(in[0]); }, {normal(shape)}) == "");
    CHECK(wrong_derivatives([&](auto& in) { return stddev(in[0], {last}); }, {normal(shape)}) == "");
    CHECK(wrong_derivatives([&](auto& in) { return stddev(in[0], {}, 0, true); }, {normal(shape)}) == "");
  }
  CHECK(wrong_derivatives([](auto& in) { return vector_norm(transpose(in[0], 0, 1), {0}); },
                          {normal({2, 3})}) == "");
  CHECK(wrong_derivatives([](auto& in) { return vector_norm(in[0], {1}); }, {normal({2, 0})}) == "");
  for (const bool create_graph : {false, true}) {
    const Tensor x = tensor({0.0, 0.0, 3.0, 4.0}).reshape({2, 2}).requires_grad_();
    const Tensor norm = sum(vector_norm(x, {1}));
    const Tensor slope = grad(norm, {x}, {.create_graph = create_graph})[0].detach();
    CHECK(relative_error(slope, tensor({0.0, 0.0, 0.6, 0.8}).reshape({2, 2}), 1e-300) < 4e-16);
    const Tensor y = tensor({5.0, 5.0, 1.0, 3.0}).reshape({2, 2}).requires_grad_();
    const Tensor spread = sum(stddev(y, {1}, 0));
    CHECK(holds(grad(spread, {y}, {.create_graph = create_graph})[0].detach(), {2, 2}, {0, 0, -0.5, 0.5}));
  }
}

TEST_CASE("vector_norm and stddev: errors") {
  CHECK_ERROR(vector_norm(tensor<std::int64_t>({1, 2})), DTypeError, "[vector_norm]", "int64");
  CHECK_ERROR(stddev(tensor<std::int64_t>({1, 2})), DTypeError, "[stddev]", "int64");
  CHECK_ERROR(vector_norm(ones({2}), {1}), ShapeError, "axis 1");
}

TEST_CASE("vector_norm and stddev: of replicas, each its own") {
  const Tensor all = normal({3, 4}), replicas = detail::add_replica_dim(all, plan_of(3));
  CHECK(relative_error(detail::remove_replica_dim(vector_norm(replicas)), vector_norm(all, {1})) < 1e-14);
  CHECK(relative_error(detail::remove_replica_dim(stddev(replicas)), stddev(all, {1})) < 1e-14);
}
