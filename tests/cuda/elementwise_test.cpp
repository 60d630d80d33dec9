// Elementwise kernels compared with the CPU's, on random numbers, shapes and strides.
#include <cstdint>

#include "compare.hpp"
#include "strided.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::Binary;
using backend::Table;
using backend::Unary;
using backend::View;

namespace {

const std::vector<DType> every_dtype = {DType::bool_, uint8, int32, int64, float32, float64, bfloat16};

/// The elements of an array from `begin` on, which may be misaligned to packs.
View at(View v, void* array, std::int64_t begin) {
  v.data = static_cast<std::byte*>(array) + begin * static_cast<std::int64_t>(size_of(v.dtype));
  return v;
}

/// Runs f(table, type, in, y) on the device with `in`, and on the CPU with float32 instead of bfloat16: an
/// operation rounded once gives the same bits. y has `n` elements, initialised to 1.
template <class F>
void check_exact(const std::vector<Tensor>& in, std::int64_t n, DType type, DType type_y, F f) {
  const auto run = [&](Device device) {
    const auto there = [&](DType t) { return device.is_cuda() || t != bfloat16 ? t : float32; };
    std::vector<Tensor> kept;
    std::vector<void*> from;
    for (const Tensor& t : in) {
      kept.push_back(t.to(there(t.dtype())).to(device).clone());
      from.push_back(kept.back().raw());
    }
    const Tensor y = ones({n}, {there(type_y), device});
    f(backend::get(device), there(type), there(type_y), from, y.raw());
    return y.to(Device::cpu()).to(type_y);
  };
  CHECK(same_bits(run(Device::cuda()), run(Device::cpu())));
}

const std::vector<std::int64_t> lengths = {0, 1, 7, 300};

bool for_integers(Unary op) {
  return op <= Unary::square || op == Unary::logical_not || op == Unary::is_finite || op == Unary::is_nan;
}
bool is_test(Unary op) { return op == Unary::logical_not || op == Unary::is_finite || op == Unary::is_nan; }
bool for_integers(Binary op) {
  return op < Binary::relu_backward && op != Binary::divide && op != Binary::power;
}
bool is_test(Binary op) { return op >= Binary::equal && op <= Binary::logical_xor; }

/// Values that every type represents.
Tensor positive(const Tensor& x) { return x.dtype() == DType::bool_ ? x : abs(x.to(float64)).to(x.dtype()); }

/// Random numbers; for floating types, special values first.
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

TEST_CASE("elementwise: packs, their rests, and arrays that begin within one") {
  SKIP_WITHOUT_CUDA;
  Choice choice(7);
  for (const DType type : every_dtype)
    for (const std::int64_t n : {1, 3, 4, 7, 8, 15, 16, 17, 31, 64, 333})
      for (const std::int64_t begin : {0, 1, 4, 16})
        for (const std::int64_t other : {0, 16, 3}) {
          const std::int64_t size = n + 20;
          const Tensor x = choice.numbers({size}, type), z = choice.numbers({size}, type),
                       mask = choice.numbers({size}, DType::bool_);
          INFO(text_of(type), ", n = ", n, ", from ", begin, " and ", other);
          const auto line = [&](DType of) { return contiguous_view({n}, of); };
          for (const Unary op : {Unary::negative, Unary::square, Unary::is_nan})
            if (type != DType::bool_ && type != uint8)
              check_exact({x}, size, type, op == Unary::is_nan ? DType::bool_ : type,
                          [&](const Table& t, DType of, DType to, const auto& in, void* y) {
                            t.unary(op, of, n, at(line(of), in[0], begin).data, at(line(to), y, other).data,
                                    0, 0);
                          });
          for (const Binary op : {Binary::subtract, Binary::maximum, Binary::less})
            check_exact({x, z}, size, type, op == Binary::less ? DType::bool_ : type,
                        [&](const Table& t, DType of, DType to, const auto& in, void* y) {
                          t.binary(op, at(line(of), in[0], begin), at(line(of), in[1], other),
                                   at(line(to), y, begin), 0);
                        });
          check_exact({mask, x, z}, size, type, type,
                      [&](const Table& t, DType of, DType, const auto& in, void* y) {
                        t.where(at(line(DType::bool_), in[0], begin), at(line(of), in[1], other),
                                at(line(of), in[2], begin), at(line(of), y, begin));
                      });
          check_exact({}, size, type, type, [&](const Table& t, DType of, DType, const auto&, void* y) {
            t.fill(at(line(of), y, begin).data, of, n, 3);
          });
          if (is_floating(type) || type == bfloat16)
            check_exact({x}, size, type, type, [&](const Table& t, DType of, DType, const auto& in, void* y) {
              t.accumulate(of, n, -0.5, at(line(of), in[0], other).data, at(line(of), y, begin).data);
            });
        }
}

TEST_CASE("elementwise: assign() in packs, between all types") {
  SKIP_WITHOUT_CUDA;
  Choice choice(8);
  for (const DType from : every_dtype)
    for (const DType to : every_dtype)
      for (const std::int64_t n : {3, 8, 16, 37, 256})
        for (const std::int64_t begin : {0, 2, 5, 16}) {
          INFO(text_of(from), " to ", text_of(to), ", n = ", n, ", from ", begin);
          const Tensor x = positive(choice.numbers({n + 20}, from == bfloat16 ? float32 : from)).to(from);
          const auto run = [&](Device device) {
            const Tensor there = x.to(device), y = ones({n + 20}, {to, device});
            y.backend().assign(at(contiguous_view({n}, to), y.raw(), begin / 2),
                               at(contiguous_view({n}, from), there.raw(), begin));
            return y.to(Device::cpu());
          };
          CHECK(same_bits(run(Device::cuda()), run(Device::cpu())));
        }
}

TEST_CASE("elementwise: packs of matrices: rows and columns that are repeated, slices of rows") {
  SKIP_WITHOUT_CUDA;
  Choice choice(9);
  for (const DType type : every_dtype)
    for (const std::int64_t columns : {1, 4, 6, 8, 16, 48})
      for (const std::int64_t pitch : {columns, columns + 1, columns + 16, std::int64_t{64}})
        for (const std::int64_t begin : {0, 1, 16})
          for (int kind = 0; kind < 5; ++kind) {
            // The second operand: all elements, one row, one column, one number, every other column.
            const std::int64_t rows = 5, size = rows * 2 * pitch + 20;
            const std::int64_t strides[][2] = {{pitch, 1}, {0, 1}, {1, 0}, {0, 0}, {2 * pitch, 2}};
            INFO(text_of(type), " [5, ", columns, "] of ", pitch, ", from ", begin, ", kind ", kind);
            const Tensor a = choice.numbers({size}, type), b = choice.numbers({size}, type);
            const auto matrix = [&](DType of, std::int64_t row, std::int64_t column) {
              return View{nullptr, of, 2, {rows, columns}, {row, column}};
            };
            check_exact({a, b}, rows * columns, type, type,
                        [&](const Table& t, DType of, DType, const auto& in, void* y) {
                          t.binary(Binary::add, at(matrix(of, pitch, 1), in[0], begin),
                                   at(matrix(of, strides[kind][0], strides[kind][1]), in[1], begin),
                                   at(matrix(of, columns, 1), y, 0), 0);
                        });
            check_exact({b}, size, type, type, [&](const Table& t, DType of, DType, const auto& in, void* y) {
              t.assign(at(matrix(of, pitch, 1), y, begin),
                       at(matrix(of, strides[kind][0], strides[kind][1]), in[0], 0));
            });
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

TEST_CASE("elementwise: two operands of special numbers, and conversions of them, are the CPU's") {
  SKIP_WITHOUT_CUDA;
  const std::vector<double> reals = {0,    -0.0,  1e-310, 1e-40, -1e-40,   0.3,       -1,          2.5,
                                     1e20, -1e20, 1e30,   -1e30, infinity, -infinity, not_a_number};
  const std::vector<std::int64_t> wholes = {0,         1,         -1,           7, INT32_MAX, INT32_MIN,
                                            INT64_MAX, INT64_MIN, INT64_MIN + 1};
  for (const DType type : {float32, float64, int32, int64, uint8}) {
    const Tensor x = is_floating(type) ? from_vector(reals, {std::ssize(reals)}).to(type)
                                       : from_vector(wholes, {std::ssize(wholes)}).to(type);
    const std::int64_t n = x.numel();
    const Tensor a = expand(x.reshape({n, 1}), {n, n}), b = expand(x, {n, n});
    for (int i = 0; i <= static_cast<int>(Binary::elu_backward); ++i) {
      const Binary op{i};
      if (!is_floating(type) && !for_integers(op)) continue;
      INFO(text_of(type), ", function ", i);
      const DType type_y = is_test(op) ? DType::bool_ : type;
      const bool exact = is_test(op) || !is_floating(type);
      check_same({a, b}, {zeros({n, n}, {.dtype = type_y})}, exact ? 0 : tolerance_of(type),
                 [&](const Table& t, const auto& in, const auto& out) {
                   t.binary(op, on(contiguous_view({n, n}, type), in[0]),
                            on(contiguous_view({n, n}, type), in[1]),
                            on(contiguous_view({n, n}, type_y), out[0]), 0.3);
                 });
    }
    for (const DType to : all_dtypes) {
      INFO(text_of(type), " to ", text_of(to));
      const Tensor expected = x.to(Device::cpu()).to(to),
                   found = x.to(Device::cuda()).to(to).to(Device::cpu());
      if (is_floating(to)) {
        CHECK(relative_error(found, expected) == 0);
      } else {
        CHECK(same_bits(found, expected));
      }
    }
    for (const double value : {-1.0, 257.0, 1e30, -1e30, infinity, not_a_number}) {
      const Tensor expected = full({5}, value, {type, Device::cpu()}),
                   found = full({5}, value, {type, Device::cuda()});
      CHECK(relative_error(found.to(Device::cpu()), expected) == 0);
    }
  }
}
