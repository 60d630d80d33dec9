#include "lpf/ops/math.hpp"

#include "lpf/ops/replicate.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

struct UnaryCase {
  const char* name;
  Tensor (*apply)(const Tensor&);
  double (*expected)(double);
  double low, high;  // range in which the derivatives are checked
};
const UnaryCase cases[] = {
    {"exp", exp, std::exp, -3, 3},
    {"expm1", expm1, std::expm1, -3, 3},
    {"log", log, std::log, 0.3, 4},
    {"log1p", log1p, std::log1p, -0.6, 4},
    {"sqrt", sqrt, std::sqrt, 0.3, 4},
    {"rsqrt", rsqrt, [](double x) { return 1 / std::sqrt(x); }, 0.3, 4},
    {"reciprocal", reciprocal, [](double x) { return 1 / x; }, 0.3, 4},
    {"square", square, [](double x) { return x * x; }, -3, 3},
    {"abs", abs, [](double x) { return std::abs(x); }, 0.1, 4},
    {"abs of negative", abs, [](double x) { return std::abs(x); }, -4, -0.1},
    {"sign", sign, [](double x) { return x > 0   ? 1.0
                                         : x < 0 ? -1.0
                                                 : 0.0; }, 0.1, 4},
    {"sin", sin, std::sin, -4, 4},
    {"cos", cos, std::cos, -4, 4},
    {"tanh", tanh, std::tanh, -3, 3},
    {"erf", erf, std::erf, -3, 3},
    {"pow 3", [](const Tensor& x) { return pow(x, 3); }, [](double x) { return std::pow(x, 3); }, -3, 3},
    {"pow 2", [](const Tensor& x) { return pow(x, 2); }, [](double x) { return x * x; }, -3, 3},
    {"pow 1", [](const Tensor& x) { return pow(x, 1); }, [](double x) { return x; }, -3, 3},
    {"pow 0", [](const Tensor& x) { return pow(x, 0); }, [](double) { return 1.0; }, -3, 3},
    {"pow -1.5", [](const Tensor& x) { return pow(x, -1.5); }, [](double x) { return std::pow(x, -1.5); },
     0.3, 4},
    {"pow 0.5", [](const Tensor& x) { return pow(x, 0.5); }, [](double x) { return std::sqrt(x); }, 0.3, 4},
    {"clamp inside", [](const Tensor& x) { return clamp(x, -1, 1); },
     [](double x) { return std::clamp(x, -1.0, 1.0); }, -0.9, 0.9},
    {"clamp above", [](const Tensor& x) { return clamp(x, -1, 1); },
     [](double x) { return std::clamp(x, -1.0, 1.0); }, 1.1, 3},
    {"floor", floor, [](double x) { return std::floor(x); }, 1.1, 1.9},
    {"ceil", ceil, [](double x) { return std::ceil(x); }, 1.1, 1.9},
    {"round", round, [](double x) { return std::nearbyint(x); }, 0.6, 1.4},
};

}  // namespace

TEST_CASE("mathematical functions: values") {
  for (const auto& op : cases)
    for (const Shape& shape : shapes) {
      CAPTURE(op.name);
      CAPTURE(shape.to_string());
      const Tensor x = uniform(shape, op.low, op.high), y = op.apply(x);
      CHECK(y.shape() == shape);
      CHECK(y.dtype() == float64);
      const auto from = x.to_vector(), found = y.to_vector();
      for (std::int64_t i = 0; i < x.numel(); ++i)
        CHECK(found[static_cast<std::size_t>(i)] ==
              doctest::Approx(op.expected(from[static_cast<std::size_t>(i)])).epsilon(1e-14));
    }
}

TEST_CASE("mathematical functions: first and second derivatives") {
  for (const auto& op : cases) {
    CAPTURE(op.name);
    for (const Shape& shape : shapes) {
      CAPTURE(shape.to_string());
      CHECK(wrong_derivatives([&op](auto& in) { return op.apply(in[0]); },
                              {uniform(shape, op.low, op.high)}) == "");
    }
    const auto rearranged = [&op](const std::vector<Tensor>& in) {
      return op.apply(slice(transpose(in[0]), 0, 1, 4, 2)) *
             op.apply(in[0][1].slice(0, 1, 4)).reshape({3, 1}).narrow(0, 0, 1);
    };
    CHECK(wrong_derivatives(rearranged, {uniform({3, 4}, op.low, op.high)}) == "");
  }
}

