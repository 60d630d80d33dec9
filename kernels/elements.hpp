// Arrays as kernels read and write them. Arithmetic is compiled for float, double and int64; narrower
// integers and bool are computed in int64, bfloat16 in float, and converted on loads and stores.
#pragma once

#include <cstdint>
#include <type_traits>

#include "launch.hpp"
#include "lpf/core/dtype.hpp"
#include "packs.hpp"

namespace lpf::cuda {

/// The type in which elements of T are computed.
template <class T>
using Computed = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

/// An array of Ts.
template <class T>
struct Elements {
  T* data;
  Elements(const void* p, DType) : data(static_cast<T*>(const_cast<void*>(p))) {}
  LPF_DEVICE Computed<T> get(std::int64_t i) const { return data[i]; }
  template <class Value>
  LPF_DEVICE void set(std::int64_t i, Value value) const {
    data[i] = static_cast<T>(value);
  }
  /// The pack at element i, or `width` copies of that element if the stride is 0.
  template <int width>
  LPF_DEVICE Pack<T, width> get_pack(std::int64_t i, int stride) const {
    if (stride != 0) return load<width>(data + i);
    Pack<T, width> same;
    for (int j = 0; j < width; ++j) same.value[j] = data[i];
    return same;
  }
};

/// An array of integers of any width, or of bools.
template <>
struct Elements<std::int64_t> {
  void* data;
  DType type;
  Elements(const void* p, DType t) : data(const_cast<void*>(p)), type(t) {}
  LPF_DEVICE std::int64_t get(std::int64_t i) const {
    switch (type) {
      case DType::bool_: return static_cast<const std::uint8_t*>(data)[i] != 0;
      case DType::uint8: return static_cast<const std::uint8_t*>(data)[i];
      case DType::int32: return static_cast<const std::int32_t*>(data)[i];
      default: return static_cast<const std::int64_t*>(data)[i];
    }
  }
  LPF_DEVICE void set(std::int64_t i, std::int64_t value) const {
    switch (type) {
      case DType::bool_: static_cast<std::uint8_t*>(data)[i] = value != 0; break;
      case DType::uint8: static_cast<std::uint8_t*>(data)[i] = static_cast<std::uint8_t>(value); break;
      case DType::int32: static_cast<std::int32_t*>(data)[i] = static_cast<std::int32_t>(value); break;
      default: static_cast<std::int64_t*>(data)[i] = value;
    }
  }
};

/// Calls f(T{}) with the T whose Elements read and write `type`.
template <class F>
void visit_arithmetic(DType type, F f) {
  switch (type) {
    case DType::float32: return f(float{});
    case DType::float64: return f(double{});
    case DType::bfloat16: return f(BFloat16{});
    default: return f(std::int64_t{});
  }
}

/// Calls f(T{}) with T float, double or BFloat16; DTypeError naming `operation` for any other dtype.
template <class F>
void visit_real(const char* operation, DType type, F f) {
  if (type == DType::bfloat16) return f(BFloat16{});
  visit_floating(operation, type, f);
}

/// Calls f(T{}) with an integer of the element's size, for operations that only copy bits.
template <class F>
void visit_bits(DType type, F f) {
  switch (size_of(type)) {
    case 1: return f(std::uint8_t{});
    case 2: return f(std::uint16_t{});
    case 4: return f(std::uint32_t{});
    default: return f(std::uint64_t{});
  }
}

/// A number in the type in which elements of T are computed.
template <class T>
Computed<T> number_as(double v) {
  if constexpr (std::is_integral_v<T>) {
    return lpf::detail::saturated<T>(v);
  } else {
    return static_cast<Computed<T>>(v);
  }
}

}  // namespace lpf::cuda
