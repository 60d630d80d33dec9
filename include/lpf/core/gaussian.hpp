// Uniform and Gaussian numbers from the words of Philox, bit-identical on every
// instruction set and on the GPU.
//
// Box and Muller (1958): if u and v are uniform in (0, 1], the radius r = sqrt(-2 ln u) and the
// angle 2 pi v give two independent standard Gaussians, r cos(2 pi v) and r sin(2 pi v). Logarithm
// and sine are minimax polynomials in relative error (Remez' exchange), evaluated by Horner's rule
// with explicit fused multiply-adds.
//
// The functions in `detail` are templates on a real type F and the unsigned type U of the same width: scalars
// here, vectors in backend/cpu/simd_noise.hpp.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "lpf/core/host_device.hpp"
#include "lpf/core/philox.hpp"

namespace lpf {
namespace detail {

// The operations needed below besides +, -, *, <<, >>, &, |; vectors provide overloads of the same names.

/// A number in [-2^31, 2^31) as float; one in [0, 2^53) as double.
LPF_HD_INLINE float to_real(std::uint32_t x) { return static_cast<float>(static_cast<std::int32_t>(x)); }
LPF_HD_INLINE double to_real(std::uint64_t x) { return static_cast<double>(static_cast<std::int64_t>(x)); }
/// A number in [0, 2^32) as float.
LPF_HD_INLINE float unsigned_to_real(std::uint32_t x) { return static_cast<float>(x); }
LPF_HD_INLINE std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }
LPF_HD_INLINE std::uint64_t bits_of(double x) { return std::bit_cast<std::uint64_t>(x); }
LPF_HD_INLINE double real_of_bits(std::uint64_t x) { return std::bit_cast<double>(x); }
/// x 2^n modulo 2^32, also for n = 32.
LPF_HD_INLINE std::uint32_t shift_left(std::uint32_t x, std::uint32_t n) {
  return static_cast<std::uint32_t>(std::uint64_t{x} << n);
}
/// x, negated where the top bit of `sign` is set.
LPF_HD_INLINE float flip_sign(float x, std::uint32_t sign) {
  return std::bit_cast<float>(bits_of(x) ^ (sign & 0x80000000u));
}
LPF_HD_INLINE double flip_sign(double x, std::uint64_t sign) {
  return std::bit_cast<double>(bits_of(x) ^ (sign & 0x8000000000000000u));
}

/// c0 + c1 x + c2 x^2 + …
template <class F, class C, class... Rest>
LPF_HD_INLINE F horner(F x, C c0, Rest... rest) {
  if constexpr (sizeof...(Rest) == 0) {
    return F(c0);
  } else {
    return fmadd(horner(x, rest...), x, F(c0));
  }
}

/// -2 ln u for u = (w + 1) / 2^32 in (0, 1], with the full resolution of w also where u
/// is close to 1. Error: 2.2 ulp.
template <class F, class U>
LPF_HD_INLINE F minus_two_log_f32(U w) {
  // u = 2^-j (1 + f) with 1 + f in [sqrt 1/2, sqrt 2): 0x4FB504F2 is the float below 2^32 sqrt
  // 2, and j counts octaves down from there. (w + 1) 2^j is 2^32 (1 + f); modulo 2^32 it is
  // exactly 2^32 f, as a signed number.
  const U j = (U(0x4FB504F2u) - bits_of(unsigned_to_real(w) + F(1.0f))) >> 23;
  const F f = to_real(shift_left(w + U(1u), j)) * F(0x1p-32f);
  const F slope = horner(f, -2.0f, 0x1.fffff8p-1f, -0x1.55555p-1f, 0x1.000428p-1f, -0x1.99a3f8p-2f,
                         0x1.542770p-2f, -0x1.22718ap-2f, 0x1.0f3724p-2f, -0x1.0848cep-2f, 0x1.383274p-3f);
  return fmadd(to_real(j), F(0x1.62e43p0f), f * slope);  // 2 j ln 2 - 2 ln(1 + f)
}

/// -2 ln u for u = (w + 1) / 2^53 in (0, 1]. Error: 1.3 ulp.
template <class F, class U>
LPF_HD_INLINE F minus_two_log_f64(U w) {
  // As above; here w + 1 and its scaling to [sqrt 1/2, sqrt 2) are exact in floating point.
  const U bits = bits_of(to_real(w) + F(1.0));
  const U j = (U(0x4346A09E667F3BCCu) - bits) >> 52;
  const F f = real_of_bits(bits + (j << 52) - U(std::uint64_t{53} << 52)) - F(1.0);
  // ln(1 + f) = 2 artanh(s) = f - s (f - s^2 P(s^2)): P needs a third of the terms of a series in f.
  const F s = divide(f, f + F(2.0)), s2 = s * s;
  const F p = horner(s2, 0x1.5555555555592p-1, 0x1.999999997feb3p-2, 0x1.24924941e3f22p-2,
                     0x1.c71c5213893aap-3, 0x1.74663ced69bcep-3, 0x1.39a1eb3e035ffp-3, 0x1.2f0392f45ab7fp-3);
  const F log = fnmadd(s, fnmadd(s2, p, f), f);
  return fmadd(to_real(j), F(0x1.62e42fefa39efp0), log * F(-2.0));
}

/// sin(pi/2 y) for y in [0, 1]. Error: 2.8 ulp (float, the rounding of y included), 2.6 ulp (double).
template <class F>
LPF_HD_INLINE F sin_quarter_f32(F y) {
  return y * horner(y * y, 0x1.921fb6p0f, -0x1.4abbc4p-1f, 0x1.4668acp-4f, -0x1.324cc8p-8f, 0x1.3db002p-13f);
}
template <class F>
LPF_HD_INLINE F sin_quarter_f64(F y) {
  return y * horner(y * y, 0x1.921fb54442d18p0, -0x1.4abbce625be52p-1, 0x1.466bc6775aa6ep-4,
                    -0x1.32d2cce627545p-8, 0x1.50783485191d9p-13, -0x1.e3074ddd26aa8p-19,
                    0x1.e8f35ea0252d3p-25, -0x1.6f79777d23ea1p-31, 0x1.9d1b950493d6dp-38);
}

/// Two independent standard Gaussians. `a` gives the radius. `b` gives the angle: its top bits are the signs
/// of cosine and sine; the bits below, as the midpoint y of an interval, are the angle within a quarter turn.
/// Since cos(pi/2 y) = sin(pi/2 (1 - y)), and 1 - y is exact, neither loses digits near its zeros.
template <class F, class U>
LPF_HD_INLINE void box_muller_f32(U a, U b, F& cosine, F& sine) {
  const F r = square_root(minus_two_log_f32<F>(a));
  const U sine_sign = b << 1;
  const U y = (sine_sign | U(1u)) & U(0x7FFFFFFFu);
  const F scale = F(0x1p-31f);
  cosine = flip_sign(r * sin_quarter_f32(to_real(U(0x80000000u) - y) * scale), b);
  sine = flip_sign(r * sin_quarter_f32(to_real(y) * scale), sine_sign);
}
template <class F, class U>
LPF_HD_INLINE void box_muller_f64(U a, U b, F& cosine, F& sine) {
  const F r = square_root(minus_two_log_f64<F>(a >> 11));
  const U sine_sign = b << 1;
  const U y = ((sine_sign >> 10) | U(std::uint64_t{1})) & U((std::uint64_t{1} << 53) - 1);
  const F scale = F(0x1p-53);
  cosine = flip_sign(r * sin_quarter_f64(to_real(U(std::uint64_t{1} << 53) - y) * scale), b);
  sine = flip_sign(r * sin_quarter_f64(to_real(y) * scale), sine_sign);
}

/// Uniform in [0, 1): multiples of 2^-24 as float, of 2^-53 as double.
template <class F, class U>
LPF_HD_INLINE F uniform_f32(U w) {
  return to_real(w >> 8) * F(0x1p-24f);
}
template <class F, class U>
LPF_HD_INLINE F uniform_f64(U w) {
  return to_real(w >> 11) * F(0x1p-53);
}

/// Words 2 i and 2 i + 1 of a block as one 64-bit word.
LPF_HD_INLINE std::uint64_t wide_word(const PhiloxWords& words, int i) {
  return words.word[2 * i] | std::uint64_t{words.word[2 * i + 1]} << 32;
}

}  // namespace detail

