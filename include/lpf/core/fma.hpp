// Fused multiply-add, a·b + c rounded once, where the compiler may not use the processor's: x86-64 without -mfma.
// libm's is wrong on some systems (mingw), and takes a microsecond on processors that have none.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>

#if (defined(__x86_64__) || defined(__i386__)) && !defined(__FMA__) && !defined(__CUDACC__)
#  define LPF_FMA_AT_RUN_TIME 1
#else
#  define LPF_FMA_AT_RUN_TIME 0
#endif

namespace lpf::detail {

#if LPF_FMA_AT_RUN_TIME

/// The product has at most 48 digits and is exact in double. Their sum is rounded to odd: where it is not exact, the
/// neighbour whose last digit is 1 is taken, so that the second rounding, to float, sees which side it lies on
/// (Boldo & Melquiond 2008).
inline float emulated_fma(float a, float b, float c) {
  const double product = static_cast<double>(a) * static_cast<double>(b), addend = static_cast<double>(c),
               sum = product + addend;
  const double part = sum - product, lost = (product - (sum - part)) + (addend - part);  // Knuth's two-sum
  if (lost == 0 || lost != lost) return static_cast<float>(sum);  // exact, infinite or NaN
  auto bits = std::bit_cast<std::uint64_t>(sum);
  if (bits % 2 == 0) bits += (lost > 0) == (sum > 0) ? std::uint64_t{1} : ~std::uint64_t{0};
  return static_cast<float>(std::bit_cast<double>(bits));
}

/// In integers of 128 bits.
inline double emulated_fma(double a, double b, double c) {
  if (!std::isfinite(a) || !std::isfinite(b) || a == 0 || b == 0) return a * b + c;
  if (!std::isfinite(c)) return c;
  if (c == 0) return a * b;
  __extension__ typedef unsigned __int128 Wide;
  struct Number {  // digits·2^exponent, negative or not, the leading digit in bit 125
    Wide digits;
    int exponent;
    bool negative;
  };
  const auto mantissa = [](double x, int& exponent) {  // of 53 digits
    auto bits = std::bit_cast<std::uint64_t>(x) & ~(std::uint64_t{1} << 63);
    exponent = static_cast<int>(bits >> 52);
    bits &= (std::uint64_t{1} << 52) - 1;
    if (exponent > 0) return exponent -= 1075, bits | std::uint64_t{1} << 52;
    const int shift = std::countl_zero(bits) - 11;
    return exponent = -1074 - shift, bits << shift;
  };
  int ea, eb, ec;
  const Wide ab = Wide{mantissa(a, ea)} * mantissa(b, eb);
  const int shift = (ab >> 105) != 0 ? 20 : 21;
  Number x{ab << shift, ea + eb - shift, std::signbit(a) != std::signbit(b)};
  Number y{Wide{mantissa(c, ec)} << 73, 0, std::signbit(c)};
  y.exponent = ec - 73;
  if (x.exponent < y.exponent || (x.exponent == y.exponent && x.digits < y.digits)) std::swap(x, y);
  // y to x's exponent. What is shifted out is kept as one digit at the end: it decides roundings, no more.
  const int by = x.exponent - y.exponent;
  if (by > 126)
    y.digits = 1;
  else if (by > 0)
    y.digits = y.digits >> by | Wide{(y.digits & ((Wide{1} << by) - 1)) != 0};
  const Wide sum = x.negative == y.negative ? x.digits + y.digits : x.digits - y.digits;
  if (sum == 0) return 0;
  const auto high = static_cast<std::uint64_t>(sum >> 64), low = static_cast<std::uint64_t>(sum);
  const int leading = high != 0 ? 127 - std::countl_zero(high) : 63 - std::countl_zero(low);
  // Digits to round away: all but 53, or below 2^-1074.
  const bool subnormal = x.exponent + leading < -1022;
  const int cut = subnormal ? -1074 - x.exponent : leading - 52;
  std::uint64_t kept = 0;
  if (cut <= 0) {
    kept = static_cast<std::uint64_t>(sum << -cut);
  } else if (cut < 128) {
    const Wide rest = sum & ((Wide{1} << cut) - 1), half = Wide{1} << (cut - 1);
    kept = static_cast<std::uint64_t>(sum >> cut);
    kept += rest > half || (rest == half && kept % 2 == 1) ? 1u : 0u;
  }
  const int field = subnormal ? 0 : x.exponent + cut + 52 + 1022;  // kept's leading digit adds one
  std::uint64_t bits =
      field >= 2046 ? std::uint64_t{2047} << 52 : (static_cast<std::uint64_t>(field) << 52) + kept;
  return std::bit_cast<double>(bits | std::uint64_t{x.negative} << 63);
}

/// True if this processor has fused multiply-adds, and AVX2.
inline bool has_fma() { return __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2"); }

__attribute__((target("fma"))) inline float hardware_fma(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
__attribute__((target("fma"))) inline double hardware_fma(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}

/// a·b + c, by the processor where it can.
template <class T>
inline __attribute__((always_inline)) T fused(T a, T b, T c) {
  return has_fma() ? hardware_fma(a, b, c) : emulated_fma(a, b, c);
}

#endif

}  // namespace lpf::detail
