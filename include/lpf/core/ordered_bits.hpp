// The order of numbers as the order of unsigned integers, for sorting any dtype with one function.
#pragma once

#include <bit>
#include <cstdint>

#include "lpf/core/host_device.hpp"

namespace lpf::detail {

/// Unsigned integers in the order of the numbers: −∞ first, −0 with 0, NaNs (all equal) last.
LPF_HD inline std::uint64_t ordered_bits(double x) {
  if (x != x) return ~std::uint64_t{0};
  const auto bits = std::bit_cast<std::uint64_t>(x == 0 ? 0.0 : x);
  return bits >> 63 ? ~bits : bits | std::uint64_t{1} << 63;
}
LPF_HD inline std::uint64_t ordered_bits(std::int64_t x) {
  return static_cast<std::uint64_t>(x) ^ std::uint64_t{1} << 63;
}

}  // namespace lpf::detail
