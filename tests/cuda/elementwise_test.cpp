// Elementwise kernels against the CPU's, on random numbers, shapes and strides.
#include "compare.hpp"
#include "strided.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::Binary;
using backend::Table;
using backend::Unary;
using backend::View;

namespace {

const std::vector<std::int64_t> lengths = {0, 1, 7, 300};

bool for_integers(Unary op) {
  return op <= Unary::square || op == Unary::logical_not || op == Unary::is_finite || op == Unary::is_nan;
}
bool is_test(Unary op) { return op == Unary::logical_not || op == Unary::is_finite || op == Unary::is_nan; }
bool for_integers(Binary op) {
  return op < Binary::relu_backward && op != Binary::divide && op != Binary::power;
}
bool is_test(Binary op) { return op >= Binary::equal && op <= Binary::logical_xor; }

/// What every type can hold.
Tensor positive(const Tensor& x) { return x.dtype() == DType::bool_ ? x : abs(x.to(float64)).to(x.dtype()); }

/// Random numbers, and, of real ones, the special ones first.
Tensor operand(Choice& choice, std::int64_t n, DType type) {
  Tensor x = choice.numbers({n}, type);
  if (!is_floating(type)) return x;
  const std::vector<double> special = {0, -0.0, 1, -1, infinity, -infinity, not_a_number};
  for (std::int64_t i = 0; i < std::min<std::int64_t>(n, std::ssize(special)); ++i)
    x.alias({}, i).fill_(special[static_cast<std::size_t>(i)]);
  return x;
}

}  // namespace

TEST_CASE("elementwise: unary functions are the CPU's, of every type and at special numbers") {
  SKIP_WITHOUT_CUDA;
  Choice choice(1);
  for (const DType type : all_dtypes)
    for (int i = 0; i <= static_cast<int>(Unary::is_nan); ++i) {
      const Unary op{i};
      if (!is_floating(type) && !for_integers(op)) continue;
      for (const auto n : lengths) {
        INFO(text_of(type), ", function ", i, ", n = ", n);
        const Tensor x = operand(choice, n, type);
        const Tensor y = zeros({n}, {.dtype = is_test(op) ? DType::bool_ : type});
        check_same({x}, {y}, is_test(op) ? 0 : tolerance_of(type),
                   [&](const Table& t, const auto& in, const auto& out) {
                     t.unary(op, type, n, in[0], out[0], 0.7, 1.2);
                   });
      }
    }
}

TEST_CASE("elementwise: binary functions are the CPU's, of every type, broadcast and strided") {
  SKIP_WITHOUT_CUDA;
  Choice choice(2);
  for (const DType type : all_dtypes)
    for (int i = 0; i <= static_cast<int>(Binary::elu_backward); ++i) {
      const Binary op{i};
      if (!is_floating(type) && !for_integers(op)) continue;
      for (int repeat = 0; repeat < 12; ++repeat) {
        const Shape shape = repeat == 0 ? Shape{300} : random_shape(choice);
        std::int64_t size_a = 300, size_b = 300;
        View a = contiguous_view(shape, type), b = a;
        if (repeat > 0) {
          a = random_view(shape, type, true, choice, size_a);
          b = random_view(shape, type, true, choice, size_b);
        }
        const DType type_y = is_test(op) ? DType::bool_ : type;
        INFO(text_of(type), ", function ", i, ", ", shape.to_string());
        check_same({operand(choice, size_a, type), choice.numbers({size_b}, type)},
                   {zeros(shape, {.dtype = type_y})}, is_test(op) ? 0 : tolerance_of(type),
                   [&](const Table& t, const auto& in, const auto& out) {
                     t.binary(op, on(a, in[0]), on(b, in[1]), on(contiguous_view(shape, type_y), out[0]),
                              0.3);
                   });
      }
    }
}

TEST_CASE("elementwise: where() chooses the CPU's bits") {
  SKIP_WITHOUT_CUDA;
  Choice choice(3);
  for (const DType type : all_dtypes)
    for (int repeat = 0; repeat < 20; ++repeat) {
      const Shape shape = random_shape(choice);
      std::int64_t sizes[3];
      const View c = random_view(shape, DType::bool_, true, choice, sizes[0]),
                 a = random_view(shape, type, true, choice, sizes[1]),
                 b = random_view(shape, type, true, choice, sizes[2]);
      check_same({choice.numbers({sizes[0]}, DType::bool_), choice.numbers({sizes[1]}, type),
                  choice.numbers({sizes[2]}, type)},
                 {zeros(shape, {.dtype = type})}, 0, [&](const Table& t, const auto& in, const auto& out) {
                   t.where(on(c, in[0]), on(a, in[1]), on(b, in[2]),
                           on(contiguous_view(shape, type), out[0]));
                 });
    }
}

TEST_CASE("elementwise: assign() converts as the CPU does, between any types and strides") {
  SKIP_WITHOUT_CUDA;
  Choice choice(4);
  for (const DType from : all_dtypes)
    for (const DType to : all_dtypes)
      for (int repeat = 0; repeat < 6; ++repeat) {
        const Shape shape = random_shape(choice);
        std::int64_t size_x, size_y;
        const View x = random_view(shape, from, true, choice, size_x),
                   y = random_view(shape, to, false, choice, size_y);
        INFO(text_of(from), " to ", text_of(to), ", ", shape.to_string());
        check_same(
            {positive(choice.numbers({size_x}, from))}, {zeros({size_y}, {.dtype = to})}, 0,
            [&](const Table& t, const auto& in, const auto& out) { t.assign(on(y, out[0]), on(x, in[0])); });
      }
}

TEST_CASE("elementwise: division by a known number is division") {
  Choice choice(6);
  const std::int64_t largest = (std::int64_t{1} << 31) - 1;
  for (int i = 0; i < 20000; ++i) {
    const std::int64_t d = i < 70 ? i + 1 : choice.between(1, i % 2 ? largest : 1000),
                       n = i % 7 == 0 ? std::min(largest, d * choice.between(0, largest / d))
                                      : choice.between(0, largest);
    auto quotient = static_cast<std::uint32_t>(n);
    const auto rest = cuda::Divisor(d).split(quotient);
    REQUIRE(quotient == n / d);
    REQUIRE(rest == n % d);
  }
}

TEST_CASE("elementwise: fill and accumulate") {
  SKIP_WITHOUT_CUDA;
  Choice choice(5);
  for (const auto n : lengths) {
    for (const DType type : all_dtypes)
      for (const double value : {0., 1., 3.7, 200.})
        check_same({}, {choice.numbers({n}, type)}, 0,
                   [&](const Table& t, const auto&, const auto& out) { t.fill(out[0], type, n, value); });
    for (const DType type : floating)
      check_same({choice.numbers({n}, type)}, {choice.numbers({n}, type)}, tolerance_of(type),
                 [&](const Table& t, const auto& in, const auto& out) {
                   t.accumulate(type, n, -0.3, in[0], out[0]);
                 });
  }
}
