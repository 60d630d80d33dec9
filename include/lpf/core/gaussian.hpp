// Uniform and Gaussian numbers from the words of Philox, bit-identical on every
// instruction set and on the GPU.
//
// Box and Muller (1958): if u and v are uniform in (0, 1], the radius r = sqrt(-2 ln u) and the
// angle 2 pi v give two independent standard Gaussians, r cos(2 pi v) and r sin(2 pi v). Logarithm
// and sine are minimax polynomials in relative error (Remez' exchange), evaluated by Horner's rule
// with explicit fused multiply-adds.
//
// gaussian_formulas.inc has the formulas, for scalars here and for vectors in backend/cpu/simd_noise.hpp.
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

#include "lpf/core/gaussian_formulas.inc"

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
  T value[16 / sizeof(T)];
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
