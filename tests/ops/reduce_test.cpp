#include "lpf/ops/reduce.hpp"

#include "lpf/backend/threads.hpp"
#include "lpf/ops/index.hpp"
#include "lpf/ops/matmul.hpp"
#include "lpf/ops/replicate.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// The sum over `axes`, kept with size 1, by a loop over all elements.
Tensor looped_sum(const Tensor& x, const Axes& axes) {
  Shape kept = x.shape();
  for (int i = 0; i < x.rank(); ++i)
    if (axes.empty() ||
        std::count_if(axes.begin(), axes.end(), [&](int a) { return a == i || a + x.rank() == i; }))
      kept[i] = 1;
  std::vector<double> y(static_cast<std::size_t>(kept.numel()), 0.0);
  const auto values = x.to_vector();
  const auto strides = kept.strides();
  for (std::int64_t k = 0; k < x.numel(); ++k) {
    std::int64_t rest = k, at = 0;
    for (int i = x.rank(); i-- > 0; rest /= x.shape()[i])
      if (kept[i] > 1) at += rest % x.shape()[i] * strides[static_cast<std::size_t>(i)];
    y[static_cast<std::size_t>(at)] += values[static_cast<std::size_t>(k)];
  }
  return from_vector(y, kept);
}

const std::vector<std::pair<Shape, Axes>> reductions = {{{}, {}},
                                                        {{1}, {}},
                                                        {{0}, {}},
                                                        {{5}, {0}},
                                                        {{2, 3}, {}},
                                                        {{2, 3}, {0}},
                                                        {{2, 3}, {1}},
                                                        {{2, 3}, {-2}},
                                                        {{2, 3}, {0, 1}},
                                                        {{0, 3}, {0}},
                                                        {{0, 3}, {1}},
                                                        {{3, 0}, {0}},
                                                        {{2, 0, 3}, {1}},
                                                        {{2, 3, 4}, {1}},
                                                        {{2, 3, 4}, {0, 2}},
                                                        {{2, 3, 4}, {2, 0}},
                                                        {{2, 3, 4}, {0, 1}},
                                                        {{2, 3, 4}, {1, 2}},
                                                        {{1, 3, 1, 2}, {2}},
                                                        {{2, 2, 3, 2}, {1, 3}},
                                                        {{2, 2, 3, 2}, {0, 2, 3}},
                                                        {{2, 2, 3, 2}, {0, -2}}};

}  // namespace

TEST_CASE("sum and mean: values, first and second derivatives") {
  for (const auto& [shape, axes] : reductions) {
    CAPTURE(shape.to_string());
    CAPTURE(axes.size());
    const Tensor x = normal(shape), expected = looped_sum(x, axes);
    CHECK(relative_error(sum(x, axes, true), expected) < 1e-14);
    CHECK(sum(x, axes).shape() ==
          detail::without_axes(shape, detail::reduced_axes("test", axes, shape.rank())));
    CHECK(sum(x, axes).to_vector() == sum(x, axes, true).to_vector());
    for (const bool keepdim : {false, true}) {
      CHECK(wrong_derivatives([&, &a = axes](auto& in) { return sum(in[0] * in[0], a, keepdim); }, {x}) ==
            "");
      if (x.numel() == 0) continue;
      CHECK(wrong_derivatives([&, &a = axes](auto& in) { return mean(in[0] * in[0], a, keepdim); }, {x}) ==
            "");
    }
    if (x.numel() > 0)
      CHECK(relative_error(mean(x, axes, true), expected * (static_cast<double>(expected.numel()) /
                                                            static_cast<double>(x.numel()))) < 1e-14);
  }
  const auto rearranged = [](const std::vector<Tensor>& in) {
    return sum(slice(transpose(in[0] * in[0]), 0, 1, 4, 2), {1}) + sum(in[0][2]);
  };
  CHECK(wrong_derivatives(rearranged, {normal({3, 4})}) == "");
}

