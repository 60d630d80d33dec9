// Running sums and order: compared with the CPU's.
#include "compare.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::Table;

namespace {

struct Columns {
  std::int64_t outer, n, inner;
};
const std::vector<Columns> all_columns = {
    {1, 1, 1},    {2, 5, 3}, {3, 64, 2}, {3, 65, 2}, {1, 5000, 1}, {2, 40, 7},  {1, 70000, 1},  {1, 33, 5},
    {2, 1100, 3}, {0, 3, 2}, {2, 3, 0},  {2, 0, 3},  {1, 512, 1},  {1, 513, 1}, {4, 200, 17000}};

}  // namespace

TEST_CASE("scan: cumsum in both directions") {
  SKIP_WITHOUT_CUDA;
  Choice choice(1);
  for (const Columns& c : all_columns)
    for (const DType type : {int64, float32, float64})
      for (const bool reverse : {false, true}) {
        INFO("[", c.outer, ", ", c.n, ", ", c.inner, "]");
        // Whole numbers: the sums are exact in any order.
        check_same({choice.numbers({c.outer, c.n, c.inner}, int64).to(type)},
                   {zeros({c.outer, c.n, c.inner}, {.dtype = type})}, 0,
                   [&](const Table& t, const auto& in, const auto& out) {
                     t.cumsum(type, c.outer, c.n, c.inner, in[0], out[0], reverse);
                   });
      }
}

TEST_CASE("scan: float32 is summed in double") {
  SKIP_WITHOUT_CUDA;
  const Tensor x = concatenate({full({1}, 0x1p24), ones({999})}, 0).to(Device::cuda());
  CHECK(cumsum(x, 0).to_vector()[998] == 0x1p24 + 998);
}

TEST_CASE("scan: an infinity or NaN touches nothing before it") {
  SKIP_WITHOUT_CUDA;
  for (const double value : {infinity, not_a_number}) {
    const Tensor x = ones({1000}, {float32, Device::cpu()});
    slice(x, 0, 700, 701).fill_(value);
    const auto sums = cumsum(x.to(Device::cuda()), 0).to_vector();
    for (std::size_t i = 0; i < 700; ++i) CHECK(sums[i] == static_cast<double>(i + 1));
    for (std::size_t i = 700; i < 1000; ++i) CHECK_FALSE(std::isfinite(sums[i]));
  }
}

TEST_CASE("order: topk, with ties, infinities and NaN") {
  SKIP_WITHOUT_CUDA;
  Choice choice(2);
  for (const Columns& c : all_columns) {
    if (c.n == 0 || c.outer * c.n * c.inner > 100000) continue;
    for (const DType type : all_dtypes)
      for (const bool largest : {false, true})
        for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1}, (c.n + 1) / 2, c.n}) {
          INFO("[", c.outer, ", ", c.n, ", ", c.inner, "], k = ", k);
          Tensor x = choice.numbers({c.outer, c.n, c.inner}, type);
          if (is_floating(type) && x.numel() > 12) {
            const Tensor flat = x.reshape({x.numel()});
            const double special[] = {not_a_number, infinity, -infinity, 0.0, -0.0, not_a_number};
            for (std::int64_t i = 0; i < 6; ++i) slice(flat, 0, 2 * i, 2 * i + 1).fill_(special[i]);
          }
          check_same({x}, {zeros({c.outer, k, c.inner}, {.dtype = int64})}, 0,
                     [&](const Table& t, const auto& in, const auto& out) {
                       t.topk(type, c.outer, c.n, c.inner, k, largest, in[0],
                              static_cast<std::int64_t*>(out[0]));
                     });
        }
  }
}
