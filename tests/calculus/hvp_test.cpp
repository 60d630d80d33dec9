#include "lpf/calculus/hvp.hpp"

#include "lpf/ops/activation.hpp"
#include "lpf/ops/linear.hpp"
#include "lpf/ops/matmul.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// A small network with every kind of curvature.
struct Network {
  Tensor x = normal({6, 4}, 1), y = normal({6, 2}, 2);
  std::vector<Tensor> parameters = {normal({5, 4}, 3).requires_grad_(), normal({5}, 4).requires_grad_(),
                                    normal({2, 5}, 5).requires_grad_(), normal({2}, 6).requires_grad_()};

  Tensor loss(const std::vector<Tensor>& p) const {
    return mean((linear(gelu(linear(x, p[0], p[1])), p[2], p[3]) - y).square());
  }
  Tensor loss() const { return loss(parameters); }
  std::vector<Tensor> direction(std::uint64_t seed) const {
    std::vector<Tensor> v;
    for (const Tensor& p : parameters) v.push_back(normal(p.shape(), seed + v.size()));
    return v;
  }
};

double inner(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double total = 0;
  for (std::size_t i = 0; i < a.size(); ++i) total += dot(a[i], b[i]).item();
  return total;
}

}  // namespace

TEST_CASE("hvp: a quadratic has the Hessian that it was made of") {
  const Tensor a = normal({4, 4}), h = a + a.transpose(), x = normal({4}, 2).requires_grad_(),
               v = normal({4}, 3);
  const Tensor loss = dot(x, matmul(h, x)) * 0.5;
  CHECK(relative_error(hvp(loss, {x}, {v})[0], matmul(h, v)) < 1e-13);
}

TEST_CASE("hvp: against differences of the gradient, for a network") {
  const Network net;
  const auto v = net.direction(20);
  const auto hv = hvp(net.loss(), net.parameters, v);
  constexpr double h = 1e-5;
  const auto gradient_at = [&](double step) {
    std::vector<Tensor> p;
    for (std::size_t i = 0; i < v.size(); ++i)
      p.push_back((net.parameters[i].detach() + v[i] * step).requires_grad_());
    return grad(net.loss(p), p);
  };
  const auto above = gradient_at(h), below = gradient_at(-h);
  for (std::size_t i = 0; i < v.size(); ++i) {
    CHECK(hv[i].shape() == net.parameters[i].shape());
    CHECK_FALSE(hv[i].requires_grad());
    CHECK(relative_error(hv[i], (above[i] - below[i]) / (2 * h)) < 1e-8);
  }
}

TEST_CASE("hvp: linear and symmetric, to rounding; many products from one gradient") {
  const Network net;
  const HessianVectorProduct h(net.loss(), net.parameters);
  const auto u = net.direction(30), v = net.direction(40);
  const auto hu = h(u), hv = h(v), again = h(u);
  CHECK(inner(u, hv) == doctest::Approx(inner(v, hu)).epsilon(1e-12));
  std::vector<Tensor> both;
  for (std::size_t i = 0; i < u.size(); ++i) {
    both.push_back(u[i] * 2.0 - v[i]);
    CHECK(same_bits(hu[i], again[i]));
  }
  const auto hb = h(both);
  for (std::size_t i = 0; i < u.size(); ++i) CHECK(relative_error(hb[i], hu[i] * 2.0 - hv[i]) < 1e-12);
  const auto g = h.gradient(), plain = grad(net.loss(), net.parameters);
  for (std::size_t i = 0; i < g.size(); ++i) {
    CHECK(relative_error(g[i], plain[i]) < 1e-12);
    CHECK_FALSE(g[i].requires_grad());
    CHECK_FALSE(net.parameters[i].grad().defined());
  }
}

TEST_CASE("hvp: works under no_grad around it, and v may have history") {
  const Tensor x = tensor({2.0}).requires_grad_();
  const HessianVectorProduct h(sum(x * x * x), {x});
  const auto off = no_grad();
  CHECK(h({tensor({1.0})})[0].item() == 12);
  CHECK(h({x})[0].item() == 24);
  CHECK_FALSE(h({x})[0].requires_grad());
}

TEST_CASE("hvp: where there is no curvature it is zero") {
  const Tensor x = tensor({1.0, 2.0}).requires_grad_(), w = tensor({3.0}).requires_grad_(),
               unused = tensor({1.0}).requires_grad_();
  const auto none = hvp(sum(x * 3.0), {x}, {tensor({1.0, 1.0})});
  CHECK(holds(none[0], {2}, {0, 0}));
  const auto some =
      hvp(sum(x) + sum(w * w), {x, w, unused}, {tensor({1.0, 1.0}), tensor({1.0}), tensor({1.0})});
  CHECK(holds(some[0], {2}, {0, 0}));
  CHECK(holds(some[1], {1}, {2}));
  CHECK(holds(some[2], {1}, {0}));
  const auto mixed = hvp(sum(x) * sum(w), {x, w}, {tensor({0.0, 0.0}), tensor({1.0})});
  CHECK(holds(mixed[0], {2}, {1, 1}));
}

TEST_CASE("hvp: errors") {
  const Tensor x = tensor({1.0, 2.0}).requires_grad_();
  const Tensor loss = sum(x * x * x);
  CHECK_ERROR(hvp(x * x, {x}, {x}), ShapeError, "[grad]", "[2]");
  CHECK_ERROR(hvp(sum(x.detach()), {x}, {x}), StateError, "no history");
  const HessianVectorProduct h(loss, {x});
  CHECK_ERROR(h({}), ShapeError, "[hvp]", "0 parts", "1 inputs");
  CHECK_ERROR(h({tensor({1.0})}), ShapeError, "[hvp]", "part 0", "[1]", "[2]");
  CHECK_ERROR(h({tensor({1.f, 2.f})}), DTypeError, "[hvp]", "float32", "float64");
  {
    const auto off = no_grad();
    x.fill_(1);
  }
  CHECK_ERROR(h({tensor({1.0, 1.0})}), StateError, "changed in place");
}
