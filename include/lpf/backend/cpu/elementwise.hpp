// Elementwise arithmetic. An operation is a stateless functor; an inner loop is instantiated from it
// for each element type, and one driver, compiled once, iterates over memory and threads. The
// compiler vectorises the loops.
#pragma once

#include <cmath>
#include <vector>

#include "lpf/backend/contract.hpp"
#include "lpf/backend/cpu/convert.hpp"
#include "lpf/backend/cpu/isa.hpp"
#include "lpf/backend/cpu/square_roots.hpp"
#include "lpf/backend/cpu/strided.hpp"
#include "lpf/backend/cpu/typed.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// Arithmetic is compiled for float, double and int64; narrower integers and bool are computed in int64.
inline bool is_narrow(DType t) { return t == DType::bool_ || t == DType::uint8 || t == DType::int32; }

// --- one operand

/// y[0 … n) = f(x[0 … n); a, b).
using UnaryLoop = void (*)(std::int64_t n, const void* x, void* y, double a, double b);

template <class T, class R, class F>
void unary_loop(std::int64_t n, const void* x, void* y, double a, double b) {
  const T* from = static_cast<const T*>(x);
  R* to = static_cast<R*>(y);
  const T ta = number_as<T>(a), tb = number_as<T>(b);
  LPF_SIMD
  for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<R>(F{}(from[i], ta, tb));
}
template <class T, class R = T, class F>
UnaryLoop loop_of(F) {
  return unary_loop<T, R, F>;
}

template <class T>
T sigmoid_of(T x) {
  return T(1) / (T(1) + std::exp(-x));
}
template <class T>
T normal_cdf(T x) {
  return T(0.5) * std::erfc(-x * T(0.70710678118654752440));
}
inline constexpr double gelu_c = 0.79788456080286535588, gelu_k = 0.044715;  // √(2/π), Hendrycks & Gimpel

/// Beyond ±far, silu and gelu are x or 0, and their slopes 1 or 0, in every type. x is limited to it where
/// the formula would have 0·∞, which is NaN; a NaN stays.
inline constexpr double far = 1e4;
template <class T>
T within_reach(T x) {
  return std::min(std::max(x, T(-far)), T(far));
}

template <class T>
UnaryLoop floating_loop(Unary op) {
  switch (op) {
    case Unary::sqrt:
      return [](std::int64_t n, const void* x, void* y, double, double) {
        square_roots(n, static_cast<const T*>(x), static_cast<T*>(y));
      };
    case Unary::rsqrt:
      return [](std::int64_t n, const void* x, void* y, double, double) {
        T* to = static_cast<T*>(y);
        square_roots(n, static_cast<const T*>(x), to);
        LPF_SIMD
        for (std::int64_t i = 0; i < n; ++i) to[i] = T(1) / to[i];
      };
    case Unary::reciprocal: return loop_of<T>([](T v, T, T) { return T(1) / v; });
    case Unary::exp: return loop_of<T>([](T v, T, T) { return std::exp(v); });
    case Unary::expm1: return loop_of<T>([](T v, T, T) { return std::expm1(v); });
    case Unary::log: return loop_of<T>([](T v, T, T) { return std::log(v); });
    case Unary::log1p: return loop_of<T>([](T v, T, T) { return std::log1p(v); });
    case Unary::sin: return loop_of<T>([](T v, T, T) { return std::sin(v); });
    case Unary::cos: return loop_of<T>([](T v, T, T) { return std::cos(v); });
    case Unary::tanh: return loop_of<T>([](T v, T, T) { return std::tanh(v); });
    case Unary::sigmoid: return loop_of<T>([](T v, T, T) { return sigmoid_of(v); });
    case Unary::erf: return loop_of<T>([](T v, T, T) { return std::erf(v); });
    case Unary::power: return loop_of<T>([](T v, T a, T) { return std::pow(v, a); });
    case Unary::clamp: return loop_of<T>([](T v, T a, T b) { return v < a ? a : (v > b ? b : v); });
    case Unary::floor: return loop_of<T>([](T v, T, T) { return std::floor(v); });
    case Unary::ceil: return loop_of<T>([](T v, T, T) { return std::ceil(v); });
    case Unary::round: return loop_of<T>([](T v, T, T) { return std::nearbyint(v); });
    case Unary::relu: return loop_of<T>([](T v, T, T) { return v < T(0) ? T(0) : v; });
    case Unary::leaky_relu: return loop_of<T>([](T v, T a, T) { return v > T(0) ? v : a * v; });
    case Unary::elu: return loop_of<T>([](T v, T a, T) { return v > T(0) ? v : a * std::expm1(v); });
    case Unary::gelu: return loop_of<T>([](T v, T, T) { return std::max(v, T(-far)) * normal_cdf(v); });
    case Unary::gelu_tanh:
      return loop_of<T>([](T v, T, T) {
        const T t = std::tanh(T(gelu_c) * (v + T(gelu_k) * v * v * v));
        return T(0.5) * std::max(v, T(-far)) * (T(1) + t);
      });
    case Unary::silu: return loop_of<T>([](T v, T, T) { return std::max(v, T(-far)) * sigmoid_of(v); });
    case Unary::softplus:
      return loop_of<T>([](T v, T, T) { return std::max(v, T(0)) + std::log1p(std::exp(-std::abs(v))); });
    case Unary::is_finite: return loop_of<T, bool>([](T v, T, T) { return v - v == T(0); });
    case Unary::is_nan: return loop_of<T, bool>([](T v, T, T) { return v != v; });
    default: return nullptr;
  }
}

