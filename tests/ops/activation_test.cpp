#include "lpf/ops/activation.hpp"

#include "lpf/ops/replicate.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

struct Activation {
  const char* name;
  Tensor (*apply)(const Tensor&);
  double (*expected)(double);
};
const Activation activations[] = {
    {"relu", relu, [](double x) { return std::max(x, 0.0); }},
    {"leaky_relu", [](const Tensor& x) { return leaky_relu(x); },
     [](double x) { return x > 0 ? x : 0.01 * x; }},
    {"leaky_relu 0.3", [](const Tensor& x) { return leaky_relu(x, 0.3); },
     [](double x) { return x > 0 ? x : 0.3 * x; }},
    {"elu", [](const Tensor& x) { return elu(x); }, [](double x) { return x > 0 ? x : std::expm1(x); }},
    {"elu 0.7", [](const Tensor& x) { return elu(x, 0.7); },
     [](double x) { return x > 0 ? x : 0.7 * std::expm1(x); }},
    {"sigmoid", sigmoid, logistic},
    {"silu", silu, [](double x) { return x * logistic(x); }},
    {"gelu", [](const Tensor& x) { return gelu(x); }, [](double x) { return x * normal_cdf(x); }},
    {"gelu tanh", [](const Tensor& x) { return gelu(x, Gelu::tanh); },
     [](double x) {
       return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
     }},
    {"softplus", softplus, [](double x) { return std::log1p(std::exp(x)); }},
};

/// Numbers of both signs, away from the kink at 0.
Tensor input(const Shape& shape, std::uint64_t seed = 1, DType dtype = float64) {
  const Tensor x = normal(shape, seed);
  return where(x > 0.0, x + 0.05, x - 0.05).to(dtype);
}

}  // namespace

TEST_CASE("activations: values, first and second derivatives") {
  for (const auto& op : activations) {
    CAPTURE(op.name);
    for (const Shape& shape : shapes) {
      CAPTURE(shape.to_string());
      const Tensor x = input(shape), y = op.apply(x);
      CHECK(y.shape() == shape);
      const auto from = x.to_vector(), found = y.to_vector();
      for (std::int64_t i = 0; i < x.numel(); ++i)
        CHECK(found[static_cast<std::size_t>(i)] ==
              doctest::Approx(op.expected(from[static_cast<std::size_t>(i)])).epsilon(1e-13));
      CHECK(wrong_derivatives([&op](auto& in) { return op.apply(in[0]); }, {x}) == "");
    }
    const auto rearranged = [&op](const std::vector<Tensor>& in) {
      return op.apply(slice(transpose(in[0]), 1, 0, 3, 2)).reshape({-1}) + op.apply(in[0][2]).reshape({4, 1});
    };
    CHECK(wrong_derivatives(rearranged, {input({3, 4})}) == "");
  }
}

TEST_CASE("activations: float32 agrees with float64") {
  for (const auto& op : activations)
    for (const std::int64_t n : {1, 15, 17001}) {
      CAPTURE(op.name);
      const Tensor x = (input({n}) * 3.0).to(float32).requires_grad_(), y = op.apply(x);
      const Tensor xd = x.detach().to(float64).requires_grad_(), yd = op.apply(xd);
      CHECK(relative_error(y.to(float64), yd) < 1e-6);
      CHECK(relative_error(grad(sum(y), {x})[0].to(float64), grad(sum(yd), {xd})[0]) < 2e-6);
    }
}

TEST_CASE("activations: far from zero nothing overflows") {
  for (const auto& op : activations)
    for (const DType dtype : {float32, float64}) {
      CAPTURE(op.name);
      const Tensor x =
          tensor({-1e4, -800.0, -100.0, -30.0, 30.0, 100.0, 800.0, 1e4}).to(dtype).requires_grad_();
      const Tensor y = op.apply(x), g = grad(sum(y), {x})[0],
                   composed = grad(sum(op.apply(x)), {x}, {.create_graph = true})[0];
      for (const Tensor& t : {y, g, composed}) CHECK(all(is_finite(t)).item<bool>());
      CHECK(relative_error(g, composed.detach()) < 1e-6);
      CHECK(g[7].item() <= 1);
      CHECK(std::abs(y[0].item()) <= 3000);
    }
  CHECK(softplus(tensor({800.0})).item() == 800);
  CHECK(sigmoid(tensor({-800.0})).item() == 0);
}

TEST_CASE("activations: special values") {
  CHECK(relu(tensor({infinity})).item() == infinity);
  CHECK(relu(tensor({-infinity})).item() == 0);
  for (const auto& op : activations) {
    CAPTURE(op.name);
    CHECK(std::isnan(op.apply(tensor({not_a_number})).item()));
    CHECK(std::isnan(op.apply(tensor({std::nanf("")})).item()));
    CHECK_ERROR(op.apply(tensor<std::int64_t>({1})), DTypeError, "int64");
  }
  const Tensor zero = tensor({0.0}).requires_grad_();  // PyTorch's conventions at the kink
  CHECK(grad(relu(zero), {zero})[0].item() == 0);
  CHECK(grad(relu(zero), {zero}, {.create_graph = true})[0].item() == 0);
  CHECK(grad(leaky_relu(zero, 0.1), {zero})[0].item() == 0.1);
  CHECK(grad(elu(zero, 0.7), {zero})[0].item() == 0.7);
  CHECK(grad(elu(zero, 0.7), {zero}, {.create_graph = true})[0].item() == 0.7);
}

TEST_CASE("activations on replicas") {
  const auto plan = std::make_shared<ReplicaPlan>(2);
  for (const auto& op : activations) {
    CAPTURE(op.name);
    const Tensor x = input({2, 3, 2}), y = op.apply(detail::add_replica_dim(x, plan));
    CHECK(y.is_replicated());
    CHECK(same_bits(detail::remove_replica_dim(y), op.apply(x)));
    const auto f = [&](const std::vector<Tensor>& in) {
      return sum_replicas(op.apply(detail::add_replica_dim(in[0], plan)));
    };
    CHECK(wrong_derivatives(f, {x}) == "");
  }
}
