// Gaussian and uniform noise: its bits, on every instruction set and for any splitting, its
// accuracy and its distribution.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "lpf/backend/cpu/simd_noise.hpp"

namespace {

using namespace lpf;
using namespace lpf::backend::cpu;

constexpr NoiseKey kKey{
    .seed = 2023, .purpose = Purpose::perturbation, .draw = 11, .replica = 3, .parameter = 5};

auto bits(float x) { return std::bit_cast<std::uint32_t>(x); }
auto bits(double x) { return std::bit_cast<std::uint64_t>(x); }
auto bits(std::uint32_t x) { return x; }

/// FNV-1a over the values' bits.
template <class T>
std::uint64_t checksum(const std::vector<T>& values) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const T value : values) hash = (hash ^ bits(value)) * 0x100000001b3;
  return hash;
}

template <class T>
std::vector<T> normals(const NoiseKey& key, std::int64_t n) {
  std::vector<T> e(static_cast<std::size_t>(n));
  normal_fill(key, 0, n, e.data());
  return e;
}

// --- bits

TEST_CASE("the noise has known bits, by the reference and by the fast path of this instruction set") {
  INFO("instruction set: " LPF_ISA_NAME);
  const std::uint32_t f32[8] = {0xbf07e7f3, 0xbf0183df, 0x3f2a7db2, 0x405c10a7,
                                0x3f8ff595, 0x3faae27b, 0xbf215cfa, 0x3f297d1c};
  const std::uint64_t f64[4] = {0x3fb990e20d3f8d90, 0x3fe07ffa0abeea7f, 0xbff5ef1e02780c66,
                                0x3ff709de50601e8f};
  for (int i = 0; i < 8; ++i) CHECK(bits(normal_at<float>(kKey, i)) == f32[i]);
  for (int i = 0; i < 4; ++i) CHECK(bits(normal_at<double>(kKey, i)) == f64[i]);

  const int n = 100000;
  const std::vector<float> f = normals<float>(kKey, n);
  const std::vector<double> d = normals<double>(kKey, n);
  CHECK(checksum(f) == 0x82ccfc1283195653);
  CHECK(checksum(d) == 0x45ef6695d168cc33);
  std::vector<float> f_reference(n);
  std::vector<double> d_reference(n);
  for (std::size_t i = 0; i < n; ++i) {
    f_reference[i] = normal_at<float>(kKey, static_cast<std::int64_t>(i));
    d_reference[i] = normal_at<double>(kKey, static_cast<std::int64_t>(i));
  }
  CHECK(checksum(f_reference) == 0x82ccfc1283195653);
  CHECK(checksum(d_reference) == 0x45ef6695d168cc33);
}

/// Fills ragged ranges with fill(first, n, out), and compares every element with reference(element), and the
/// memory beside the range with its previous content.
template <class T, class Fill, class Reference>
void check_ranges(Fill fill, Reference reference) {
  std::mt19937 generator(1);
  const std::int64_t end = std::int64_t{1} << 33;
  for (int trial = 0; trial < 400; ++trial) {
    const auto n = static_cast<std::int64_t>(generator() % (trial % 8 ? 70 : 1500));
    const std::int64_t first = trial % 10 == 9 ? end - n : static_cast<std::int64_t>(generator() % 100000);
    const std::size_t margin = 16;
    std::vector<T> out(static_cast<std::size_t>(n) + 2 * margin, T(77));
    fill(first, n, out.data() + margin);
    bool equal = true;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::int64_t j = static_cast<std::int64_t>(i) - static_cast<std::int64_t>(margin);
      equal = equal && bits(out[i]) == bits(j >= 0 && j < n ? reference(first + j) : T(77));
    }
    CAPTURE(first);
    CAPTURE(n);
    REQUIRE(equal);
  }
}

TEST_CASE("every range of the stream has the reference's bits") {
  check_ranges<float>([](auto first, auto n, float* out) { normal_fill(kKey, first, n, out); },
                      [](auto i) { return normal_at<float>(kKey, i); });
  check_ranges<double>([](auto first, auto n, double* out) { normal_fill(kKey, first, n, out); },
                       [](auto i) { return normal_at<double>(kKey, i); });
  check_ranges<float>([](auto first, auto n, float* out) { uniform_fill(kKey, first, n, out); },
                      [](auto i) { return uniform_at<float>(kKey, i); });
  check_ranges<double>([](auto first, auto n, double* out) { uniform_fill(kKey, first, n, out); },
                       [](auto i) { return uniform_at<double>(kKey, i); });
  check_ranges<std::uint32_t>([](auto first, auto n, auto* out) { word_fill(kKey, first, n, out); },
                              [](auto i) { return word_at(kKey, i); });
}