using lpf::detail::wrapping_add, lpf::detail::wrapping_multiply, lpf::detail::wrapping_subtract;

template <class T>
T negative_of(T v) {
  if constexpr (std::is_floating_point_v<T>) return -v;
  return wrapping_subtract(T(0), v);
}
/// |v|, of −0 too 0; of the least integer itself, whose absolute value the type does not have.
template <class T>
T absolute_of(T v) {
  if constexpr (std::is_floating_point_v<T>) return std::abs(v);
  return v < T(0) ? negative_of(v) : v;
}

template <class T>
UnaryLoop unary_loop_of(Unary op) {
  switch (op) {
    case Unary::affine:
      return loop_of<T>([](T v, T a, T b) { return wrapping_add(wrapping_multiply(a, v), b); });
    case Unary::negative: return loop_of<T>([](T v, T, T) { return negative_of(v); });
    case Unary::absolute: return loop_of<T>([](T v, T, T) { return absolute_of(v); });
    case Unary::sign: return loop_of<T>([](T v, T, T) { return static_cast<T>((T(0) < v) - (v < T(0))); });
    case Unary::square: return loop_of<T>([](T v, T, T) { return wrapping_multiply(v, v); });
    case Unary::logical_not: return loop_of<T, bool>([](T v, T, T) { return v == T(0); });
    default: break;
  }
  if constexpr (std::is_floating_point_v<T>) {
    return floating_loop<T>(op);
  } else {  // integers are finite
    return op == Unary::is_finite ? loop_of<T, bool>([](T, T, T) { return true; })
                                  : loop_of<T, bool>([](T, T, T) { return false; });
  }
}

/// True if the operation writes bool.
inline bool is_test(Unary op) {
  return op == Unary::logical_not || op == Unary::is_finite || op == Unary::is_nan;
}

inline bool is_test(Binary op) { return op >= Binary::equal && op <= Binary::logical_xor; }

inline void unary_with(UnaryLoop loop, Unary op, DType type, std::int64_t n, const void* x, void* y, double a,
                       double b) {
  const std::size_t step_x = size_of(type), step_y = is_test(op) ? 1 : step_x;
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    const auto i = static_cast<std::size_t>(begin);
    loop(end - begin, static_cast<const std::byte*>(x) + i * step_x, static_cast<std::byte*>(y) + i * step_y,
         a, b);
  });
}
template <class T>
void unary(Unary op, DType type, std::int64_t n, const void* x, void* y, double a, double b) {
  unary_with(unary_loop_of<T>(op), op, type, n, x, y, a, b);
}
inline void narrow_unary(Unary op, DType type, std::int64_t n, const void* x, void* y, double a, double b) {
  std::vector<std::int64_t> wide = widened(flat(const_cast<void*>(x), type, n));
  unary<std::int64_t>(op, DType::int64, n, wide.data(), is_test(op) ? y : wide.data(), a, b);
  if (!is_test(op) && n > 0) assign(flat(y, type, n), flat(wide.data(), DType::int64, n));
}

