#include "lpf/ops/arithmetic.hpp"

#include <limits>
#include "lpf/ops/math.hpp"
#include "lpf/ops/replicate.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

struct BinaryCase {
  const char* name;
  Tensor (*apply)(const Tensor&, const Tensor&);
  double (*expected)(double, double);
};
const BinaryCase binary_cases[] = {
    {"add", add, [](double a, double b) { return a + b; }},
    {"sub", sub, [](double a, double b) { return a - b; }},
    {"mul", mul, [](double a, double b) { return a * b; }},
    {"div", div, [](double a, double b) { return a / b; }},
    {"maximum", maximum, [](double a, double b) { return std::max(a, b); }},
    {"minimum", minimum, [](double a, double b) { return std::min(a, b); }},
    {"remainder", remainder, [](double a, double b) { return a - std::floor(a / b) * b; }},
};

/// Pairs of shapes that broadcast: to the right, to the left, to both, empty, one element, ranks 0 … 4.
const std::vector<std::pair<Shape, Shape>> shape_pairs = {
    {{}, {}},
    {{1}, {}},
    {{}, {3}},
    {{3}, {1}},
    {{2, 3}, {2, 3}},
    {{2, 3}, {3}},
    {{3}, {2, 3}},
    {{2, 1}, {1, 3}},
    {{2, 3}, {2, 1}},
    {{2, 1, 3}, {4, 1}},
    {{0}, {1}},
    {{2, 0}, {2, 1}},
    {{2, 0, 3}, {3}},
    {{1, 1}, {1}},
    {{2, 1, 2, 1}, {3, 1, 2}},
    {{2, 3, 1, 2}, {1, 1, 2, 1}},
};

/// The element of a at position `at` of the broadcast shape.
double element(const Tensor& a, const Shape& shape, std::int64_t at) {
  const auto strides = a.shape().strides();
  std::int64_t from = 0;
  for (int i = shape.rank(); i-- > 0; at /= shape[i])
    if (const int j = i - (shape.rank() - a.rank()); j >= 0 && a.shape()[j] > 1)
      from += at % shape[i] * strides[static_cast<std::size_t>(j)];
  return a.to_vector()[static_cast<std::size_t>(from)];
}

}  // namespace

TEST_CASE("binary operations: values and broadcasting") {
  for (const auto& op : binary_cases)
    for (const auto& [sa, sb] : shape_pairs) {
      CAPTURE(op.name);
      CAPTURE(sa.to_string());
      CAPTURE(sb.to_string());
      const Tensor a = normal(sa, 1), b = uniform(sb, 0.5, 2, 2), y = op.apply(a, b);
      CHECK(y.shape() == broadcast("test", sa, sb));
      const auto values = y.to_vector();
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        CHECK(values[i] == doctest::Approx(op.expected(element(a, y.shape(), at), element(b, y.shape(), at)))
                               .epsilon(1e-15));
      }
    }
}

TEST_CASE("binary operations: first and second derivatives") {
  for (const auto& op : binary_cases)
    for (const auto& [sa, sb] : shape_pairs) {
      CAPTURE(op.name);
      CAPTURE(sa.to_string());
      CAPTURE(sb.to_string());
      const auto f = [&op](const std::vector<Tensor>& x) { return op.apply(x[0], x[1]); };
      CHECK(wrong_derivatives(f, {normal(sa, 1), uniform(sb, 0.5, 2, 2)}) == "");
    }
}

TEST_CASE("binary operations: one tensor as both operands") {
  const Tensor x = uniform({2, 3}, 0.5, 2);
  for (const auto& op : binary_cases) {
    if (std::string(op.name) == "remainder") continue;  // 0 at x = x, where it is discontinuous
    CAPTURE(op.name);
    const bool tie = std::string(op.name).ends_with("imum");
    const auto f = [&](const std::vector<Tensor>& in) {
      return op.apply(in[0], tie ? affine(in[0], 2, 0) : in[0]);
    };
    CHECK(wrong_derivatives(f, {x}) == "");
  }
}