TEST_CASE("sum: long and wide ones, every path of the kernel") {
  for (const auto& [shape, axes] : std::vector<std::pair<Shape, Axes>>{{{2047}, {}},
                                                                       {{2048}, {}},
                                                                       {{2049}, {}},
                                                                       {{100003}, {}},
                                                                       {{300, 5}, {0}},
                                                                       {{70000, 3}, {0}},
                                                                       {{5, 300}, {1}},
                                                                       {{3, 5000}, {1}},
                                                                       {{4, 300, 7}, {1}},
                                                                       {{2, 1000, 40}, {1}},
                                                                       {{40, 600}, {0}},
                                                                       {{300, 0}, {0}},
                                                                       {{5, 300, 0}, {1}},
                                                                       {{0, 300}, {1}},
                                                                       {{20, 30, 40}, {0, 2}}}) {
    CAPTURE(shape.to_string());
    const Tensor x = normal(shape);
    CHECK(relative_error(sum(x, axes, true), looped_sum(x, axes)) < 1e-12);
    const Tensor narrow = x.to(float32);
    CHECK(relative_error(sum(narrow, axes, true).to(float64), looped_sum(narrow.to(float64), axes),
                         std::sqrt(double(x.numel()))) < 1e-6);
  }
}

TEST_CASE("sum: dtypes, scalars, empties") {
  CHECK(sum(tensor({true, true, false})).dtype() == int64);
  CHECK(sum(tensor({true, true, false})).item() == 2);
  CHECK(sum(tensor<std::uint8_t>({200, 100})).item() == 300);
  CHECK(sum(tensor<std::int32_t>({2147483647, 1})).item<std::int64_t>() == 2147483648);
  CHECK(sum(zeros({0, 3}), {0}).to_vector() == std::vector<double>{0, 0, 0});
  CHECK(sum(zeros({0})).item() == 0);
  CHECK(std::isnan(mean(zeros({0})).item()));
  CHECK(std::isnan(mean(zeros({2, 0}), {1})[0].item()));
  CHECK(mean(tensor({1.f, 2.f})).dtype() == float32);
  const Tensor scalar = full({}, 3), total = sum(scalar);
  scalar.fill_(5);
  CHECK(total.item() == 3);  // a new tensor, not a view
  CHECK(tensor({1.0, 2.0}).sum().item() == 3);
  CHECK(tensor({1.0, 2.0}).mean({0}, true).shape() == Shape{1});
  CHECK_ERROR(mean(tensor<std::int64_t>({1})), DTypeError, "[mean]", "int64");
  CHECK_ERROR(sum(zeros({2}), {1}), ShapeError, "[sum]", "axis 1", "rank 1");
  CHECK_ERROR(sum(zeros({2, 2}), {0, -2}), ShapeError, "[sum]", "twice");
  CHECK_ERROR(mean(zeros({2}), {-2}), ShapeError, "[mean]", "axis -2");
}

TEST_CASE("sum_to is the adjoint of expand") {
  for (const auto& [from, to] : std::vector<std::pair<Shape, Shape>>{{{}, {}},
                                                                     {{}, {2, 3}},
                                                                     {{1}, {4}},
                                                                     {{3, 1}, {3, 2}},
                                                                     {{2}, {3, 2}},
                                                                     {{1, 2, 1}, {4, 2, 3}},
                                                                     {{1}, {0}},
                                                                     {{1, 1}, {2, 0}},
                                                                     {{1, 3}, {1, 3}}}) {
    const Tensor x = normal(from, 1), y = normal(to, 2);
    CHECK(sum_to(y, from).shape() == from);
    CHECK(dot(expand(x, to), y).item() == doctest::Approx(dot(x, sum_to(y, from)).item()));
    CHECK(wrong_derivatives([&f = from](auto& in) { return sum_to(in[0] * in[0], f); }, {y}) == "");
  }
}

TEST_CASE("var") {
  const Tensor x = tensor({1.0, 2.0, 4.0, 7.0});
  CHECK(var(x).item() == doctest::Approx(7));
  CHECK(var(x, {}, 0).item() == doctest::Approx(5.25));
  CHECK(std::isnan(var(tensor({1.0})).item()));  // undefined for one value
  CHECK(var(tensor({1.0}), {}, 0).item() == 0);
  CHECK(std::isnan(var(zeros({0}), {}, 0).item()));
  const Tensor y = normal({3, 4, 2});
  const Tensor v = var(y, {0, 2});
  CHECK(v.shape() == Shape{4});
  for (std::int64_t k = 0; k < 4; ++k) CHECK(v[k].item() == doctest::Approx(var(y.narrow(1, k, 1)).item()));
  CHECK(var(y, {1}, 1, true).shape() == Shape{3, 1, 2});
  for (const Axes& axes : {Axes{}, Axes{0}, Axes{-1, 0}})
    CHECK(wrong_derivatives([&](auto& in) { return var(in[0], axes); }, {y}) == "");
  CHECK_ERROR(var(tensor<std::int64_t>({1, 2})), DTypeError, "[var]", "int64");
}