// --- two operands, broadcast

/// y[0 … n) = f(a[0 … n), b[0 … n); alpha).
using BinaryLoop = void (*)(std::int64_t n, const void* a, const void* b, void* y, double alpha);

template <class T, class R, class F>
void binary_loop(std::int64_t n, const void* a, const void* b, void* y, double alpha) {
  const T* u = static_cast<const T*>(a);
  const T* v = static_cast<const T*>(b);
  R* to = static_cast<R*>(y);
  const T s = number_as<T>(alpha);
  LPF_SIMD
  for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<R>(F{}(u[i], v[i], s));
}
template <class T, class R = T, class F>
BinaryLoop zip_of(F) {
  return binary_loop<T, R, F>;
}

template <class T>
BinaryLoop floating_zip(Binary op) {
  switch (op) {
    case Binary::divide: return zip_of<T>([](T u, T v, T) { return u / v; });
    case Binary::power: return zip_of<T>([](T u, T v, T) { return std::pow(u, v); });
    case Binary::relu_backward: return zip_of<T>([](T g, T x, T) { return x <= T(0) ? T(0) : g; });
    case Binary::leaky_relu_backward: return zip_of<T>([](T g, T x, T s) { return x > T(0) ? g : s * g; });
    case Binary::tanh_backward: return zip_of<T>([](T g, T t, T) { return g * (T(1) - t * t); });
    case Binary::sigmoid_backward: return zip_of<T>([](T g, T p, T) { return g * p * (T(1) - p); });
    case Binary::elu_backward:
      return zip_of<T>([](T g, T x, T s) { return x <= T(0) ? g * s * std::exp(x) : g; });
    case Binary::silu_backward:
      return zip_of<T>([](T g, T x, T) {
        const T p = sigmoid_of(x);
        return g * p * (T(1) + within_reach(x) * (T(1) - p));
      });
    case Binary::gelu_backward:
      return zip_of<T>([](T g, T x, T) {
        return g * (normal_cdf(x) + within_reach(x) * T(0.39894228040143267794) * std::exp(T(-0.5) * x * x));
      });
    case Binary::gelu_tanh_backward:
      return zip_of<T>([](T g, T input, T) {
        const T x = within_reach(input);
        const T t = std::tanh(T(gelu_c) * (x + T(gelu_k) * x * x * x));
        const T slope = T(gelu_c) * (T(1) + T(3 * gelu_k) * x * x);
        return g * T(0.5) * (T(1) + t + x * (T(1) - t * t) * slope);
      });
    default: return nullptr;
  }
}

template <class T>
T remainder_of(T a, T b) {  // the sign of the divisor, as Python's %
  if constexpr (std::is_floating_point_v<T>) {
    const T r = std::fmod(a, b);
    return r != T(0) && (r < T(0)) != (b < T(0)) ? r + b : r;
  } else {
    if (b == T(0)) return T(0);
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return T(0);  // min % -1 overflows
    const auto r = static_cast<T>(a % b);
    return static_cast<T>(r != T(0) && (r < T(0)) != (b < T(0)) ? r + b : r);
  }
}

