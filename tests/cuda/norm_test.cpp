// Batch and layer normalisation on the device compared with the CPU's.
#include "compare.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::BatchNorm;

namespace {

double tolerance(DType type) { return type == float32 ? 1e-5 : 1e-12; }
Tensor unwritten(const Shape& shape, DType type) { return full(shape, not_a_number, {type}); }

/// All entries of batch norm, with weight and bias shared, one per group, or none.
void check_batch_norm(Choice& choice, DType type, const std::vector<std::int64_t>& row_begin, std::int64_t c,
                      double mean_of_x = 0, std::int64_t offset = 0) {
  const std::int64_t groups = std::ssize(row_begin) - 1, rows = row_begin.back();
  INFO(name_of(type), " groups ", groups, " rows ", rows, " channels ", c, " mean ", mean_of_x, " offset ",
       offset);
  const Tensor x = choice.numbers({rows, c}, type) + mean_of_x, dy = choice.numbers({rows, c}, type);
  const Tensor weight = choice.numbers({groups, c}, type), bias = choice.numbers({groups, c}, type);
  const Shape per_group{groups, c};
  Tensor mean = unwritten(per_group, type), rest = unwritten(per_group, type),
         variance = unwritten(per_group, type);
  BatchNorm b{type, groups, c, row_begin.data(), 0, 1e-5};
  check_same(
      {x}, {mean, unwritten(per_group, type), variance}, tolerance(type),
      [&](const auto& t, auto in, auto out) { t.batch_norm_statistics(b, in[0], out[0], out[1], out[2]); },
      offset);
  backend::get(Device::cpu()).batch_norm_statistics(b, x.raw(), mean.raw(), rest.raw(), variance.raw());
  const Tensor rstd = rsqrt(variance + 1e-5);
  for (const int affine : {0, 1, 2}) {  // none, shared, one per group
    b.affine_stride = affine == 2 ? c : 0;
    const Tensor scale = affine ? weight : Tensor(), shift = affine ? bias : Tensor();
    INFO("affine ", affine);
    for (const bool relu : {false, true})
      for (const Tensor& residual : {Tensor(), dy})
        check_same(
            {x, mean, rest, rstd, scale, shift, residual}, {unwritten(x.shape(), type)}, tolerance(type),
            [&](const auto& t, auto in, auto out) {
              t.batch_norm(b, in[0], in[1], in[2], in[3], in[4], in[5], in[6], relu, out[0]);
            },
            offset);
    // Sums of so many terms of size 1: relative to their square root.
    const double size = std::sqrt(static_cast<double>(rows / groups + 1));
    for (const Tensor& y : {Tensor(), relu(choice.numbers({rows, c}, type))}) {
      check_same(
          {x, y, dy / size, mean, rest, rstd, scale},
          {unwritten(x.shape(), type), unwritten(per_group, type), unwritten(per_group, type)},
          tolerance(type),
          [&](const auto& t, auto in, auto out) {
            t.batch_norm_backward(b, in[0], in[1], in[2], in[3], in[4], in[5], in[6], out[0], out[1], out[2],
                                  nullptr);
          },
          offset);
      check_same(
          {x, y, dy, mean, rest, rstd, scale}, {unwritten(per_group, type)}, tolerance(type) * size,
          [&](const auto& t, auto in, auto out) {
            t.batch_norm_backward(b, in[0], in[1], in[2], in[3], in[4], in[5], in[6], nullptr, nullptr,
                                  out[0], nullptr);
          },
          offset);
      if (y.defined())
        check_same(
            {x, y, dy / size, mean, rest, rstd, scale},
            {unwritten(x.shape(), type), unwritten(x.shape(), type)}, tolerance(type),
            [&](const auto& t, auto in, auto out) {
              t.batch_norm_backward(b, in[0], in[1], in[2], in[3], in[4], in[5], in[6], out[0], nullptr,
                                    nullptr, out[1]);
            },
            offset);
    }
  }
}

}  // namespace

TEST_CASE("batch norm of one group, of slices, of ragged slices") {
  SKIP_WITHOUT_CUDA;
  Choice choice(41);
  for (const DType type : floating) {
    check_batch_norm(choice, type, {0, 2}, 1);
    check_batch_norm(choice, type, {0, 37}, 5);
    check_batch_norm(choice, type, {0, 1500}, 16);
    check_batch_norm(choice, type, {0, 300}, 129);  // two tiles of channels
    check_batch_norm(choice, type, {0, 40}, 300);
    check_batch_norm(choice, type, {0, 5000}, 3);  // several parts
    check_batch_norm(choice, type, {0, 12, 24, 36}, 8);
    check_batch_norm(choice, type, {0, 700, 1300, 1900, 2500}, 20);
    check_batch_norm(choice, type, {0, 3, 5, 7, 9, 11, 13, 15, 17}, 33);
    check_batch_norm(choice, type, {0, 0}, 4);
    check_batch_norm(choice, type, {0, 4}, 0);
  }
}

TEST_CASE("batch norm in packs of channels and without, aligned and not, in few groups and in many") {
  SKIP_WITHOUT_CUDA;
  Choice choice(44);
  std::vector<std::int64_t> many{0};
  for (std::int64_t g = 0; g < 19; ++g) many.push_back(many.back() + choice.between(1, 90));
  for (const DType type : floating)
    for (const std::int64_t offset : {0, 1})
      for (const std::int64_t c : {4, 6, 7, 16, 68})
        for (const auto& row_begin : {std::vector<std::int64_t>{0, 1027}, {0, 401, 402, 402, 1110}, many})
          check_batch_norm(choice, type, row_begin, c, 0, offset);
}