TEST_CASE("binary operations: operands from transposes and slices with a step") {
  const Tensor x = normal({3, 4}, 3), y = uniform({4, 6}, 0.5, 2, 4);
  for (const auto& op : binary_cases) {
    CAPTURE(op.name);
    const auto f = [&](const std::vector<Tensor>& in) {
      return op.apply(transpose(in[0]), slice(in[1], 1, 1, 6, 2));  // [4, 3] and [4, 3]
    };
    CHECK(wrong_derivatives(f, {x, y}) == "");
    const auto views = [&](const std::vector<Tensor>& in) {
      return op.apply(in[0][2], in[1][1].slice(0, 2, 6));
    };
    CHECK(wrong_derivatives(views, {x, y}) == "");
    const Tensor v = views({x, y});
    for (std::int64_t i = 0; i < 4; ++i)
      CHECK(v[i].item() == doctest::Approx(op.expected(x[2][i].item(), y[1][i + 2].item())).epsilon(1e-15));
  }
}

TEST_CASE("binary operations: float32 agrees with float64") {
  for (const auto& op : binary_cases)
    for (const auto& [sa, sb] : std::vector<std::pair<Shape, Shape>>{
             {{17000}, {17000}}, {{17000}, {1}}, {{1}, {17000}}, {{130, 301}, {301}}, {{130, 1}, {1, 301}}}) {
      CAPTURE(op.name);
      const Tensor a = normal(sa, 1, float32), b = uniform(sb, 0.5, 2, 2, float32);
      const Tensor y = op.apply(a, b);
      CHECK(y.dtype() == float32);
      if (std::string(op.name) == "remainder") continue;  // discontinuous: compared below where it is smooth
      CHECK(relative_error(y.to(float64), op.apply(a.to(float64), b.to(float64))) < 1e-6);
    }
}

TEST_CASE("affine, negation and operators with numbers") {
  const Tensor x = tensor({1.0, -2.0, 3.0});
  CHECK(holds(affine(x, 2, 1), {3}, {3, -3, 7}));
  CHECK(holds(x + 1.0, {3}, {2, -1, 4}));
  CHECK(holds(1.0 + x, {3}, {2, -1, 4}));
  CHECK(holds(x - 1.0, {3}, {0, -3, 2}));
  CHECK(holds(1.0 - x, {3}, {0, 3, -2}));
  CHECK(holds(x * 2.0, {3}, {2, -4, 6}));
  CHECK(holds(2.0 * x, {3}, {2, -4, 6}));
  CHECK(holds(x / 2.0, {3}, {0.5, -1, 1.5}));
  CHECK(holds(6.0 / x, {3}, {6, -3, 2}));
  CHECK(holds(-x, {3}, {-1, 2, -3}));
  const std::vector<std::pair<const char*, GradCheckFunction>> functions = {{"affine", [](auto& in) { return affine(in[0], -3, 2); }},
                                                                            {"x + s", [](auto& in) { return in[0] + 2.0; }},
                                                                            {"s + x", [](auto& in) { return 2.0 + in[0]; }},
                                                                            {"x - s", [](auto& in) { return in[0] - 2.0; }},
                                                                            {"s - x", [](auto& in) { return 2.0 - in[0]; }},
                                                                            {"x * s", [](auto& in) { return in[0] * 3.0; }},
                                                                            {"s * x", [](auto& in) { return 3.0 * in[0]; }},
                                                                            {"x / s", [](auto& in) { return in[0] / 3.0; }},
                                                                            {"s / x", [](auto& in) { return 3.0 / in[0]; }},
                                                                            {"-x", [](auto& in) { return -in[0]; }}};
  for (const auto& [name, f] : functions)
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{0}, Shape{2, 3}, Shape{2, 0}, Shape{2, 1, 2, 3}}) {
      CAPTURE(name);
      CHECK(wrong_derivatives(f, {uniform(shape, 0.5, 2)}) == "");
    }
}

