#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "lpf/backend/registry.hpp"
#include "lpf/backend/threads.hpp"
#include "product_levels.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

using Product = void (*)(const backend::Gemm&);

struct Level {
  const char* name;
  Product run;
};
/// The float product of each instruction set that this processor has.
std::vector<Level> levels() {
  std::vector<Level> out{{"native", [](const backend::Gemm& g) { backend::get(Device::cpu()).gemm(g); }},
                         {"portable", product_portable}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out.push_back({"avx2", product_avx2});
#endif
  return out;
}

struct Problem {
  std::int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  double alpha = 1, beta = 0;
  std::int64_t batch = 1;
  std::int64_t gap = 0;     // elements between rows
  std::int64_t offset = 0;  // of each operand from a multiple of 64 bytes
};

/// Arrays of a problem, which end with the last element that may be read, so that an address sanitizer
/// notices what is read beyond. C has NaN where the product may not write, and everywhere if beta is 0.
struct ProductOperands {
  std::vector<float> a, b, c;
  backend::Gemm g;

  ProductOperands(const Problem& p, std::mt19937& random) {
    const auto extent = [&](std::int64_t rows, std::int64_t columns) {
      return rows > 0 && columns > 0 ? (rows - 1) * (columns + p.gap) + columns : 0;
    };
    const std::int64_t rows_a = p.transpose_a ? p.k : p.m, columns_a = p.transpose_a ? p.m : p.k,
                       rows_b = p.transpose_b ? p.n : p.k, columns_b = p.transpose_b ? p.k : p.n;
    const std::int64_t size_a = extent(rows_a, columns_a), size_b = extent(rows_b, columns_b),
                       size_c = extent(p.m, p.n);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& v, std::int64_t size) {
      v.resize(static_cast<std::size_t>(p.offset + p.batch * size));
      for (float& x : v) x = normal(random);
    };
    fill(a, size_a), fill(b, size_b), fill(c, size_c);
    g = {float32,
         p.transpose_a,
         p.transpose_b,
         p.m,
         p.n,
         p.k,
         a.data() + p.offset,
         columns_a + p.gap,
         size_a,
         b.data() + p.offset,
         columns_b + p.gap,
         size_b,
         c.data() + p.offset,
         p.n + p.gap,
         size_c,
         p.batch,
         p.alpha,
         p.beta};
    for (std::size_t i = 0; i < c.size(); ++i)
      if (p.beta == 0 || !is_written(i)) c[i] = std::numeric_limits<float>::quiet_NaN();
  }
  bool is_written(std::size_t i) const {
    const auto at = static_cast<std::int64_t>(i) - (static_cast<float*>(g.c) - c.data());
    return at >= 0 && g.stride_c > 0 && at % g.stride_c % g.ldc < g.n;
  }
};

/// The number of elements that are further from the product in double than rounding can bring them, or that
/// were written beside C.
int wrong_elements(Product product, const Problem& p, std::mt19937& random) {
  ProductOperands o(p, random);
  const std::vector<float> before = o.c;
  product(o.g);
  const backend::Gemm& g = o.g;
  const auto* a = static_cast<const float*>(g.a);
  const auto* b = static_cast<const float*>(g.b);
  // A sum is a chain of at most 256 terms in each block of k, and a chain of blocks.
  const double roundings = static_cast<double>(std::min<std::int64_t>(p.k, 256) + p.k / 64 + 8);
  int wrong = 0;
  for (std::size_t i = 0; i < o.c.size(); ++i) {
    if (!o.is_written(i)) {
      wrong += !(o.c[i] == before[i] || (std::isnan(o.c[i]) && std::isnan(before[i])));
      continue;
    }
    const std::int64_t at = static_cast<std::int64_t>(i) - p.offset, r = at / g.stride_c,
                       row = at % g.stride_c / g.ldc, column = at % g.stride_c % g.ldc;
    double sum = 0, magnitude = 0;
    for (std::int64_t t = 0; t < p.k; ++t) {
      const double term =
          double(a[r * g.stride_a + (p.transpose_a ? t * g.lda + row : row * g.lda + t)]) *
          double(b[r * g.stride_b + (p.transpose_b ? column * g.ldb + t : t * g.ldb + column)]);
      sum += term;
      magnitude += std::abs(term);
    }
    const double old = p.beta == 0 ? 0 : p.beta * double(before[i]);
    const double bound =
        roundings * std::ldexp(std::abs(p.alpha) * magnitude + std::abs(old), -24) + std::ldexp(1.0, -140);
    wrong += !(std::abs(double(o.c[i]) - (p.alpha * sum + old)) <= bound);
  }
  return wrong;
}

}  // namespace