TEST_CASE("a range without counters is a ValueError and writes nothing") {
  float out[4] = {1, 1, 1, 1};
  CHECK_THROWS_AS(normal_fill(kKey, (std::int64_t{1} << 34) - 3, 4, out), ValueError);
  CHECK_THROWS_AS(normal_fill(kKey, -1, 2, out), ValueError);
  CHECK_THROWS_AS(perturb_rows(kKey, {2, 1}, 2, out, out, out), ValueError);
  CHECK_THROWS_AS(perturb_rows(kKey, {0, INT64_MAX / 2}, 4, out, out, out), ValueError);
  CHECK(std::all_of(out, out + 4, [](float x) { return x == 1; }));
  CHECK_NOTHROW(perturb_rows(kKey, {0, 5}, 0, out, out, out));
}

TEST_CASE_TEMPLATE("perturb_rows is theta + scale * noise, for every shape and any part of the rows", T,
                   float, double) {
  std::mt19937 generator(2);
  for (const std::int64_t len : {1, 2, 3, 5, 10, 15, 16, 25, 64, 65, 150, 784, 4000}) {
    const std::int64_t rows = 1 + 700 / len;
    CAPTURE(len);
    const auto size = static_cast<std::size_t>(rows * len);
    std::vector<T> theta(size), scale(static_cast<std::size_t>(rows)), plus(size), minus(size);
    for (T& x : theta) x = static_cast<T>(generator()) / T(1 << 30) - T(2);
    for (T& x : scale) x = static_cast<T>(generator()) / T(1 << 30);
    for (std::size_t i = 0; i < size; ++i) {
      const T s = scale[i / static_cast<std::size_t>(len)];
      const T e = normal_at<T>(kKey, static_cast<std::int64_t>(i));
      plus[i] = lpf::detail::fmadd(s, e, theta[i]);  // std::fma is wrong under mingw
      minus[i] = lpf::detail::fmadd(-s, e, theta[i]);
    }
    const std::int64_t cut = static_cast<std::int64_t>(generator()) % (rows + 1);
    std::vector<T> out(size), other(size);
    for (const RowRange part : {RowRange{0, cut}, RowRange{cut, rows}}) {
      perturb_rows(kKey, part, len, theta.data(), scale.data(), out.data() + part.begin * len,
                   other.data() + part.begin * len);
    }
    CHECK(out == plus);
    CHECK(other == minus);
    perturb_rows(kKey, {0, rows}, len, theta.data(), scale.data(), theta.data());  // in place
    CHECK(theta == plus);
  }
}

// --- accuracy

/// The error of `got` in units in the last place of T.
template <class T>
double ulps(T got, long double exact) {
  const int digits = std::numeric_limits<T>::digits;
  return static_cast<double>(std::abs(got - exact) / std::ldexp(1.0L, std::ilogb(exact) + 1 - digits));
}

TEST_CASE("radius and angle are accurate over their whole range") {
  using lpf::detail::minus_two_log_f32, lpf::detail::minus_two_log_f64, lpf::detail::sin_quarter_f32,
      lpf::detail::sin_quarter_f64;
  const long double half_pi = std::acos(-1.0L) / 2;
  double log32 = 0, log64 = 0, sin32 = 0, sin64 = 0;
  for (std::uint64_t i = 0; i < 200000; ++i) {
    // Half of the points are evenly spaced, half are concentrated at the two ends.
    std::uint64_t w = i * 0x9E3779B97F4A7C15;
    if (i % 4 == 1) w >>= i / 4 % 32;
    if (i % 4 == 3) w = ~(w >> i / 4 % 32);
    const auto w32 = static_cast<std::uint32_t>(w >> 32);
    const std::uint64_t w53 = w >> 11;
    if (w32 != 0xffffffff) {
      const long double left = 0xffffffff - w32;  // 2^32 (1 - u)
      log32 = std::max(log32, ulps(minus_two_log_f32<float>(w32), -2 * std::log1p(-left * 0x1p-32L)));
    }
    if (w53 != (std::uint64_t{1} << 53) - 1) {
      const long double left = static_cast<long double>((std::uint64_t{1} << 53) - 1 - w53);
      log64 = std::max(log64, ulps(minus_two_log_f64<double>(w53), -2 * std::log1p(-left * 0x1p-53L)));
    }
    const float y32 = static_cast<float>(w32) * 0x1p-32f;
    const double y64 = static_cast<double>(w53) * 0x1p-53;
    if (y32 > 0) sin32 = std::max(sin32, ulps(sin_quarter_f32(y32), std::sin(half_pi * y32)));
    if (y64 > 0) sin64 = std::max(sin64, ulps(sin_quarter_f64(y64), std::sin(half_pi * y64)));
  }
  CHECK(log32 < 2.2);
  CHECK(log64 < 1.4);
  CHECK(sin32 < 2.7);
  CHECK(sin64 < 2.7);
}