TEST_CASE("integers: arithmetic, and what has no meaning for them") {
  const Tensor i = tensor<std::int64_t>({7, -7, 3}), j = tensor<std::int64_t>({2, 3, -3});
  CHECK((i + j).dtype() == int64);
  CHECK(holds(i + j, {3}, {9, -4, 0}));
  CHECK(holds(i - j, {3}, {5, -10, 6}));
  CHECK(holds(i * j, {3}, {14, -21, -9}));
  CHECK(holds(i * 3.0 + 1.0, {3}, {22, -20, 10}));
  CHECK(holds(-i, {3}, {-7, 7, -3}));
  CHECK_ERROR(i / j, DTypeError, "[div]", "int64");
  CHECK_ERROR(i / 2.0, DTypeError, "[div]", "int64");
  CHECK_ERROR(i * 0.5, DTypeError, "[affine]", "0.5", "int64", ".to(float32)");
  CHECK_ERROR(i + 0.5, DTypeError, "[affine]", "0.5", "int64");
  const Tensor bytes = tensor<std::uint8_t>({200, 5});
  CHECK(holds(bytes + bytes, {2}, {144, 10}));  // modulo 256
  CHECK(holds(bytes - 6.0, {2}, {194, 255}));
  CHECK(holds(tensor<std::int32_t>({1, -2}) * tensor<std::int32_t>({3, 4}), {2}, {3, -8}));
  const Tensor yes = tensor({true, false});
  CHECK_ERROR(yes + yes, DTypeError, "[add]", "bool", "logical");
  CHECK_ERROR(yes - yes, DTypeError, "[sub]", "bool");
  CHECK_ERROR(yes * yes, DTypeError, "[mul]", "bool");
  CHECK_ERROR(yes * 2.0, DTypeError, "[affine]", "bool");
  CHECK_ERROR(-yes, DTypeError, "[affine]", "bool");
  CHECK_FALSE((i + j).requires_grad());
}

TEST_CASE("remainder has the sign of the divisor, as in Python") {
  CHECK(
      holds(remainder(tensor({7.0, -7.0, 7.0, -7.0}), tensor({3.0, 3.0, -3.0, -3.0})), {4}, {1, 2, -2, -1}));
  CHECK(holds(remainder(tensor<std::int64_t>({7, -7, 7, -7, 6}), tensor<std::int64_t>({3, 3, -3, -3, -3})),
              {5}, {1, 2, -2, -1, 0}));
  CHECK(holds(remainder(tensor<std::uint8_t>({7, 200}), tensor<std::uint8_t>({3, 7})), {2}, {1, 4}));
  CHECK(holds(remainder(tensor({5.5, -5.5}), tensor({2.0, 2.0})), {2}, {1.5, 0.5}));
  CHECK(std::isnan(remainder(tensor({1.0}), tensor({0.0})).item()));
  CHECK(std::isnan(remainder(tensor({infinity}), tensor({2.0})).item()));
  CHECK(holds(
      remainder(tensor<std::int32_t>({std::numeric_limits<std::int32_t>::min()}), tensor<std::int32_t>({-1})),
      {1}, {0}));  // does not trap
  CHECK_ERROR(remainder(tensor<std::int32_t>({1}), tensor<std::int32_t>({0})), ValueError, "[remainder]",
              "0");
}

TEST_CASE("maximum and minimum: NaN wins, ties give the gradient to the first") {
  const Tensor a = tensor({not_a_number, 1.0, not_a_number, 2.0}),
               b = tensor({1.0, not_a_number, not_a_number, 2.0});
  for (const auto& y : {maximum(a, b), minimum(a, b)}) {
    const auto v = y.to_vector();
    CHECK(std::isnan(v[0]));
    CHECK(std::isnan(v[1]));
    CHECK(std::isnan(v[2]));
    CHECK(v[3] == 2);
  }
  const Tensor x = tensor({3.0}).requires_grad_(), y = tensor({3.0}).requires_grad_();
  CHECK(holds(grad(maximum(x, y), {x, y})[0], {1}, {1}));
  CHECK(holds(grad(maximum(x, y), {x, y})[1], {1}, {0}));
  CHECK(holds(grad(minimum(x, y), {x, y})[0], {1}, {1}));
  CHECK(holds(maximum(tensor<std::int64_t>({1, 5}), tensor<std::int64_t>({4, 2})), {2}, {4, 5}));
  CHECK(maximum(tensor<std::int64_t>({1}), tensor<std::int64_t>({2})).dtype() == int64);
}

