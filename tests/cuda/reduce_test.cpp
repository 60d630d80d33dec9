// Reductions compared with the CPU's. The order of the sums differs; everything else is equal.
#include "compare.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::Reduce;
using backend::Table;

namespace {

/// [outer, n, inner]: short and long columns, few and many, chunks that do not divide n, empty arrays.
struct Size {
  std::int64_t outer, n, inner;
};
const std::vector<Size> sizes = {{1, 1, 1},    {1, 64, 1},   {1, 65, 1},    {3, 70, 5},    {1, 20000, 1},
                                 {2, 9000, 1}, {1, 3000, 3}, {2, 300, 33},  {1, 5000, 40}, {300, 7, 2},
                                 {0, 5, 3},    {4, 5, 0},    {1, 100, 1000}};

DType result_type(Reduce op, DType type) {
  if (op == Reduce::any || op == Reduce::all) return DType::bool_;
  return op == Reduce::argmax || op == Reduce::argmin ? int64 : type;
}

void check_reduce(Reduce op, const Tensor& x, const Size& s, double tolerance) {
  INFO("reduction ", static_cast<int>(op), " of ", text_of(x.dtype()), " [", s.outer, ", ", s.n, ", ",
       s.inner, "]");
  check_same({x}, {zeros({s.outer, s.inner}, {.dtype = result_type(op, x.dtype())})}, tolerance,
             [&](const Table& t, const auto& in, const auto& out) {
               t.reduce(op, x.dtype(), s.outer, s.n, s.inner, in[0], out[0]);
             });
}

}  // namespace

TEST_CASE("reduce: all reductions are the CPU's, of every type") {
  SKIP_WITHOUT_CUDA;
  Choice choice(1);
  for (const DType type : all_dtypes)
    for (const Size& s : sizes) {
      const Tensor x = choice.numbers({s.outer, s.n, s.inner}, type);
      for (const auto op : {Reduce::sum, Reduce::max, Reduce::min, Reduce::any, Reduce::all, Reduce::argmax,
                            Reduce::argmin}) {
        // In float32 each of the n terms may be rounded differently; the sums are of the size of √n.
        const double tolerance = op != Reduce::sum || !is_floating(type) ? 0 : type == float32 ? 1e-4 : 1e-12;
        check_reduce(op, x, s, tolerance);
      }
      const Tensor near_one = is_floating(type) ? affine(x, 0.01, 1) : x.to(DType::bool_).to(type);
      check_reduce(Reduce::product, near_one, s, is_floating(type) ? (type == float32 ? 1e-4 : 1e-12) : 0);
    }
}

TEST_CASE("reduce: nothing sums to 0 and multiplies to 1") {
  SKIP_WITHOUT_CUDA;
  for (const DType type : all_dtypes)
    for (const auto op : {Reduce::sum, Reduce::product, Reduce::any, Reduce::all})
      check_reduce(op, zeros({2, 0, 3}, {.dtype = type}), {2, 0, 3}, 0);
}

TEST_CASE("reduce: the extreme is the first of equals, and a NaN before all") {
  SKIP_WITHOUT_CUDA;
  Choice choice(2);
  for (const DType type : floating)
    for (const Size& s : {Size{2, 50, 3}, Size{1, 9000, 1}, Size{3, 700, 40}})
      for (const int nans : {0, 1, 40}) {
        Tensor x = floor(choice.numbers({s.outer, s.n, s.inner}, type));  // many equal values
        for (int i = 0; i < nans; ++i) x.alias({}, choice.between(0, x.numel() - 1)).fill_(not_a_number);
        for (const auto op : {Reduce::max, Reduce::min, Reduce::argmax, Reduce::argmin})
          check_reduce(op, x, s, 0);
      }
}

TEST_CASE("reduce: a million float32 numbers are summed as a tree, not one after another") {
  SKIP_WITHOUT_CUDA;
  const std::int64_t n = 1 << 20;
  const Tensor x = full({n}, 0.1);
  CHECK(sum(x.to(Device::cuda())).item() == doctest::Approx(0.1 * n).epsilon(1e-6));
}

TEST_CASE("reduce: dot") {
  SKIP_WITHOUT_CUDA;
  Choice choice(3);
  for (const DType type : floating)
    for (const std::int64_t n : {0, 1, 64, 65, 5000, 100000}) {
      const Tensor x = choice.numbers({n}, type), y = choice.numbers({n}, type);
      const Tensor there_x = x.to(Device::cuda()), there_y = y.to(Device::cuda());
      CHECK(there_x.backend().dot(type, n, there_x.raw(), there_y.raw()) ==
            doctest::Approx(x.backend().dot(type, n, x.raw(), y.raw())).epsilon(1e-12));
    }
}

TEST_CASE("reduce: a vector rescaled by another's length, and the length") {
  SKIP_WITHOUT_CUDA;
  Choice choice(5);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType type : floating)
    for (const std::int64_t n : {0, 1, 63, 20000})
      for (const double limit : {infinity, 1., 1e-3})
        for (const double a : {0., 0.05, 1e3}) {
          INFO(text_of(type), " n = ", n, ", limit ", limit, ", a = ", a);
          check_same({choice.numbers({n}, type), choice.numbers({n}, type)},
                     {zeros({n}, {.dtype = type}), zeros({1}, {.dtype = type})}, 4 * tolerance_of(type),
                     [&](const Table& t, const auto& in, const auto& out) {
                       t.rescale(type, n, a, 1e-6, limit, in[0], in[1], nullptr, out[0], out[1]);
                     });
          check_same({choice.numbers({n}, type), choice.numbers({n}, type), choice.numbers({n}, type)},
                     {zeros({n}, {.dtype = type})}, 4 * tolerance_of(type),
                     [&](const Table& t, const auto& in, const auto& out) {
                       t.rescale(type, n, a, 1e-6, limit, in[0], in[1], in[2], out[0], nullptr);
                     });
        }
  // In place, without the length; a length that is NaN makes everything NaN.
  const Tensor x = from_vector<double>({3, 4}, {2}, Device::cuda());
  x.backend().rescale(float64, 2, 2.5, 0, 1, x.raw(), x.raw(), nullptr, x.raw(), nullptr);
  CHECK(holds(x, {2}, {1.5, 2}));
  const Tensor bad = full({2}, not_a_number, x.options());
  x.backend().rescale(float64, 2, 2.5, 0, 1, bad.raw(), x.raw(), nullptr, x.raw(), nullptr);
  CHECK(is_nan(x).to(Device::cpu()).to_vector() == std::vector<double>{1, 1});
}
