// Products with the replicas of flipout that are made in registers (backend/cpu/flipped_product.hpp), compared with
// three loops in double.
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

using FlippedProduct = void (*)(const backend::Gemm&);

struct FlippedLevel {
  const char* name;
  FlippedProduct run;
};
/// The product of each instruction set that this processor has.
std::vector<FlippedLevel> flipped_levels() {
  std::vector<FlippedLevel> out{
      {"native", [](const backend::Gemm& g) { backend::get(Device::cpu()).gemm_replicas(g); }},
      {"portable", flipped_product_portable}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    out.push_back({"avx2", flipped_product_avx2});
#endif
  return out;
}

struct FlippedProblem {
  std::int64_t rows, length;  // of the weight
  std::int64_t m, batch, first = 0, count = first + batch;
  bool transpose_b = true;
  double alpha = 1, beta = 0;
  std::int64_t gap = 0;  // elements between rows of A and of C, and between slices
};

/// Arrays of a problem, which end with the last element that may be read. C has NaN where the product may not
/// write, and everywhere if beta is 0.
struct FlippedOperands {
  std::vector<float> theta, noise, signs, a, c;
  backend::Replicas replicas;
  backend::Gemm g;

  FlippedOperands(const FlippedProblem& p, std::mt19937& random) {
    const std::int64_t k = p.transpose_b ? p.length : p.rows, n = p.transpose_b ? p.rows : p.length;
    const std::int64_t slice_a = p.m * (k + p.gap), slice_c = p.m * (n + p.gap);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& v, std::int64_t size, auto number) {
      v.resize(static_cast<std::size_t>(std::max<std::int64_t>(0, size)));
      for (float& x : v) x = number();
    };
    const auto gaussian = [&] { return normal(random); };
    fill(theta, p.rows * p.length, gaussian);
    fill(noise, std::max<std::int64_t>(1, p.rows * p.length), gaussian);  // not null
    fill(signs, p.count * (p.rows + p.length), [&] { return random() % 2 ? 1.0f : -1.0f; });
    fill(a, p.batch * slice_a - p.gap, gaussian);
    fill(c, p.batch * slice_c - p.gap, gaussian);
    replicas = {.count = p.count,
                .segment = {0, p.rows, p.length, 0, 0, p.length},
                .key = {},
                .theta = theta.data(),
                .scale = nullptr,
                .antithetic = false,
                .noise = noise.data(),
                .signs = signs.data()};
    g = {.dtype = float32,
         .transpose_b = p.transpose_b,
         .m = p.m,
         .n = n,
         .k = k,
         .a = a.data(),
         .lda = k + p.gap,
         .stride_a = slice_a,
         .c = c.data(),
         .ldc = n + p.gap,
         .stride_c = slice_c,
         .batch = p.batch,
         .alpha = p.alpha,
         .beta = p.beta,
         .replicas = &replicas,
         .first_replica = p.first};
    for (std::size_t i = 0; i < c.size(); ++i)
      if (p.beta == 0 || !is_written(i)) c[i] = std::numeric_limits<float>::quiet_NaN();
  }
  FlippedOperands(const FlippedOperands&) = delete;
  FlippedOperands& operator=(const FlippedOperands&) = delete;

  bool is_written(std::size_t i) const { return static_cast<std::int64_t>(i) % g.ldc < g.n; }
  /// Term t of column j of op(W) for slice r, rounded as replicas in memory are.
  double weight(std::int64_t r, std::int64_t t, std::int64_t j) const {
    const backend::Segment& s = replicas.segment;
    const std::int64_t row = g.transpose_b ? j : t, input = g.transpose_b ? t : j,
                       at = row * s.length + input;
    const auto sign = [&](std::int64_t i) {
      return signs[static_cast<std::size_t>((g.first_replica + r) * (s.rows + s.length) + i)];
    };
    const auto i = static_cast<std::size_t>(at);
    return theta[i] + sign(row) * sign(s.rows + input) * noise[i];
  }
};