TEST_CASE("comparisons") {
  const Tensor a = tensor({1.0, 2.0, 3.0, not_a_number}), b = tensor({2.0, 2.0, 2.0, not_a_number});
  CHECK((a < b).dtype() == DType::bool_);
  CHECK(holds(a < b, {4}, {1, 0, 0, 0}));
  CHECK(holds(a <= b, {4}, {1, 1, 0, 0}));
  CHECK(holds(a > b, {4}, {0, 0, 1, 0}));
  CHECK(holds(a >= b, {4}, {0, 1, 1, 0}));
  CHECK(holds(a == b, {4}, {0, 1, 0, 0}));
  CHECK(holds(a != b, {4}, {1, 0, 1, 1}));
  CHECK(holds(a < 2.0, {4}, {1, 0, 0, 0}));
  CHECK(holds(a <= 2.0, {4}, {1, 1, 0, 0}));
  CHECK(holds(a > 2.0, {4}, {0, 0, 1, 0}));
  CHECK(holds(a >= 2.0, {4}, {0, 1, 1, 0}));
  CHECK(holds(a == 2.0, {4}, {0, 1, 0, 0}));
  CHECK(holds(a != 2.0, {4}, {1, 0, 1, 1}));
  CHECK(
      holds(tensor({1.0f, 2.0f}) < reshape(tensor({1.0f, 2.0f, 3.0f}), {3, 1}), {3, 2}, {0, 0, 1, 0, 1, 1}));
  CHECK(holds(tensor({true, false}) == tensor({true, true}), {2}, {1, 0}));
  const Tensor x = tensor({1.0}).requires_grad_();
  CHECK_FALSE((x < 2.0).requires_grad());
}

TEST_CASE("comparisons of integers with numbers are exact") {
  const Tensor i = tensor<std::int64_t>({1, 2, 3});
  CHECK(holds(i == 2.0, {3}, {0, 1, 0}));
  CHECK(holds(i == 2.5, {3}, {0, 0, 0}));
  CHECK(holds(i > 2.5, {3}, {0, 0, 1}));
  CHECK(holds(i < 2.5, {3}, {1, 1, 0}));
  const Tensor bytes = tensor<std::uint8_t>({0, 44, 255});
  CHECK(holds(bytes < 300.0, {3}, {1, 1, 1}));
  CHECK(holds(bytes == 300.0, {3}, {0, 0, 0}));
  CHECK(holds(bytes > -1.0, {3}, {1, 1, 1}));
  CHECK(holds(tensor({true, false}) == 1.0, {2}, {1, 0}));
  const std::int64_t big = (std::int64_t{1} << 53) + 1;
  CHECK(holds(tensor({big}) == tensor({big - 1}), {1}, {0}));
  CHECK(holds(tensor({big}) == 0x1p53, {1}, {0}));
  // against numbers that the type does not hold: all six, by what is known of them
  const auto all_six = [](const Tensor& x, double s) {
    const std::vector<Tensor> results = {x<s, x <= s, x == s, x != s, x >= s, x> s};
    std::string found;
    for (const Tensor& t : results)
      for (const bool b : t.to_vector<bool>()) found += b ? '1' : '0';
    return found;
  };
  constexpr std::int64_t top = std::numeric_limits<std::int64_t>::max(), bottom = -top - 1;
  CHECK(all_six(tensor({top}), 0x1p63) == "110100");
  CHECK(all_six(tensor({bottom}), 0x1p63) == "110100");
  CHECK(all_six(tensor({bottom}), -0x1p63) == "011010");
  CHECK(all_six(tensor({top}), -0x1p63) == "000111");
  CHECK(all_six(tensor({bottom}), -0x1.0000000000001p63) == "000111");
  CHECK(all_six(tensor({top}), infinity) == "110100");
  CHECK(all_six(tensor({bottom}), -infinity) == "000111");
  CHECK(all_six(tensor({big}), not_a_number) == "000100");
  CHECK(all_six(tensor({big}), static_cast<double>(big - 1) / 2 + 0.5) == "000111");
  CHECK(all_six(tensor<std::int64_t>({-3, -2}), -2.5) == "101000110101");
  CHECK(all_six(tensor<std::uint8_t>({255}), 255.5) == "110100");
  CHECK(all_six(tensor<std::int32_t>({-2147483647}), -2147483648.5) == "000111");
  CHECK(all_six(tensor({true, false}), 0.5) == "010100111010");
}