TEST_CASE("argmax and argmin: ties, NaN, axes, dtypes") {
  const Tensor x = tensor({1.0, 3.0, 3.0, 0.0, 0.0}).reshape({5});
  CHECK(argmax(x, 0).dtype() == int64);
  CHECK(argmax(x, 0).item() == 1);  // the first of equals
  CHECK(argmin(x, 0).item() == 3);
  CHECK(argmax(tensor({1.0, not_a_number, 5.0, not_a_number}), 0).item() == 1);  // NaN propagates
  CHECK(argmin(tensor({1.0, not_a_number, 5.0}), 0).item() == 1);
  CHECK(argmax(tensor({-infinity, -infinity}), 0).item() == 0);
  CHECK(argmax(tensor<std::int64_t>({3, 9, 9}), 0).item() == 1);
  CHECK(argmin(tensor<std::uint8_t>({3, 1, 1}), 0).item() == 1);
  CHECK(argmax(tensor({false, true, true}), 0).item() == 1);
  const Tensor y = tensor({1.0, 5.0, 2.0, 4.0, 0.0, 6.0}).reshape({2, 3});
  CHECK(holds(argmax(y, 0), {3}, {1, 0, 1}));
  CHECK(holds(argmax(y, 1), {2}, {1, 2}));
  CHECK(holds(argmax(y, -1, true), {2, 1}, {1, 2}));
  CHECK(holds(argmin(y, 1), {2}, {0, 1}));
  CHECK(y.argmax(1).shape() == Shape{2});
  CHECK(argmax(zeros({0, 3}), 1).shape() == Shape{0});
  CHECK(holds(argmax(normal({2, 17000}) * 0.0, 1), {2}, {0, 0}));
  CHECK_FALSE(argmax(normal({2, 2}).requires_grad_(), 0).requires_grad());
  CHECK_ERROR(argmax(zeros({0, 3}), 0), ShapeError, "[argmax]", "axis 0", "[0, 3]", "empty");
  CHECK_ERROR(argmin(zeros({2, 0}), 1), ShapeError, "[argmin]", "empty");
  CHECK_ERROR(argmax(y, 2), ShapeError, "[argmax]", "axis 2", "rank 2");
  CHECK_ERROR(argmax(full({}, 1), 0), ShapeError, "[argmax]", "rank 0");
}

TEST_CASE("all and any") {
  CHECK(all(tensor({true, true})).item<bool>());
  CHECK_FALSE(all(tensor({true, false})).item<bool>());
  CHECK(any(tensor({true, false})).item<bool>());
  CHECK_FALSE(any(tensor({false, false})).item<bool>());
  CHECK(all(zeros({0})).item<bool>());  // vacuously true
  CHECK_FALSE(any(zeros({0})).item<bool>());
  CHECK(all(tensor({0.5, -1.0})).item<bool>());
  CHECK(all(full({}, 2)).shape() == Shape{});
  CHECK(all(full({}, 2)).item<bool>());
  CHECK(any(tensor<std::int64_t>({0, 3})).dtype() == DType::bool_);
  CHECK(all(full({3, 70000}, 1)).item<bool>());
}

TEST_CASE("mean and var: of n equal numbers, and the gradient 1/n") {
  for (const DType type : {float32, float64}) {
    std::vector<std::int64_t> wrong;
    for (std::int64_t n = 1; n <= 10000; ++n) {
      const Tensor x = ones({n}, {type}).requires_grad_(), y = mean(x);
      const double share = type == float32 ? 1.F / static_cast<float>(n) : 1 / static_cast<double>(n);
      const double g = grad(y, {x})[0].detach().narrow(0, n - 1, 1).reshape(Shape{}).item();
      if (y.item() != 1 || g != share) wrong.push_back(n);
      if (n > 5000) continue;
      const Tensor pair = concatenate({x.detach(), affine(x.detach(), -1, 0)}, 0);  // Σ(x − 0)² = 2n
      if (var(pair, {}, 0).item() != 1 || mean(x.reshape({1, n}), {1}).detach().reshape(Shape{}).item() != 1)
        wrong.push_back(-n);
    }
    CHECK(wrong == std::vector<std::int64_t>{});
  }
}

TEST_CASE("var: a large mean costs no digits") {
  const Tensor d = normal({1000}, 5, float32);
  for (const double offset : {1e3, -1e5, 1e6}) {
    const Tensor x = affine(d, 1, offset).requires_grad_(), wide = x.detach().to(float64).requires_grad_();
    INFO("offset ", offset);
    const Tensor v = var(x), exact = var(wide);
    CHECK(v.item() == doctest::Approx(exact.item()).epsilon(1e-6));
    CHECK(relative_error(grad(v, {x})[0].to(float64), grad(exact, {wide})[0], 1e-3) < 1e-5);
  }
}