template <class T>
BinaryLoop zip_loop_of(Binary op) {
  switch (op) {
    case Binary::add: return zip_of<T>([](T u, T v, T) { return wrapping_add(u, v); });
    case Binary::subtract: return zip_of<T>([](T u, T v, T) { return wrapping_subtract(u, v); });
    case Binary::multiply: return zip_of<T>([](T u, T v, T) { return wrapping_multiply(u, v); });
    case Binary::maximum:
      return zip_of<T>([](T u, T v, T) { return u < v || v != v ? v : u; });  // NaN propagates
    case Binary::minimum: return zip_of<T>([](T u, T v, T) { return v < u || v != v ? v : u; });
    case Binary::remainder: return zip_of<T>([](T u, T v, T) { return remainder_of(u, v); });
    case Binary::equal: return zip_of<T, bool>([](T u, T v, T) { return u == v; });
    case Binary::not_equal: return zip_of<T, bool>([](T u, T v, T) { return u != v; });
    case Binary::less: return zip_of<T, bool>([](T u, T v, T) { return u < v; });
    case Binary::less_equal: return zip_of<T, bool>([](T u, T v, T) { return u <= v; });
    case Binary::greater: return zip_of<T, bool>([](T u, T v, T) { return u > v; });
    case Binary::greater_equal: return zip_of<T, bool>([](T u, T v, T) { return u >= v; });
    case Binary::logical_and: return zip_of<T, bool>([](T u, T v, T) { return u != T(0) && v != T(0); });
    case Binary::logical_or: return zip_of<T, bool>([](T u, T v, T) { return u != T(0) || v != T(0); });
    case Binary::logical_xor: return zip_of<T, bool>([](T u, T v, T) { return (u != T(0)) != (v != T(0)); });
    default: break;
  }
  if constexpr (std::is_floating_point_v<T>) return floating_zip<T>(op);
  return nullptr;
}

/// to[i] = from[i·stride]: makes strided and broadcast operands contiguous, in pieces that fit the cache.
template <class Bits>
void pack(std::int64_t n, const void* from, std::int64_t stride, void* to) {
  const Bits* x = static_cast<const Bits*>(from);
  Bits* y = static_cast<Bits*>(to);
  if (stride == 0) return std::fill(y, y + n, *x), void();
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i * stride];
}

inline void binary_with(BinaryLoop inner, const View& a, const View& b, const View& y, double alpha) {
  const Loop loop({&y, &a, &b});
  const std::size_t size = size_of(a.dtype), size_y = size_of(y.dtype);
  const auto pack_piece = size == 4 ? pack<std::uint32_t> : pack<std::uint64_t>;
  auto row = [&](const std::int64_t* at, std::int64_t n) {
    const std::byte *u = byte_at(a, at[1]), *v = byte_at(b, at[2]);
    std::byte* to = byte_at(y, at[0]);
    const std::int64_t su = loop.inner_stride(1), sv = loop.inner_stride(2);
    if (su == 1 && sv == 1) return inner(n, u, v, to, alpha);
    constexpr std::int64_t piece = 512;
    alignas(64) std::uint64_t buffer[2][piece];
    for (std::int64_t i = 0; i < n; i += piece) {
      const std::int64_t m = std::min(piece, n - i);
      const auto contiguous = [&](const std::byte* x, std::int64_t stride,
                                  std::uint64_t* space) -> const void* {
        if (stride == 1) return x + static_cast<std::size_t>(i) * size;
        if (stride != 0 || i == 0)
          pack_piece(m, x + static_cast<std::size_t>(i * stride) * size, stride, space);
        return space;
      };
      inner(m, contiguous(u, su, buffer[0]), contiguous(v, sv, buffer[1]),
            to + static_cast<std::size_t>(i) * size_y, alpha);
    }
  };
  loop.run(elementwise_grain, row);
}
template <class T>
void binary(Binary op, const View& a, const View& b, const View& y, double alpha) {
  binary_with(zip_loop_of<T>(op), a, b, y, alpha);
}
inline void narrow_binary(Binary op, const View& a, const View& b, const View& y, double alpha) {
  const auto compact = [&](std::vector<std::int64_t>& values) {  // y's shape and strides
    View v = y;
    v.data = values.data();
    v.dtype = DType::int64;
    return v;
  };
  std::vector<std::int64_t> u = widened(a), v = widened(b);
  if (is_test(op)) return binary<std::int64_t>(op, compact(u), compact(v), y, alpha);
  binary<std::int64_t>(op, compact(u), compact(v), compact(u), alpha);
  assign(y, compact(u));
}

template <class T>
void accumulate(DType, std::int64_t n, double a, const void* x, void* y) {
  const T* from = static_cast<const T*>(x);
  T* to = static_cast<T*>(y);
  const T factor = number_as<T>(a);
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    LPF_SIMD
    for (std::int64_t i = begin; i < end; ++i)
      to[i] = wrapping_add(to[i], wrapping_multiply(factor, from[i]));
  });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