/// The number of elements that are further from the product in double than rounding can bring them, or that
/// were written beside C.
int wrong_elements(FlippedProduct product, const FlippedProblem& p, std::mt19937& random) {
  FlippedOperands o(p, random);
  const std::vector<float> before = o.c;
  product(o.g);
  const backend::Gemm& g = o.g;
  const double roundings = static_cast<double>(std::min<std::int64_t>(g.k, 256) + g.k / 64 + 8);
  int wrong = 0;
  for (std::size_t i = 0; i < o.c.size(); ++i) {
    if (!o.is_written(i)) {
      wrong += !std::isnan(o.c[i]);
      continue;
    }
    const auto at = static_cast<std::int64_t>(i);
    const std::int64_t r = at / g.stride_c, row = at % g.stride_c / g.ldc, column = at % g.ldc;
    double sum = 0, magnitude = 0;
    for (std::int64_t t = 0; t < g.k; ++t) {
      const double term =
          double(o.a[static_cast<std::size_t>(r * g.stride_a + row * g.lda + t)]) * o.weight(r, t, column);
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

TEST_CASE("products with flipout's replicas against double: random shapes, slices, strides, scales") {
  const std::int64_t sizes[] = {0, 1, 2, 3, 5, 8, 13, 15, 16, 17, 31, 33, 47, 48, 49, 65, 97, 130, 200, 259};
  const std::int64_t slices[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17, 21};
  for (const FlippedLevel& level : flipped_levels()) {
    CAPTURE(level.name);
    std::mt19937 random(1);
    const auto one_of = [&](auto& list) { return list[random() % std::size(list)]; };
    for (int trial = 0; trial < 600; ++trial) {
      const double scales[] = {1, 1, 1, 0, -0.5, 2}, betas[] = {0, 0, 1, 1, 0.5, -1};
      const auto few = [&](std::uint64_t n) { return static_cast<std::int64_t>(random() % n); };
      const std::int64_t first = few(3), batch = few(5);
      const FlippedProblem p{.rows = one_of(sizes),
                             .length = one_of(sizes),
                             .m = one_of(slices),
                             .batch = batch,
                             .first = first,
                             .count = first + batch + few(2),
                             .transpose_b = few(2) == 0,
                             .alpha = one_of(scales),
                             .beta = one_of(betas),
                             .gap = few(4)};
      CAPTURE(p.rows);
      CAPTURE(p.length);
      CAPTURE(p.m);
      CAPTURE(p.batch);
      CAPTURE(p.transpose_b);
      CAPTURE(p.alpha);
      CAPTURE(p.beta);
      REQUIRE(wrong_elements(level.run, p, random) == 0);
    }
  }
}

TEST_CASE("products with flipout's replicas: infinities and NaN go where IEEE arithmetic takes them") {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const FlippedLevel& level : flipped_levels())
    for (const bool transpose : {true, false})
      for (const std::int64_t n : {6, 50, 130})
        for (const std::int64_t k : {2, 70, 300}) {
          CAPTURE(level.name);
          CAPTURE(transpose);
          CAPTURE(n);
          CAPTURE(k);
          std::mt19937 random(3);
          const FlippedProblem p{.rows = transpose ? n : k,
                                 .length = transpose ? k : n,
                                 .m = 9,
                                 .batch = 3,
                                 .transpose_b = transpose};
          FlippedOperands o(p, random);
          // Row 4 of slice 1 has an infinity at the last term. There all weights are positive, but that of column 2
          // is zero, and θ of column 3 is NaN, the noise of column 4 infinite.
          const std::int64_t t = k - 1;
          const auto at = [&](std::int64_t column) {
            return static_cast<std::size_t>(transpose ? column * k + t : t * n + column);
          };
          for (std::int64_t j = 0; j < n; ++j) o.theta[at(j)] = 2, o.noise[at(j)] = 1;
          o.theta[at(2)] = o.noise[at(2)] = 0;
          o.theta[at(3)] = nan;
          o.noise[at(4)] = inf;
          o.a[static_cast<std::size_t>(o.g.stride_a + 4 * k + t)] = inf;
          level.run(o.g);
          int wrong = 0;
          for (std::int64_t r = 0; r < 3; ++r)
            for (std::int64_t i = 0; i < 9; ++i)
              for (std::int64_t j = 0; j < n; ++j) {
                const float c = o.c[static_cast<std::size_t>((r * 9 + i) * n + j)];
                const bool infinite = r == 1 && i == 4;
                if (j == 3 || (infinite && j == 2)) {
                  wrong += !std::isnan(c);
                } else if (j == 4) {
                  const float a = o.a[static_cast<std::size_t>((r * 9 + i) * k + t)];
                  wrong += c != std::copysign(inf, float(o.weight(r, t, 4)) * a);
                } else if (infinite) {
                  wrong += c != inf;
                } else {
                  wrong += !std::isfinite(c);
                }
              }
          CHECK(wrong == 0);
        }
}

TEST_CASE("products with flipout's replicas: the same bits for any number of threads") {
  for (const FlippedLevel& level : flipped_levels())
    for (const bool transpose : {true, false})
      for (const auto& [rows, length, m, batch] :
           std::vector<std::array<std::int64_t, 4>>{{512, 784, 16, 8}, {300, 200, 4, 5}, {10, 600, 17, 3}}) {
        CAPTURE(level.name);
        CAPTURE(rows);
        std::vector<float> first;
        for (const int threads : {1, 2, 3, 5}) {
          std::mt19937 random(4);
          FlippedOperands o(
              {.rows = rows, .length = length, .m = m, .batch = batch, .transpose_b = transpose}, random);
          set_num_threads(threads);
          level.run(o.g);
          set_num_threads(0);
          if (first.empty()) first = o.c;
          CHECK(first == o.c);
        }
      }
}