TEST_CASE("batch norm's statistics have the digits of their type") {
  SKIP_WITHOUT_CUDA;
  // Values are summed relative to the first row, whatever it is. Equal numbers have equal rounding errors, so
  // that errors add up: those of a mean are bounded by the deviation and the distance of the first row.
  const std::int64_t rows = 20000, c = 8, row_begin[] = {0, rows};
  for (const DType type : {float32, float64, bfloat16})
    for (const double mean : {0.0, 1000.0})
      for (const double first : {0.0, 100.0})
        for (const bool equal : {false, true}) {
          INFO(text_of(type), " mean ", mean, " first ", first, " equal ", equal);
          Tensor x = equal ? full({rows, c}, 1.1 + mean, {float64}) : normal({rows, c}, 9, float64) + mean;
          x.alias({c}, 0).fill_(mean + 0.3 + first);
          x = x.to(type);
          const auto statistics = [&](const Tensor& of, DType result) {
            const Tensor m = unwritten({c}, result).to(of.device()), rest = m.clone(), v = m.clone();
            of.backend().batch_norm_statistics({of.dtype(), 1, c, row_begin, 0, 1e-5}, of.raw(), m.raw(),
                                               rest.raw(), v.raw());
            return std::pair{m.to(Device::cpu()), v.to(Device::cpu())};
          };
          const auto found = statistics(x.to(Device::cuda()), type == float64 ? float64 : float32);
          const auto exact = statistics(x.to(float64), float64);
          const double ulp = type == float64 ? 0x1p-53 : 0x1p-24;
          const double size = first + std::sqrt(exact.second.alias({}, 0).item());
          CHECK(relative_error(found.first, exact.first, size) <= (type == float64 ? 64 : 4) * ulp);
          CHECK(relative_error(found.second, exact.second, 1e-30) <= (type == float64 ? rows : 4) * 4 * ulp);
        }
}

TEST_CASE("sums of weighted rows, as running statistics are kept") {
  SKIP_WITHOUT_CUDA;
  Choice choice(43);
  for (const DType type : floating)
    for (const std::int64_t rows : {0, 1, 8}) {
      const double weight[] = {0.5, -1, 2, 0.1, 0.2, 0.3, 0.4, 0.7};
      Tensor running = choice.numbers({37}, type);
      check_same({choice.numbers({rows, 37}, type)}, {running}, tolerance(type),
                 [&](const auto& t, auto in, auto out) {
                   t.weighted_rows(type, rows, 37, 0.25, weight, in[0], out[0]);
                 });
    }
}

TEST_CASE("batch norm of numbers with a large mean") {
  SKIP_WITHOUT_CUDA;
  Choice choice(42);
  check_batch_norm(choice, float32, {0, 900, 1700}, 6, 300);
  // x̂ itself has the rounding of x, ten digits here
  const std::int64_t rows[] = {0, 2000};
  const Tensor x = normal({2000, 3}, 7) + 1e6;
  const BatchNorm b{float64, 1, 3, rows, 0, 1e-5};
  check_same(
      {x}, {zeros({3}, {float64}), zeros({3}, {float64}), zeros({3}, {float64})}, 1e-12,
      [&](const auto& t, auto in, auto out) { t.batch_norm_statistics(b, in[0], out[0], out[1], out[2]); });
}

TEST_CASE("layer norm of rows of any length") {
  SKIP_WITHOUT_CUDA;
  Choice choice(43);
  for (const DType type : floating)
    for (const auto& [rows, n] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {1, 1}, {3, 5}, {20, 32}, {9, 100}, {5, 512}, {4, 513}, {3, 1500}, {1000, 7}, {0, 4}}) {
      INFO(name_of(type), " rows ", rows, " n ", n);
      const Tensor x = choice.numbers({rows, n}, type),
                   dy = choice.numbers({rows, n}, type) / std::sqrt(static_cast<double>(rows + n));
      for (const bool affine : {false, true}) {
        const Tensor weight = affine ? choice.numbers({n}, type) : Tensor(),
                     bias = affine ? choice.numbers({n}, type) : Tensor();
        const Tensor y = unwritten(x.shape(), type), mean = unwritten({rows}, type),
                     rest = unwritten({rows}, type), rstd = unwritten({rows}, type);
        check_same({x, weight, bias}, {y, mean, rest, rstd}, tolerance(type),
                   [&](const auto& t, auto in, auto out) {
                     t.layer_norm(type, rows, n, 1e-5, in[0], in[1], in[2], out[0], out[1], out[2], out[3]);
                   });
        backend::get(Device::cpu())
            .layer_norm(type, rows, n, 1e-5, x.raw(), nullptr, nullptr, y.raw(), mean.raw(), rest.raw(),
                        rstd.raw());
        const auto backward = [&](const auto& t, auto in, auto dx, auto dweight, auto dbias) {
          t.layer_norm_backward(type, rows, n, in[0], in[1], in[2], in[3], in[4], in[5], dx, dweight, dbias);
        };
        check_same({x, dy, mean, rest, rstd, weight},
                   {unwritten(x.shape(), type), unwritten({n}, type), unwritten({n}, type)}, tolerance(type),
                   [&](const auto& t, auto in, auto out) { backward(t, in, out[0], out[1], out[2]); });
        check_same({x, dy, mean, rest, rstd, weight}, {unwritten({n}, type)}, tolerance(type),
                   [&](const auto& t, auto in, auto out) { backward(t, in, nullptr, out[0], nullptr); });
      }
    }
}