TEST_CASE("the ends of the range: the largest radius, the smallest, and the four quadrants") {
  using lpf::detail::box_muller_f32, lpf::detail::box_muller_f64;
  float x, y;
  box_muller_f32(0u, 0u, x, y);
  CHECK(x == doctest::Approx(std::sqrt(64 * std::log(2.0))));  // 6.66
  CHECK(y > 0);
  CHECK(y < 1e-8);
  box_muller_f32(0xffffffffu, 0u, x, y);
  CHECK(x == 0);
  box_muller_f32(0xfffffffeu, 0u, x, y);
  CHECK(x == doctest::Approx(std::sqrt(0x1p-31)));
  double dx, dy;
  box_muller_f64(std::uint64_t{0}, std::uint64_t{0}, dx, dy);
  CHECK(dx == doctest::Approx(std::sqrt(106 * std::log(2.0))));  // 8.57
  for (std::uint32_t quadrant = 0; quadrant < 4; ++quadrant) {
    box_muller_f32(0x12345678u, quadrant << 30 | 0x0abcdef0, x, y);
    box_muller_f64(std::uint64_t{0x12345678} << 32, std::uint64_t{quadrant << 30 | 0x0abcdef0} << 32, dx, dy);
    CHECK(std::signbit(x) == (quadrant >= 2));
    CHECK(std::signbit(y) == (quadrant % 2 == 1));
    CHECK(dx == doctest::Approx(x));  // the same formula at both precisions
    CHECK(dy == doctest::Approx(y));
  }
}

// --- distribution

/// Kolmogorov's p-value for n numbers under the uniform distribution.
double kolmogorov_smirnov(std::vector<double> u) {
  std::sort(u.begin(), u.end());
  const double n = static_cast<double>(u.size());
  double distance = 0;
  for (std::size_t i = 0; i < u.size(); ++i) {
    const double rank = static_cast<double>(i);
    distance = std::max({distance, u[i] - rank / n, (rank + 1) / n - u[i]});
  }
  double p = 0;
  for (int k = 1; k < 100; ++k) p += (k % 2 ? 2 : -2) * std::exp(-2 * k * k * distance * distance * n);
  return p;
}

TEST_CASE_TEMPLATE("the Gaussians have the normal law's moments, tails and distribution", T, float, double) {
  const std::int64_t n = 4000000;
  const std::vector<T> e = normals<T>(kKey, n);
  double power[5] = {}, beyond[5] = {}, positive = 0;
  for (const double x : e) {
    for (double k = 1, p = x; k <= 4; ++k, p *= x) power[static_cast<int>(k)] += p;
    for (int k = 2; k < 5; ++k) beyond[k] += std::abs(x) > k;
    positive += x > 0;
  }
  // Each figure is in units of its standard error; the moments are about the known mean 0, with variance 1.
  const double root = std::sqrt(static_cast<double>(n)), count = static_cast<double>(n);
  CHECK(std::abs(power[1] / count) * root < 5);
  CHECK(std::abs(power[2] / count - 1) * root / std::sqrt(2.0) < 5);
  CHECK(std::abs(power[3] / count) * root / std::sqrt(15.0) < 5);
  CHECK(std::abs(power[4] / count - 3) * root / std::sqrt(96.0) < 5);
  CHECK(std::abs(positive / count - 0.5) * root * 2 < 5);
  for (int k = 2; k < 5; ++k) {
    const double p = std::erfc(k / std::sqrt(2.0));
    CHECK(std::abs(beyond[k] - count * p) < 5 * std::sqrt(count * p));
  }
  std::vector<double> u;
  for (std::size_t i = 0; i < 500000; ++i) u.push_back(std::erfc(-double{e[i]} / std::sqrt(2.0)) / 2);
  CHECK(kolmogorov_smirnov(u) > 1e-4);
}