TEST_CASE("comparisons and logic of every dtype, long enough for every path") {
  for (const DType dtype : {DType::bool_, uint8, int32, int64, float32, float64})
    for (const std::int64_t n : {1, 9, 100, 17001}) {
      CAPTURE(name_of(dtype));
      CAPTURE(n);
      const Tensor a = uniform({n}, 0, 3, 1).to(dtype), b = uniform({n}, 0, 3, 2).to(dtype);
      const auto u = a.to_vector(), v = b.to_vector();
      const std::vector<Tensor> results = {
          a == b, a != b, a < b, a >= b, logical_and(a, b), logical_or(a, b), logical_xor(a, b)};
      std::vector<bool> right(results.size(), true);
      for (std::size_t r = 0; r < results.size(); ++r) {
        const auto found = results[r].to_vector<bool>();
        for (std::size_t i = 0; i < found.size(); ++i) {
          const bool p = u[i] != 0, q = v[i] != 0;
          const bool expected[] = {u[i] == v[i], u[i] != v[i], u[i] < v[i], u[i] >= v[i],
                                   p && q,       p || q,       p != q};
          right[r] = right[r] && found[i] == expected[r];
        }
        CAPTURE(r);
        CHECK(right[r]);
      }
    }
}

TEST_CASE("logic, is_nan, is_finite") {
  const Tensor a = tensor({true, true, false, false}), b = tensor({true, false, true, false});
  CHECK(holds(logical_and(a, b), {4}, {1, 0, 0, 0}));
  CHECK(holds(logical_or(a, b), {4}, {1, 1, 1, 0}));
  CHECK(holds(logical_xor(a, b), {4}, {0, 1, 1, 0}));
  CHECK(holds(logical_not(a), {4}, {0, 0, 1, 1}));
  CHECK(holds(logical_and(tensor({2.0, 0.0}), tensor({0.5, 1.0})), {2}, {1, 0}));
  CHECK(holds(logical_not(tensor<std::int64_t>({0, 3})), {2}, {1, 0}));
  CHECK(holds(is_nan(tensor({1.0, infinity, not_a_number})), {3}, {0, 0, 1}));
  CHECK(holds(is_finite(tensor({1.0, infinity, not_a_number, -infinity})), {4}, {1, 0, 0, 0}));
  CHECK(holds(is_nan(tensor<std::int64_t>({1})), {1}, {0}));
  CHECK(holds(is_finite(tensor<std::int64_t>({1})), {1}, {1}));
}

TEST_CASE("where") {
  const Tensor c = tensor({true, false, true});
  CHECK(holds(where(c, tensor({1.0, 2.0, 3.0}), tensor({4.0, 5.0, 6.0})), {3}, {1, 5, 3}));
  CHECK(holds(where(c, full({}, 1, {.dtype = float64}), tensor({4.0})), {3}, {1, 4, 1}));
  CHECK(holds(where(reshape(c, {3, 1}), tensor<std::int64_t>({1, 2}), tensor<std::int64_t>({3})), {3, 2},
              {1, 2, 3, 3, 1, 2}));
  CHECK(holds(where(c, tensor({true, true, true}), tensor({false})), {3}, {1, 0, 1}));
  for (const auto& [sa, sb] : shape_pairs) {
    CAPTURE(sa.to_string());
    CAPTURE(sb.to_string());
    const Tensor condition = normal(broadcast("test", sa, sb), 5) > 0.0;
    const auto f = [&](const std::vector<Tensor>& in) { return where(condition, in[0], in[1]); };
    CHECK(wrong_derivatives(f, {normal(sa, 1), normal(sb, 2)}) == "");
  }
  // unselected elements may be NaN, in the gradient too
  const Tensor x = tensor({-1.0, 4.0}).requires_grad_();
  const Tensor y = where(x > 0.0, sqrt(where(x > 0.0, x, ones_like(x))), zeros_like(x));
  CHECK(holds(grad(sum(y), {x})[0], {2}, {0, 0.25}));
  CHECK_ERROR(where(tensor({1.0}), tensor({1.0}), tensor({1.0})), DTypeError, "[where]", "float64", "bool");
  CHECK_ERROR(where(c, tensor({1.0}), tensor({1.f})), DTypeError, "[where]", "float64", "float32");
  CHECK_ERROR(where(c, tensor({1.0, 2.0}), tensor({1.0})), ShapeError, "[where]", "[3]", "[2]");
}

