// Element types. A tensor's dtype is a run-time value; kernels are templates, selected by visit().
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "lpf/core/bfloat16.hpp"
#include "lpf/core/error.hpp"

namespace lpf {

/// Element type of a tensor. float32 is the default; float64 is complete on the CPU; integers are for labels
/// and tokens; bfloat16 is stored and converted everywhere, and computed with on CUDA, under autocast().
enum class DType : std::uint8_t { bool_, uint8, int32, int64, float32, float64, bfloat16 };

inline constexpr DType float32 = DType::float32;
inline constexpr DType float64 = DType::float64;
inline constexpr DType bfloat16 = DType::bfloat16;
inline constexpr DType int32 = DType::int32;
inline constexpr DType int64 = DType::int64;
inline constexpr DType uint8 = DType::uint8;

constexpr std::size_t size_of(DType t) {
  switch (t) {
    case DType::bool_:
    case DType::uint8: return 1;
    case DType::bfloat16: return 2;
    case DType::int32:
    case DType::float32: return 4;
    case DType::int64:
    case DType::float64: return 8;
  }
  return 0;
}

constexpr bool is_floating(DType t) {
  return t == DType::float32 || t == DType::float64 || t == DType::bfloat16;
}

constexpr const char* name_of(DType t) {
  switch (t) {
    case DType::bool_: return "bool";
    case DType::uint8: return "uint8";
    case DType::int32: return "int32";
    case DType::int64: return "int64";
    case DType::float32: return "float32";
    case DType::float64: return "float64";
    case DType::bfloat16: return "bfloat16";
  }
  return "?";
}

/// The DType of a C++ element type.
template <class T>
constexpr DType dtype_of() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, bool>) return DType::bool_;
  if constexpr (std::is_same_v<U, std::uint8_t>) return DType::uint8;
  if constexpr (std::is_same_v<U, float>) return DType::float32;
  if constexpr (std::is_same_v<U, double>) return DType::float64;
  if constexpr (std::is_same_v<U, BFloat16>) return DType::bfloat16;
  if constexpr (std::is_integral_v<U> && std::is_signed_v<U> && sizeof(U) == 4) return DType::int32;
  if constexpr (std::is_integral_v<U> && std::is_signed_v<U> && sizeof(U) == 8) return DType::int64;
}

/// Calls f(T{}) with T the C++ type of the dtype.
template <class F>
decltype(auto) visit(DType t, F&& f) {
  switch (t) {
    case DType::bool_: return f(bool{});
    case DType::uint8: return f(std::uint8_t{});
    case DType::int32: return f(std::int32_t{});
    case DType::int64: return f(std::int64_t{});
    case DType::float32: return f(float{});
    case DType::bfloat16: return f(BFloat16{});
    default: return f(double{});
  }
}

namespace detail {
[[noreturn, gnu::cold, gnu::noinline]] inline void refuse_dtype(const char* operation, DType t) {
  fail<DTypeError>(operation, "needs float32 or float64, got ", name_of(t), ": convert with .to(float32)");
}
}  // namespace detail

/// Calls f(T{}) with T float or double; DTypeError naming `operation` for any other dtype.
template <class F>
decltype(auto) visit_floating(const char* operation, DType t, F&& f) {
  if (t != DType::float32 && t != DType::float64) detail::refuse_dtype(operation, t);
  if (t == DType::float32) return f(float{});
  return f(double{});
}

}  // namespace lpf