/// The numbers that one block of a stream yields: four floats or two doubles.
template <class T>
struct NoiseBlock {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>);
  static constexpr int size = 16 / sizeof(T);
  T value[size];
};

/// The standard Gaussians of a block: both numbers of two Box-Muller pairs (float) or of one (double). Their
/// magnitude is at most 6.66 (float) or 8.57 (double), and they are within 5 (4) units in the last place of
/// the exact formula, measured over 10^9 (2 10^7) blocks. The key must have been checked.
template <class T>
LPF_HD_INLINE NoiseBlock<T> normal_block(const NoiseKey& key, std::uint32_t block) {
  const PhiloxWords words = noise_words(key, block);
  NoiseBlock<T> out;
  if constexpr (std::is_same_v<T, float>) {
    detail::box_muller_f32(words.word[0], words.word[1], out.value[0], out.value[1]);
    detail::box_muller_f32(words.word[2], words.word[3], out.value[2], out.value[3]);
  } else {
    detail::box_muller_f64(detail::wide_word(words, 0), detail::wide_word(words, 1), out.value[0],
                           out.value[1]);
  }
  return out;
}

/// The uniforms of a block, in [0, 1): multiples of 2^-24 (float) or 2^-53 (double).
/// The key must have been checked.
template <class T>
LPF_HD_INLINE NoiseBlock<T> uniform_block(const NoiseKey& key, std::uint32_t block) {
  const PhiloxWords words = noise_words(key, block);
  NoiseBlock<T> out;
  for (int i = 0; i < NoiseBlock<T>::size; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      out.value[i] = detail::uniform_f32<float>(words.word[i]);
    } else {
      out.value[i] = detail::uniform_f64<double>(detail::wide_word(words, i));
    }
  }
  return out;
}

/// Element `element` of the stream as a standard Gaussian: the definition that all fast paths reproduce bit
/// for bit. Throws ValueError if the stream has no such element.
template <class T>
T normal_at(const NoiseKey& key, std::int64_t element) {
  constexpr int size = NoiseBlock<T>::size;
  check_noise_range(key, element, 1, size);
  return normal_block<T>(key, static_cast<std::uint32_t>(element / size)).value[element % size];
}

/// Element `element` of the stream as a uniform number in [0, 1). Throws ValueError as normal_at() does.
template <class T>
T uniform_at(const NoiseKey& key, std::int64_t element) {
  constexpr int size = NoiseBlock<T>::size;
  check_noise_range(key, element, 1, size);
  return uniform_block<T>(key, static_cast<std::uint32_t>(element / size)).value[element % size];
}

}  // namespace lpf