TEST_CASE("errors name the operation, the rule and the values") {
  const Tensor a = zeros({2, 3}), b = zeros({4, 3});
  CHECK_ERROR(a + b, ShapeError, "[add]", "[2, 3]", "[4, 3]", "do not broadcast", "axis 0", "2 and 4");
  CHECK_ERROR(a * b, ShapeError, "[mul]");
  CHECK_ERROR(a < b, ShapeError, "[less]");
  CHECK_ERROR(a == b, ShapeError, "[equal]");
  CHECK_ERROR(maximum(a, b), ShapeError, "[2, 3]", "[4, 3]");
  CHECK_ERROR(a + a.to(float64), DTypeError, "[add]", "float32", "float64", ".to(");
  CHECK_ERROR(a - a.to(int64), DTypeError, "[sub]", "float32", "int64");
  CHECK_ERROR(a + Tensor(), StateError, "before it was given a value");
}

TEST_CASE("elementwise on replicas") {
  const auto plan = std::make_shared<ReplicaPlan>(3), other = std::make_shared<ReplicaPlan>(3);
  const Tensor all = normal({3, 2, 4}, 1), rows = normal({3, 4}, 2);
  const Tensor w = detail::add_replica_dim(all, plan), b = detail::add_replica_dim(rows, plan);
  CHECK(w.shape() == Shape{2, 4});
  for (const auto& op : binary_cases) {
    CAPTURE(op.name);
    const Tensor y = op.apply(w, b);  // replica by replica, b broadcast within each
    CHECK(y.is_replicated());
    CHECK(y.shape() == Shape{2, 4});
    for (std::int64_t r = 0; r < 3; ++r)
      CHECK(same_bits(detail::remove_replica_dim(y)[r], op.apply(all[r], rows[r])));
    const Tensor number = full({}, 2, {.dtype = float64});
    CHECK(same_bits(detail::remove_replica_dim(op.apply(w, number)), op.apply(all, number)));
    CHECK(same_bits(detail::remove_replica_dim(op.apply(number, w)), op.apply(number, all)));
    const auto f = [&](const std::vector<Tensor>& in) {
      return sum_replicas(
          op.apply(detail::add_replica_dim(in[0], plan), detail::add_replica_dim(in[1], plan)));
    };
    CHECK(wrong_derivatives(f, {all, uniform({3, 4}, 0.5, 2)}) == "");
    // A plain tensor of as many axes is a constant, the same for all replicas.
    CHECK(same_bits(detail::remove_replica_dim(op.apply(w, all[0])), op.apply(all, all[0])));
    CHECK(same_bits(detail::remove_replica_dim(op.apply(all[0], w)), op.apply(all[0], all)));
    CHECK_ERROR(op.apply(w, detail::add_replica_dim(rows, other)), ReplicaError, op.name,
                "two different perturbed passes");
  }
  CHECK(same_bits(detail::remove_replica_dim(affine(w, 2, 1)), affine(all, 2, 1)));
  CHECK(same_bits(detail::remove_replica_dim(-w), -all));
  CHECK(same_bits(detail::remove_replica_dim(w / 2.0), all / 2.0));
  // Comparisons and where() have the same rule.
  CHECK(same_bits(detail::remove_replica_dim(w < b), all < rows.unsqueeze(1)));
  CHECK(same_bits(detail::remove_replica_dim(w > 0.5), all > 0.5));
  CHECK(
      same_bits(detail::remove_replica_dim(where(w > 0.0, w, b)), where(all > 0.0, all, rows.unsqueeze(1))));
  CHECK(same_bits(detail::remove_replica_dim(where(all[0] > 0.0, w, -w)), where(all[0] > 0.0, all, -all)));
  CHECK_ERROR(w < detail::add_replica_dim(rows, other), ReplicaError, "[less]",
              "two different perturbed passes");
}