TEST_CASE("float products against double: random shapes, strides, scales") {
  const std::int64_t sizes[] = {0,  1,  2,  3,  4,  5,  7,  8,  9,  11, 12, 13, 15,
                                16, 17, 31, 32, 33, 47, 48, 49, 64, 65, 97, 131};
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    std::mt19937 random(1);
    const auto one_of = [&](auto& list) { return list[random() % std::size(list)]; };
    for (int trial = 0; trial < 1500; ++trial) {
      const double scales[] = {1, 1, 1, 0, -0.5, 2}, betas[] = {0, 0, 1, 1, 0.5, -1};
      const Problem p{.m = one_of(sizes),
                      .n = one_of(sizes),
                      .k = one_of(sizes),
                      .transpose_a = random() % 2 == 0,
                      .transpose_b = random() % 2 == 0,
                      .alpha = one_of(scales),
                      .beta = one_of(betas),
                      .batch = 1 + static_cast<std::int64_t>(random() % 3),
                      .gap = static_cast<std::int64_t>(random() % 4),
                      .offset = static_cast<std::int64_t>(random() % 5)};
      CAPTURE(p.m);
      CAPTURE(p.n);
      CAPTURE(p.k);
      CAPTURE(p.transpose_a);
      CAPTURE(p.transpose_b);
      CAPTURE(p.alpha);
      CAPTURE(p.beta);
      REQUIRE(wrong_elements(level.run, p, random) == 0);
    }
  }
}

TEST_CASE("float products against double: long, wide and deep ones, which are cut into blocks") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    std::mt19937 random(2);
    for (const auto& [m, n, k] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 100003},
                                                                          {3, 5, 20011},
                                                                          {37, 3, 4099},
                                                                          {1, 1031, 300},
                                                                          {1031, 1, 300},
                                                                          {521, 131, 70},
                                                                          {600, 700, 33},
                                                                          {16, 512, 300},
                                                                          {128, 520, 257},
                                                                          {12, 300, 513},
                                                                          {33, 48, 1000}})
      for (const bool ta : {false, true})
        for (const bool tb : {false, true})
          for (const double beta : {0.0, 1.0}) {
            CAPTURE(m);
            CAPTURE(n);
            CAPTURE(k);
            CAPTURE(ta);
            CAPTURE(tb);
            CHECK(wrong_elements(
                      level.run,
                      {.m = m, .n = n, .k = k, .transpose_a = ta, .transpose_b = tb, .beta = beta, .gap = 1},
                      random) == 0);
          }
  }
}

TEST_CASE("float products: infinities and NaN go where IEEE arithmetic takes them, and nowhere else") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    std::mt19937 random(3);
    for (const std::int64_t m : {1, 4, 7, 16, 40, 130})
      for (const std::int64_t n : {1, 5, 16, 50, 130})
        for (const std::int64_t k : {1, 9, 70, 300})
          for (const int order : {0, 1, 2, 3}) {
            CAPTURE(m);
            CAPTURE(n);
            CAPTURE(k);
            CAPTURE(order);
            const Problem p{.m = m, .n = n, .k = k, .transpose_a = order % 2 == 1, .transpose_b = order >= 2};
            ProductOperands o(p, random);
            // Row `bad` of A has an infinity, which meets a zero in column `zero` of B alone; column `nan`
            // has a NaN.
            const std::int64_t bad = m / 2, t = k - 1, zero = n / 3, nan = n - 1;
            const auto place_b = [&](std::int64_t column) {
              return static_cast<std::size_t>(p.transpose_b ? column * o.g.ldb + t : t * o.g.ldb + column);
            };
            o.a[static_cast<std::size_t>(p.transpose_a ? t * o.g.lda + bad : bad * o.g.lda + t)] = inf;
            for (std::int64_t j = 0; j < n; ++j) o.b[place_b(j)] = 1;
            o.b[place_b(zero)] = 0;
            if (n > 4) o.b[place_b(nan)] = std::numeric_limits<float>::quiet_NaN();
            level.run(o.g);
            int wrong = 0;
            for (std::int64_t i = 0; i < m; ++i)
              for (std::int64_t j = 0; j < n; ++j) {
                const float c = o.c[static_cast<std::size_t>(i * n + j)];
                if ((n > 4 && j == nan) || (i == bad && j == zero)) {
                  wrong += !std::isnan(c);
                } else if (i == bad) {
                  wrong += c != inf;
                } else {
                  wrong += !std::isfinite(c);
                }
              }
            CHECK(wrong == 0);
          }
  }
}

TEST_CASE("float products: the same bits for any number of threads") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    for (const auto& [m, n, k, batch] : std::vector<std::array<std::int64_t, 4>>{{128, 512, 784, 1},
                                                                                 {16, 512, 300, 8},
                                                                                 {4, 300, 200, 5},
                                                                                 {520, 70, 40, 3},
                                                                                 {600, 600, 100, 1},
                                                                                 {1000, 10, 100, 1}})
      for (const int order : {0, 1, 2, 3}) {
        CAPTURE(m);
        CAPTURE(n);
        std::vector<float> first;
        for (const int threads : {1, 2, 3, 5}) {
          std::mt19937 random(4);
          ProductOperands o({.m = m,
                             .n = n,
                             .k = k,
                             .transpose_a = order % 2 == 1,
                             .transpose_b = order >= 2,
                             .batch = batch},
                            random);
          set_num_threads(threads);
          level.run(o.g);
          set_num_threads(0);
          if (first.empty()) first = o.c;
          CHECK(first == o.c);
        }
      }
  }
}
