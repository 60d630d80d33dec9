#include "lpf/calculus/gradcheck.hpp"

#include <sstream>

#include "lpf/ops/activation.hpp"
#include "lpf/ops/linear.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

using Backward = Grads (*)(const Tensor& g, const Tensor& x);

/// x² with a custom backward function.
GradCheckFunction square_with(Backward backward) {
  return [backward](const std::vector<Tensor>& in) {
    const Tensor x = in[0];
    return record("test", (x * x).detach(), {x},
                  [x, backward](const Tensor& g, Need) { return backward(g, x); });
  };
}

bool says(const GradCheckResult& r, std::string_view part) {
  return r.message.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("gradcheck accepts what is right, to many digits") {
  const auto r = gradcheck(square_with([](const Tensor& g, const Tensor& x) { return Grads{g * x * 2.0}; }),
                           {normal({2, 3})});
  CHECK(r.ok);
  CHECK(r.worst < 1e-9);
  CHECK(r.input == 0);
  CHECK(says(r, "ok"));
  CHECK(gradgradcheck(square_with([](const Tensor& g, const Tensor& x) { return Grads{g * x * 2.0}; }),
                      {normal({2, 3})}));
}

TEST_CASE("gradcheck finds a wrong gradient, and says where") {
  const auto wrong = square_with([](const Tensor& g, const Tensor& x) {
    const Tensor factor = tensor({2.0, 2.0, 2.0, 2.0, 2.001, 2.0}).reshape({2, 3});
    return Grads{g * x * factor};
  });
  const auto r = gradcheck(wrong, {normal({2, 3})});
  CHECK_FALSE(r.ok);
  CHECK_FALSE(static_cast<bool>(r));
  CHECK(r.input == 0);
  CHECK(r.element == 4);
  CHECK(r.worst > 1e-5);
  CHECK(r.analytic / r.numeric == doctest::Approx(1.0005).epsilon(1e-6));
  CHECK(says(r, "input 0, element [1, 1] of shape [2, 3]"));
  CHECK(gradcheck(wrong, {normal({2, 3})}, {.tolerance = 1e-2}).ok);
  std::ostringstream out;
  out << r;
  CHECK(out.str() == r.message);
  const auto second_input = [](const std::vector<Tensor>& in) { return in[0] * in[1].detach(); };
  const auto s = gradcheck(second_input, {normal({3}), normal({3}, 2)});
  CHECK_FALSE(s.ok);
  CHECK(s.input == 1);
  CHECK(s.analytic == 0);
}

TEST_CASE("gradcheck finds what a sum of the gradient would hide") {
  // transposed: the sum over all elements is correct, the elements are not
  const auto wrong =
      square_with([](const Tensor& g, const Tensor& x) { return Grads{(g * x * 2.0).transpose()}; });
  CHECK_FALSE(gradcheck(wrong, {normal({3, 3})}).ok);
}

TEST_CASE("gradcheck finds gradients of the wrong shape or dtype") {
  const auto r =
      gradcheck(square_with([](const Tensor& g, const Tensor& x) { return Grads{(g * x * 2.0).flatten()}; }),
                {normal({2, 3})});
  CHECK_FALSE(r.ok);
  CHECK(says(r, "[6]"));
  CHECK(says(r, "[2, 3]"));
  const auto d = gradcheck(
      square_with([](const Tensor& g, const Tensor& x) { return Grads{(g * x * 2.0).to(float32)}; }),
      {normal({2})});
  CHECK_FALSE(d.ok);
  CHECK(says(d, "float32"));
  const auto m = gradcheck(
      [](const std::vector<Tensor>& in) {
        return record("test", expand(in[0], {3}).detach(), {in[0]},
                      [](const Tensor& g, Need) { return Grads{g}; });
      },
      {normal({1})});
  CHECK_FALSE(m.ok);
}

TEST_CASE("gradcheck holds the fused backward against the composed one") {
  const auto r = gradcheck(square_with([](const Tensor& g, const Tensor& x) {
                             return Grads{g * x * (is_grad_enabled() ? 2.0 + 1e-9 : 2.0)};
                           }),
                           {normal({2, 3})});
  CHECK_FALSE(r.ok);
  CHECK(says(r, "fused and composed"));
  CHECK(says(r, "input 0"));
}

TEST_CASE("gradgradcheck finds a first derivative that is right and has no derivative") {
  const auto constant =
      square_with([](const Tensor& g, const Tensor& x) { return Grads{g * x.detach() * 2.0}; });
  CHECK(gradcheck(constant, {normal({2})}).ok);
  const auto r = gradgradcheck(constant, {normal({2})});
  CHECK_FALSE(r.ok);
  CHECK(r.input == 0);
  CHECK(says(r, "second derivatives"));
  const auto linear_lost =
      square_with([](const Tensor& g, const Tensor& x) { return Grads{g.detach() * x * 2.0}; });
  CHECK(gradcheck(linear_lost, {normal({2})}).ok);
  CHECK(gradgradcheck(linear_lost, {normal({2})}).input == 1);  // with respect to the cotangent
}

TEST_CASE("gradcheck: functions that change, NaN, other dtypes") {
  int calls = 0;
  const auto changing = [&calls](const std::vector<Tensor>& in) { return in[0] * (1.0 + 0.01 * calls++); };
  const auto r = gradcheck(changing, {normal({2})});
  CHECK_FALSE(r.ok);
  CHECK(says(r, "second call"));
  const auto nan = gradcheck([](const std::vector<Tensor>& in) { return log(in[0]); }, {tensor({-1.0})});
  CHECK_FALSE(nan.ok);
  CHECK(says(nan, "NaN"));
  CHECK_ERROR(gradcheck([](auto& in) { return in[0]; }, {zeros({2})}), DTypeError, "[gradcheck]", "float32",
              "float64");
  CHECK_ERROR(gradcheck([](auto& in) { return in[0].to(float32); }, {normal({2})}), DTypeError, "[gradcheck]",
              "returns float32");
}

TEST_CASE("gradcheck: empty, single, scalar, unused, identity, views") {
  const auto identity = [](const std::vector<Tensor>& in) { return in[0]; };
  for (const Shape& shape : shapes) {
    const auto r = gradcheck(identity, {normal(shape)});
    CHECK(r.ok);
    CHECK((r.input < 0) == (shape.numel() == 0));
    CHECK(wrong_derivatives([](auto& in) { return in[0].reshape({-1}); }, {normal(shape)}) == "");
  }
  CHECK(wrong_derivatives([](auto& in) { return in[0] * 1.0; }, {normal({2}), normal({3})}) ==
        "");  // does not use its second input
  CHECK(wrong_derivatives([](auto&) { return tensor({1.0}); }, {normal({2})}) == "");
  CHECK_FALSE(gradcheck([](auto& in) { return in[0].detach(); }, {normal({2})}).ok);
}

TEST_CASE("gradcheck leaves its inputs alone") {
  const Tensor x = normal({3}).requires_grad_(), before = x.detach().clone();
  CHECK(gradcheck([](auto& in) { return exp(in[0]); }, {x}).ok);
  CHECK(gradgradcheck([](auto& in) { return exp(in[0]); }, {x}).ok);
  CHECK(same_bits(x.detach(), before));
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("gradcheck takes functions that differentiate inside, and captured parameters") {
  const Tensor w = normal({3, 2}).requires_grad_();
  const auto penalty = [&w](const std::vector<Tensor>& in) {
    const Tensor x = in[0].requires_grad() ? in[0] : in[0].detach().requires_grad_();
    return grad(sum(tanh(linear(x, w))), {x}, {.create_graph = true})[0];
  };
  CHECK(wrong_derivatives(penalty, {normal({4, 2})}) == "");
  CHECK_FALSE(w.grad().defined());
}
