// Noise in programs compiled without AVX2 and FMA: the same bits, chosen by the processor at run time; and the fused
// multiply-add in software.
#include "noise_portable.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "lpf/backend/cpu/simd_noise.hpp"
#include "lpf_test.hpp"

namespace {

using namespace lpf;
using namespace lpf::test;

constexpr NoiseKey kPortableKey{.seed = 7, .purpose = Purpose::perturbation, .draw = 2, .replica = 1};

template <class T>
void check_normals() {
  for (const std::int64_t n : {1, 5, 64, 1000, 20001})
    for (const std::int64_t first : {0, 1, 2, 3, 1000}) {
      std::vector<T> here(static_cast<std::size_t>(n)), portable = here;
      backend::cpu::normal_fill(kPortableKey, first, n, here.data());
      portable_normal(kPortableKey, first, n, portable.data());
      CHECK(here == portable);
    }
}

TEST_CASE("a program compiled without AVX2 draws the same noise") {
#if defined(__x86_64__)
  CHECK(portable_isa() == "portable");
#endif
  check_normals<float>();
  check_normals<double>();
  std::vector<float> here(300), scalar(300);
  backend::cpu::normal_fill(kPortableKey, 1, 300, here.data());
  scalar_normal(kPortableKey, 1, 300, scalar.data());
  CHECK(here == scalar);
  for (const std::int64_t len : {1, 10, 63, 64, 784}) {
    const std::int64_t rows = 3000 / len + 1;
    std::vector<float> theta(static_cast<std::size_t>(rows * len)), scale(static_cast<std::size_t>(rows));
    backend::cpu::normal_fill(kPortableKey, 0, rows * len, theta.data());
    backend::cpu::uniform_fill(kPortableKey, 0, rows, scale.data());
    std::vector<float> up = theta, down = theta, portable_up = theta, portable_down = theta;
    backend::cpu::perturb_rows(kPortableKey, {0, rows}, len, theta.data(), scale.data(), up.data(),
                               down.data());
    portable_perturb(kPortableKey, rows, len, theta.data(), scale.data(), portable_up.data(),
                     portable_down.data());
    CHECK(up == portable_up);
    CHECK(down == portable_down);
  }
}

/// Numbers of all kinds: any bits, near 1, subnormal products, few digits, special values.
template <class T, class Bits>
T number_of(std::mt19937_64& random, std::uint64_t kind) {
  constexpr int digits = std::numeric_limits<T>::digits - 1, bias = std::numeric_limits<T>::max_exponent - 1;
  const auto bits = static_cast<Bits>(random());
  const Bits sign = bits & (Bits{1} << (8 * sizeof(T) - 1)), mantissa = bits & ((Bits{1} << digits) - 1);
  const auto exponent = [&](std::uint64_t from, std::uint64_t n) {
    return static_cast<Bits>(from + random() % n) << digits;
  };
  switch (kind) {
    case 0: return std::bit_cast<T>(bits);
    case 1:
      return std::bit_cast<T>(static_cast<Bits>(sign | mantissa | exponent(bias - digits - 3, 2 * digits)));
    case 2: return std::bit_cast<T>(static_cast<Bits>(sign | mantissa | exponent(0, 2 * digits)));
    case 3:
      return std::bit_cast<T>(static_cast<Bits>(sign | (mantissa & ~Bits{0xFFFFF}) | exponent(bias - 3, 7)));
    default: {
      using Limits = std::numeric_limits<T>;
      const T values[] = {0,
                          -T(0),
                          1,
                          -1,
                          Limits::infinity(),
                          -Limits::infinity(),
                          Limits::quiet_NaN(),
                          Limits::denorm_min(),
                          -Limits::denorm_min(),
                          Limits::min(),
                          Limits::max(),
                          Limits::lowest()};
      return values[bits % 12];
    }
  }
}

/// The processor's where it has one: the C library's is wrong under mingw.
template <class T>
T hardware_fma(T a, T b, T c) {
#if LPF_FMA_AT_RUN_TIME
  if (lpf::detail::has_fma()) return lpf::detail::hardware_fma(a, b, c);
#endif
  return std::fma(a, b, c);
}

template <class T, class Bits>
int wrong_products(int n) {
  std::mt19937_64 random(1);
  int wrong = 0;
  for (int i = 0; i < n; ++i) {
    const std::uint64_t kind = random() % 5;
    const auto draw = [&] { return number_of<T, Bits>(random, random() % 8 == 0 ? random() % 5 : kind); };
    const T a = draw(), b = draw();
    T c = draw();
    if (kind < 4 && random() % 4 == 0)  // nearly all digits cancel
      c = -(a * b) * (1 + static_cast<T>(random() % 3) * std::numeric_limits<T>::epsilon());
    const T expected = hardware_fma(a, b, c), found = software_fma(a, b, c);
    wrong += std::bit_cast<Bits>(expected) != std::bit_cast<Bits>(found) &&
             !(std::isnan(expected) && std::isnan(found));
  }
  return wrong;
}

TEST_CASE("a fused multiply-add in software is rounded once, for numbers of every kind") {
#if LPF_FMA_AT_RUN_TIME && defined(_WIN32)
  if (!lpf::detail::has_fma()) return skip("this processor has none, and libm's is wrong");
#endif
  CHECK(wrong_products<float, std::uint32_t>(300000) == 0);
  CHECK(wrong_products<double, std::uint64_t>(300000) == 0);
}

}  // namespace