TEST_CASE("mathematical functions: float32 agrees with float64") {
  for (const auto& op : cases)
    for (const std::int64_t n : {1, 7, 100, 17001}) {
      CAPTURE(op.name);
      CAPTURE(n);
      const Tensor x = uniform({n}, op.low, op.high, 3, float32).requires_grad_(), y = op.apply(x);
      const Tensor xd = x.detach().to(float64).requires_grad_(), yd = op.apply(xd);
      CHECK(y.dtype() == float32);
      CHECK(relative_error(y.to(float64), yd) < 1e-6);
      CHECK(relative_error(grad(sum(y), {x})[0].to(float64), grad(sum(yd), {xd})[0]) < 2e-6);
    }
}

TEST_CASE("mathematical functions: members are the same functions") {
  const Tensor x = uniform({4}, 0.3, 2);
  CHECK(same_bits(x.exp(), exp(x)));
  CHECK(same_bits(x.log(), log(x)));
  CHECK(same_bits(x.sqrt(), sqrt(x)));
  CHECK(same_bits(x.square(), square(x)));
  CHECK(same_bits(x.abs(), abs(x)));
  CHECK(same_bits(x.tanh(), tanh(x)));
  CHECK(same_bits(x.pow(3), pow(x, 3)));
}

TEST_CASE("mathematical functions: special values") {
  const auto at = [](Tensor (*f)(const Tensor&), double x) {
    return f(full({}, x, {.dtype = float64})).item();
  };
  CHECK(at(exp, -infinity) == 0);
  CHECK(at(exp, 1000) == infinity);
  CHECK(at(log, 0) == -infinity);
  CHECK(std::isnan(at(log, -1)));
  CHECK(std::isnan(at(sqrt, -1)));
  CHECK(at(log1p, 1e-20) == 1e-20);
  CHECK(at(expm1, 1e-20) == 1e-20);
  CHECK(at(tanh, 1000) == 1);
  CHECK(at(erf, infinity) == 1);
  CHECK(at(reciprocal, 0) == infinity);
  CHECK(at(sign, 0) == 0);
  CHECK(at(abs, -infinity) == infinity);
  CHECK(std::isnan(at(abs, not_a_number)));
  CHECK(std::isnan(at(floor, not_a_number)));
  CHECK(at(floor, -1.5) == -2);
  CHECK(at(ceil, -1.5) == -1);
  CHECK(holds(round(tensor({0.5, 1.5, 2.5, -0.5, -1.5})), {5}, {0, 2, 2, 0, -2}));  // ties to even
  CHECK(holds(clamp(tensor({-5.0, 0.0, 5.0}), -1, 2), {3}, {-1, 0, 2}));
  CHECK(std::isnan(clamp(tensor({not_a_number}), -1, 1).item()));
  CHECK(holds(clamp(tensor({-5.0, 5.0}), -infinity, 2), {2}, {-5, 2}));
  CHECK_ERROR(clamp(tensor({1.0}), 2, 1), ValueError, "[clamp]", "low 2", "high 1");
  CHECK_ERROR(clamp(tensor({1.0}), not_a_number, 1), ValueError, "[clamp]");
}

TEST_CASE("mathematical functions: derivatives at the edges") {
  const auto slope = [](Tensor (*f)(const Tensor&), double x) {
    const Tensor leaf = full({}, x, {.dtype = float64}).requires_grad_();
    return grad(f(leaf), {leaf})[0].item();
  };
  CHECK(slope(abs, 0) == 0);
  CHECK(slope(sqrt, 0) == infinity);
  CHECK(slope(log, 0) == infinity);
  CHECK(slope([](const Tensor& x) { return pow(x, 2); }, 0) == 0);
  CHECK(slope([](const Tensor& x) { return pow(x, 1); }, 0) == 1);
  CHECK(slope([](const Tensor& x) { return pow(x, 0); }, 0) == 0);
  CHECK(slope([](const Tensor& x) { return clamp(x, 0, 1); }, 0) == 1);  // bounds included
  CHECK(slope([](const Tensor& x) { return clamp(x, 0, 1); }, 1) == 1);
  CHECK(slope([](const Tensor& x) { return clamp(x, 0, 1); }, 2) == 0);
  // x³ has a third derivative, and its fourth is 0
  const Tensor x = full({}, 0, {.dtype = float64}).requires_grad_();
  Tensor d = pow(x, 3);
  for (const double expected : {0.0, 0.0, 6.0}) {
    d = grad(d, {x}, {.create_graph = true})[0];
    CHECK(d.item() == expected);
  }
}

