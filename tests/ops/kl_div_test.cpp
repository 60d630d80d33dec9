#include "lpf/ops/kl_div.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

KLDivReduction kl_reduction_of(const std::string& name) {
  return name == "mean"        ? KLDivReduction::mean
         : name == "batchmean" ? KLDivReduction::batchmean
         : name == "sum"       ? KLDivReduction::sum
                               : KLDivReduction::none;
}

TEST_CASE("kl_div: values") {
  const Tensor p = tensor({0.25, 0.75, 0.5, 0.5}).reshape({2, 2}), x = log(full({2, 2}, 0.5, {float64}));
  const double first = 0.25 * std::log(0.5) + 0.75 * std::log(1.5);
  CHECK(kl_div(x, p, {.reduction = KLDivReduction::sum}).item() == doctest::Approx(first).epsilon(1e-15));
  CHECK(kl_div(x, p, {.reduction = KLDivReduction::batchmean}).item() ==
        doctest::Approx(first / 2).epsilon(1e-15));
  CHECK(kl_div(x, p).item() == doctest::Approx(first / 4).epsilon(1e-15));
  CHECK(kl_div(x, p, {.reduction = KLDivReduction::none}).shape() == Shape{2, 2});
  CHECK(relative_error(kl_div(x, log(p), {.reduction = KLDivReduction::none, .log_target = true}),
                       kl_div(x, p, {.reduction = KLDivReduction::none})) < 1e-15);
  const Tensor none = zeros({0, 3});
  CHECK(kl_div(none, none, {.reduction = KLDivReduction::sum}).item() == 0);
  CHECK(std::isnan(kl_div(none, none, {.reduction = KLDivReduction::batchmean}).item()));  // 0/0, as PyTorch
  CHECK(std::isnan(kl_div(none, none).item()));
}

TEST_CASE("kl_div: PyTorch's values") {
  CHECK(for_each_case("ops.safetensors", "kl_div", [](const FixtureCase& c) {
          const KLDivOptions options{.reduction = kl_reduction_of(c.hyper["reduction"]),
                                     .log_target = c.hyper["log_target"]};
          check_case(c, {"x", "target"},
                     [&](auto leaf) { return kl_div(leaf.at("x"), leaf.at("target"), options); });
        }) == 16);
  CHECK(for_each_case("ops.safetensors", "kl_div_special", [](const FixtureCase& c) {
          const KLDivOptions options{.reduction = KLDivReduction::none, .log_target = c.hyper["log_target"]};
          if (options.log_target) {
            check_special_case(c, {"x", "target"},
                               [&](auto leaf) { return kl_div(leaf.at("x"), leaf.at("target"), options); });
            return;
          }
          const DType type = c.hyper["dtype"] == "float32" ? float32 : float64;
          const double tolerance = type == float32 ? 1e-6 : 1e-12;
          const Tensor x = c["x"].to(type).requires_grad_(), p = c["target"].to(type).requires_grad_();
          const Tensor y = kl_div(x, p, options);
          CHECK(relative_error(y.to(float64), c["y"]) <= tolerance);
          const auto grads = grad(y, {x, p}, {.gradient = c["gy"].to(type)});
          CHECK(relative_error(grads[0].to(float64), c["grad.x"]) <= tolerance);
          // Where p = 0 PyTorch's gradient of p is NaN, a quotient 0/0; here −x·g.
          const Tensor zero = c["target"] == 0.0;
          CHECK(relative_error(grads[1].to(float64), where(zero, -c["x"] * c["gy"], c["grad.target"])) <=
                tolerance);
        }) == 4);
}

TEST_CASE("kl_div: derivatives") {
  for (const Shape& shape : shapes)
    for (const bool log_target : {false, true})
      for (const auto reduction :
           {KLDivReduction::mean, KLDivReduction::batchmean, KLDivReduction::sum, KLDivReduction::none}) {
        if (shape.numel() == 0 && reduction != KLDivReduction::sum && reduction != KLDivReduction::none)
          continue;
        const Tensor target = log_target ? normal(shape, 2) : uniform(shape, 0.1, 1, 2);
        check_derivatives(
            [&](auto& v) { return kl_div(v[0], v[1], {.reduction = reduction, .log_target = log_target}); },
            {normal(shape), target});
      }
}

TEST_CASE("kl_div: errors") {
  const Tensor x = zeros({2, 3});
  CHECK_ERROR(kl_div(x, zeros({3})), ShapeError, "[kl_div]", "[2, 3]", "[3]");
  CHECK_ERROR(kl_div(x, x.to(float64)), DTypeError, "[kl_div]", "float64");
  CHECK_ERROR(kl_div(x.to(int32), x.to(int32)), DTypeError, "[kl_div]", "int32");
}

TEST_CASE("kl_div: of replicas, each its own") {
  const Tensor x = log_softmax(normal({2, 3}), 1), target = softmax(normal({3}, 2), 0);
  for (const auto reduction : {KLDivReduction::none, KLDivReduction::sum, KLDivReduction::mean}) {
    const Tensor y = kl_div(detail::add_replica_dim(x, plan_of(2)), target, {.reduction = reduction});
    REQUIRE(y.is_replicated());
    for (std::int64_t r = 0; r < 2; ++r)
      CHECK(relative_error(detail::remove_replica_dim(y)[r], kl_div(x[r], target, {.reduction = reduction})) <
            1e-14);
  }
}

}  // namespace
}  // namespace lpf::test