/// sqrt(n) times the correlation of a and b: standard normal if they are independent.
template <class A, class B>
double correlation(std::size_t n, A a, B b) {
  double aa = 0, bb = 0, ab = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double x = a(i), y = b(i);
    aa += x * x;
    bb += y * y;
    ab += x * y;
  }
  return ab / std::sqrt(aa * bb) * std::sqrt(static_cast<double>(n));
}

TEST_CASE_TEMPLATE("neighbours, replicas, draws, parameters, purposes and seeds are independent", T, float,
                   double) {
  const std::size_t n = 400000;
  const auto draw = [](const NoiseKey& key) { return normals<T>(key, n + 16); };
  const std::vector<T> e = draw(kKey);
  for (std::size_t lag = 1; lag <= 16; ++lag) {
    CAPTURE(lag);
    const auto a = [&](std::size_t i) { return double{e[i]}; };
    const auto b = [&](std::size_t i) { return double{e[i + lag]}; };
    CHECK(std::abs(correlation(n, a, b)) < 5);
    CHECK(std::abs(correlation(
              n, [&](auto i) { return a(i) * a(i) - 1; }, [&](auto i) { return b(i) * b(i) - 1; })) < 5);
  }
  std::vector<NoiseKey> others(6, kKey);
  ++others[0].replica;
  ++others[1].draw;
  ++others[2].parameter;
  ++others[3].seed;
  others[4].purpose = Purpose::measure;
  std::swap(others[5].replica, others[5].parameter);
  for (const NoiseKey& key : others) {
    const std::vector<T> other = draw(key);
    CHECK(std::abs(correlation(
              n, [&](auto i) { return e[i]; }, [&](auto i) { return other[i]; })) < 5);
    CHECK(std::abs(correlation(
              n, [&](auto i) { return e[i] * e[i] - 1; }, [&](auto i) { return other[i] * other[i] - 1; })) <
          5);
  }
}

TEST_CASE_TEMPLATE("a Box-Muller pair is a point of the round normal law in the plane", T, float, double) {
  const std::size_t pairs = 500000;
  const std::vector<T> e = normals<T>(kKey, static_cast<std::int64_t>(2 * pairs));
  std::vector<double> angle, radius;
  double quadrant[4] = {};
  for (std::size_t i = 0; i < pairs; ++i) {
    const double x = e[2 * i], y = e[2 * i + 1];
    angle.push_back(std::atan2(y, x) / (4 * std::acos(0.0)) + 0.5);
    radius.push_back(std::exp(-(x * x + y * y) / 2));
    ++quadrant[(x < 0) * 2 + (y < 0)];
  }
  double chi_squared = 0;
  for (const double count : quadrant)
    chi_squared += (count - pairs / 4.0) * (count - pairs / 4.0) / (pairs / 4.0);
  CHECK(chi_squared < 21);  // 3 degrees of freedom: p > 1e-4
  CHECK(kolmogorov_smirnov(angle) > 1e-4);
  CHECK(kolmogorov_smirnov(radius) > 1e-4);
  CHECK(std::abs(correlation(
            pairs, [&](auto i) { return angle[i] - 0.5; }, [&](auto i) { return radius[i] - 0.5; })) < 5);
}

TEST_CASE_TEMPLATE("the uniforms are uniform in [0, 1)", T, float, double) {
  const std::int64_t n = 500000;
  std::vector<T> u(n);
  uniform_fill(kKey, 0, n, u.data());
  CHECK(*std::min_element(u.begin(), u.end()) >= 0);
  CHECK(*std::max_element(u.begin(), u.end()) < 1);
  CHECK(kolmogorov_smirnov(std::vector<double>(u.begin(), u.end())) > 1e-4);
  CHECK(lpf::detail::uniform_f32<float>(0xffffffffu) < 1);
  CHECK(lpf::detail::uniform_f64<double>(~std::uint64_t{0}) < 1);
}

}  // namespace