TEST_CASE("a tensor to the power of a tensor") {
  const auto f = [](const std::vector<Tensor>& in) { return pow(in[0], in[1]); };
  CHECK(wrong_derivatives(f, {uniform({2, 3}, 0.3, 2), normal({3}, 2)}) == "");
  CHECK(wrong_derivatives(f, {uniform({}, 0.3, 2), normal({2, 2}, 2)}) == "");
  CHECK(wrong_derivatives(f, {uniform({0}, 0.3, 2), normal({1}, 2)}) == "");
  CHECK(relative_error(pow(tensor({2.0, 3.0}), tensor({3.0, -1.0})), tensor({8.0, 1.0 / 3})) < 1e-15);
}

TEST_CASE("a tensor to the power of a tensor: zero, negative and large bases") {
  struct Case {
    double a, b, y, slope_a, slope_b;  // PyTorch's
  };
  for (const DType type : {float32, float64})
    for (const auto& c : {Case{-2, 2, 4, -4, not_a_number},
                          {-2, 3, -8, 12, not_a_number},
                          {-2, 0.5, not_a_number, not_a_number, not_a_number},
                          {0, 0, 1, 0, 0},
                          {0, 1, 0, 1, 0},
                          {0, 2, 0, 0, 0},
                          {0, -1, infinity, -infinity, -infinity},
                          {5, 0, 1, 0, std::log(5.0)},
                          {10, 20, 1e20, 2e20, 1e20 * std::log(10.0)},
                          {1, infinity, 1, infinity, 0},
                          {not_a_number, 0, 1, 0, not_a_number}}) {
      INFO(name_of(type), " ", c.a, " to the power ", c.b);
      const Tensor a = full({}, c.a, {type}).requires_grad_(), b = full({}, c.b, {type}).requires_grad_();
      const Tensor y = pow(a, b);
      const double ulp = type == float32 ? 0x1p-23 : 0x1p-52;
      const auto same = [ulp](const Tensor& found, double expected) {
        const double v = found.item();
        return v == expected || (std::isnan(v) && std::isnan(expected)) ||
               std::abs(v - expected) <= 4 * ulp * std::abs(expected);
      };
      CHECK(same(y, c.y));
      for (const bool create_graph : {false, true}) {
        const auto g = grad(y, {a, b}, {.create_graph = create_graph, .retain_graph = true});
        CHECK(same(g[0], c.slope_a));
        CHECK(same(g[1], c.slope_b));
      }
    }
  // d²(a^b)/da² at 0² is 2, and the parts of 0⁰ do not spoil it
  const Tensor a = tensor({0.0, 0.0}).requires_grad_();
  const Tensor first = grad(sum(pow(a, tensor({2.0, 0.0}))), {a}, {.create_graph = true})[0];
  CHECK(holds(grad(sum(first), {a})[0], {2}, {2, 0}));
  CHECK_ERROR(pow(tensor<std::int64_t>({2}), tensor<std::int64_t>({2})), DTypeError, "[pow]", "int64");
  CHECK_ERROR(pow(ones({2, 3}), ones({2})), ShapeError, "[pow]", "[2, 3]", "[2]");
}

TEST_CASE("mathematical functions: integers are refused") {
  const Tensor i = tensor<std::int64_t>({1, 2});
  for (const auto& op : cases) CHECK_ERROR(op.apply(i), DTypeError, "int64", ".to(float32)");
  CHECK_ERROR(exp(i), DTypeError, "[exp]");
  CHECK_ERROR(exp(tensor({true})), DTypeError, "[exp]", "bool");
}

TEST_CASE("mathematical functions on replicas") {
  const auto plan = std::make_shared<ReplicaPlan>(2);
  for (const auto& op : cases) {
    CAPTURE(op.name);
    const Tensor all = uniform({2, 3}, op.low, op.high), y = op.apply(detail::add_replica_dim(all, plan));
    CHECK(y.is_replicated());
    CHECK(y.shape() == Shape{3});
    CHECK(same_bits(detail::remove_replica_dim(y), op.apply(all)));
    const auto f = [&](const std::vector<Tensor>& in) {
      return sum_replicas(op.apply(detail::add_replica_dim(in[0], plan)));
    };
    CHECK(wrong_derivatives(f, {all}) == "");
  }
}
