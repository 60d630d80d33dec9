// Elements of files as tensors. An element type that tensors lack becomes the smallest one that represents all of
// its values:
//
//   int8, int16, uint16    int32         float16, bfloat16    float32
//   uint32, uint64         int64, where a value above 2^63 - 1 is an error
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "lpf/tensor/tensor.hpp"

namespace lpf::detail {

static_assert(std::endian::native == std::endian::little,
              "LPF's files are written for little-endian machines");

enum class StoredType : std::uint8_t {
  boolean,
  uint8,
  uint16,
  uint32,
  uint64,
  int8,
  int16,
  int32,
  int64,
  float16,
  bfloat16,
  float32,
  float64
};

/// Bytes of an element.
constexpr std::size_t bytes_of(StoredType t) {
  constexpr std::array<std::uint8_t, 13> sizes{1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8};
  return sizes[static_cast<std::size_t>(t)];
}

/// The type of the tensor.
constexpr DType tensor_type(StoredType t) {
  switch (t) {
    case StoredType::boolean: return DType::bool_;
    case StoredType::uint8: return DType::uint8;
    case StoredType::uint16:
    case StoredType::int8:
    case StoredType::int16:
    case StoredType::int32: return DType::int32;
    case StoredType::uint32:
    case StoredType::uint64:
    case StoredType::int64: return DType::int64;
    case StoredType::float16:
    case StoredType::bfloat16:
    case StoredType::float32: return DType::float32;
    case StoredType::float64: break;
  }
  return DType::float64;
}

/// The bits of a half-precision (IEEE binary16) number converted to a float, exactly.
inline std::uint32_t half_to_float_bits(std::uint16_t h) {
  const std::uint32_t sign = (h & 0x8000u) << 16, exponent = (h >> 10) & 31u, fraction = h & 0x3FFu;
  if (exponent == 31) return sign | 0x7F800000u | fraction << 13;
  if (exponent != 0) return sign | (exponent + 112) << 23 | fraction << 13;
  return sign | std::bit_cast<std::uint32_t>(static_cast<float>(fraction) * 0x1p-24f);
}

/// to[i] = f(element i), the elements big-endian if `swap`.
template <class From, class To, class F>
void convert_elements(const std::vector<char>& bytes, bool swap, To* to, F f) {
  std::array<char, sizeof(From)> element;
  for (const char* at = bytes.data(); at != bytes.data() + bytes.size(); at += element.size()) {
    std::copy_n(at, element.size(), element.begin());
    if (swap) std::reverse(element.begin(), element.end());
    *to++ = f(std::bit_cast<From>(element));
  }
}

inline void convert_elements(StoredType type, const std::vector<char>& bytes, bool swap, const Tensor& to) {
  const auto integers = [&]<class From, class To>(From, To) {
    convert_elements<From>(bytes, swap, to.data<To>(), [](From x) { return static_cast<To>(x); });
  };
  const auto halves = [&](auto bits) {
    convert_elements<std::uint16_t>(bytes, swap, to.data<float>(),
                                    [&](std::uint16_t h) { return std::bit_cast<float>(bits(h)); });
  };
  switch (type) {
    case StoredType::boolean:
    case StoredType::uint8: std::memcpy(to.raw(), bytes.data(), bytes.size()); break;
    case StoredType::uint16: integers(std::uint16_t{}, std::int32_t{}); break;
    case StoredType::uint32: integers(std::uint32_t{}, std::int64_t{}); break;
    case StoredType::uint64: integers(std::uint64_t{}, std::int64_t{}); break;
    case StoredType::int8: integers(std::int8_t{}, std::int32_t{}); break;
    case StoredType::int16: integers(std::int16_t{}, std::int32_t{}); break;
    case StoredType::int32: integers(std::int32_t{}, std::int32_t{}); break;
    case StoredType::int64: integers(std::int64_t{}, std::int64_t{}); break;
    case StoredType::float16: halves(half_to_float_bits); break;
    case StoredType::bfloat16: halves([](std::uint16_t h) { return std::uint32_t{h} << 16; }); break;
    case StoredType::float32: integers(float{}, float{}); break;
    case StoredType::float64: integers(double{}, double{}); break;
  }
}

/// A tensor on the CPU whose elements read(to, bytes) returns, row-major; its type is tensor_type(type). Calls
/// error(message), which throws, for an element without a value in that type.
template <class Read, class Error>
Tensor read_elements(StoredType type, bool big_endian, const Shape& shape, const Read& read,
                     const Error& error) {
  const DType dtype = tensor_type(type);
  Tensor out = empty(shape, {.dtype = dtype, .device = Device::cpu()});
  const std::size_t size = bytes_of(type), n = static_cast<std::size_t>(shape.numel()) * size;
  if (n == 0) return out;
  if (size == size_of(dtype) && (size == 1 || !big_endian)) {
    read(out.raw(), n);
  } else {
    std::vector<char> bytes(n);
    read(bytes.data(), n);
    convert_elements(type, bytes, big_endian && size > 1, out);
  }
  const auto each = [&]<class T>(const T* x, auto valid) {
    for (std::int64_t i = 0; i < out.numel(); ++i)
      if (!valid(x[i])) return i;
    return std::int64_t{-1};
  };
  if (type == StoredType::boolean) {
    const auto* x = static_cast<const unsigned char*>(out.raw());
    const std::int64_t bad = each(x, [](unsigned char b) { return b <= 1; });
    if (bad >= 0)
      error(concat("element ", bad, " of type bool must be 0 or 1, is ", static_cast<int>(x[bad])));
  } else if (type == StoredType::uint64) {
    const auto* x = out.data<std::int64_t>();
    const std::int64_t bad = each(x, [](std::int64_t v) { return v >= 0; });
    if (bad >= 0)
      error(concat("element ", bad, " of type uint64 is ", static_cast<std::uint64_t>(x[bad]),
                   ", tensors hold integers up to ", std::numeric_limits<std::int64_t>::max()));
  }
  return out;
}

}  // namespace lpf::detail