TEST_CASE("prod: integers in int64, and over nothing") {
  const Tensor product = prod(tensor<std::int32_t>({65536, 65536, 3}), 0);
  CHECK(product.dtype() == int64);
  CHECK(product.item<std::int64_t>() == std::int64_t{3} << 32);
  CHECK(prod(tensor<std::uint8_t>({200, 200}), 0).item<std::int64_t>() == 40000);
  CHECK(prod(tensor<bool>({true, true}), 0).item<std::int64_t>() == 1);
  for (const DType type : {DType::bool_, uint8, int32, int64, float32, float64}) {
    const Tensor none = prod(zeros({2, 0}, {type}), 1);
    CHECK(none.dtype() == (is_floating(type) ? type : int64));
    CHECK(none.to_vector() == std::vector<double>{1, 1});
  }
}

TEST_CASE("prod") {
  CHECK(holds(prod(tensor({2.0, 3.0, 4.0}), 0), {}, {24}));
  CHECK(holds(prod(tensor<std::int64_t>({2, 3, 4}), 0), {}, {24}));
  CHECK(holds(prod(zeros({0, 2}), 0), {2}, {1, 1}));
  CHECK(holds(prod(tensor({1.0, 2.0, 3.0, 4.0, 5.0, 6.0}).reshape({2, 3}), 1), {2}, {6, 120}));
  CHECK(holds(prod(tensor({1.0, 2.0, 3.0, 4.0, 5.0, 6.0}).reshape({2, 3}), 0, true), {1, 3}, {4, 10, 18}));
  for (const std::int64_t n : {1, 2, 3, 4, 5, 7})
    for (const int axis : {0, 1, -1}) {
      CAPTURE(n);
      const Shape shape = axis == 0 ? Shape{n, 2} : Shape{2, n};
      CHECK(wrong_derivatives([axis](auto& in) { return prod(in[0], axis); }, {normal(shape)}) == "");
    }
  Tensor with_zeros = normal({2, 4});  // dividing the product by a factor would give NaN
  with_zeros[0].narrow(0, 1, 1).fill_(0);
  with_zeros[1].narrow(0, 0, 2).fill_(0);
  CHECK(wrong_derivatives([](auto& in) { return prod(in[0], 1); }, {with_zeros}) == "");
  CHECK(wrong_derivatives([](auto& in) { return prod(in[0], 0); }, {normal({0, 3})}) == "");
  CHECK_ERROR(prod(zeros({2}), 1), ShapeError, "[prod]", "axis 1");
}

TEST_CASE("reductions: float32 agrees with float64") {
  const Tensor x = normal({60, 50}, 1, float32), wide = x.to(float64);
  for (const Axes& axes : {Axes{}, Axes{0}, Axes{1}}) {
    CHECK(relative_error(mean(x, axes).to(float64), mean(wide, axes)) < 1e-6);
    CHECK(relative_error(var(x, axes).to(float64), var(wide, axes)) < 1e-6);
  }
  for (const int axis : {0, 1}) {
    CHECK(relative_error(prod(x, axis).to(float64), prod(wide, axis), 1e-300) < 1e-5);
    CHECK(same_bits(amax(x, axis).to(float64), amax(wide, axis)));
    CHECK(same_bits(argmin(x, axis), argmin(wide, axis)));
  }
}

TEST_CASE("reductions do not depend on the number of threads") {
  const Tensor x = normal({300007}, 1, float32), y = normal({257, 1031}, 2, float32), d = normal({100003}, 3);
  check_same_for_any_threads([&] {
    return std::vector<Tensor>{sum(x), mean(x),     sum(y, {0}),  sum(y, {1}),
                               sum(d), var(y, {1}), argmax(y, 1), dot(d, d)};
  });
}

TEST_CASE("sums and means of replicas: each its own; what has no rule is refused by name") {
  const Tensor all = normal({2, 3}), w = detail::add_replica_dim(all, std::make_shared<ReplicaPlan>(2));
  CHECK(relative_error(detail::remove_replica_dim(sum(w)), sum(all, {1})) < 1e-14);
  CHECK(relative_error(detail::remove_replica_dim(mean(w)), mean(all, {1})) < 1e-14);
  CHECK_ERROR(argmax(w, 0), ReplicaError, "[argmax]");
}
