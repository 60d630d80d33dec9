// bfloat16: the upper 16 bits of a float32, so its range with 8 significant bits. It is a storage format;
// arithmetic is in float. One definition for CPU and GPU: the same bits on both.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "lpf/core/host_device.hpp"

namespace lpf {

/// Converts to float exactly, and from any number with one rounding to nearest, ties to even. NaN stays NaN
/// with its sign; overflow gives infinity.
struct BFloat16 {
  std::uint16_t bits;

  BFloat16() = default;
  LPF_HD explicit BFloat16(float v) : bits(rounded(std::bit_cast<std::uint32_t>(v))) {}
  LPF_HD explicit BFloat16(double v) {
    // Round to odd: float with the last bit set if anything was cut off, so that the second
    // rounding sees it and is the only one.
    const float near = static_cast<float>(v);
    auto word = std::bit_cast<std::uint32_t>(near);
    if (v == v && static_cast<double>(near) != v) {
      const bool too_far = static_cast<double>(v < 0 ? -near : near) > (v < 0 ? -v : v);
      word = (too_far ? word - 1 : word) | 1u;
    }
    bits = rounded(word);
  }
  /// Integers are converted through double, which is exact up to 2^53.
  template <class T>
  requires std::is_integral_v<T> LPF_HD explicit BFloat16(T v) : BFloat16(static_cast<double>(v)) {}

  LPF_HD operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

 private:
  LPF_HD static std::uint16_t rounded(std::uint32_t word) {
    if ((word & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>(word >> 16 | 0x40u);  // NaN
    return static_cast<std::uint16_t>((word + 0x7FFFu + (word >> 16 & 1u)) >> 16);
  }
};

}  // namespace lpf
