// The elementwise functions of the contract, one definition each, for T float, double or int64.
#pragma once

#include <cmath>
#include <type_traits>

#include "launch.hpp"
#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

using backend::Binary;
using backend::Unary;

/// True if the operation writes bool.
constexpr bool is_test(Unary op) {
  return op == Unary::logical_not || op == Unary::is_finite || op == Unary::is_nan;
}
constexpr bool is_test(Binary op) { return op >= Binary::equal && op <= Binary::logical_xor; }

/// True if the operation is defined for integers.
constexpr bool takes_integers(Unary op) {
  return op == Unary::affine || op == Unary::negative || op == Unary::absolute || op == Unary::sign ||
         op == Unary::square || is_test(op);
}
constexpr bool takes_integers(Binary op) {
  return op != Binary::divide && op != Binary::power && op < Binary::relu_backward;
}

using lpf::detail::wrapping_add, lpf::detail::wrapping_multiply, lpf::detail::wrapping_subtract;

template <class T>
LPF_DEVICE T negative_of(T v) {
  if constexpr (std::is_floating_point_v<T>)
    return -v;
  else
    return wrapping_subtract(T(0), v);
}
/// |v|, of −0 too 0; of the least integer itself.
template <class T>
LPF_DEVICE T absolute_of(T v) {
  if constexpr (std::is_floating_point_v<T>)
    return std::abs(v);
  else
    return v < T(0) ? negative_of(v) : v;
}

/// Beyond ±far, silu and gelu are x or 0, and their slopes 1 or 0, in every type. x is limited to it where
/// the formula would have 0·∞, which is NaN; a NaN stays.
inline constexpr double far = 1e4;
template <class T>
LPF_DEVICE T above_reach(T x) {
  return x < T(-far) ? T(-far) : x;
}
template <class T>
LPF_DEVICE T within_reach(T x) {
  return x > T(far) ? T(far) : above_reach(x);
}

template <class T>
LPF_DEVICE T sigmoid_of(T x) {
  return T(1) / (T(1) + std::exp(-x));
}
template <class T>
LPF_DEVICE T normal_cdf(T x) {
  return T(0.5) * std::erfc(-x * T(0.70710678118654752440));
}
template <class T>
LPF_DEVICE T gelu_tanh_inner(T x) {  // √(2/π)(x + 0.044715 x³), Hendrycks and Gimpel
  return std::tanh(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x));
}

template <Unary op, class T>
LPF_DEVICE auto unary_of(T v, [[maybe_unused]] T a, [[maybe_unused]] T b) {
  // clang-format off
  if constexpr (op == Unary::affine) return wrapping_add(wrapping_multiply(a, v), b);
  else if constexpr (op == Unary::negative) return negative_of(v);
  else if constexpr (op == Unary::absolute) return absolute_of(v);
  else if constexpr (op == Unary::sign) return static_cast<T>((T(0) < v) - (v < T(0)));
  else if constexpr (op == Unary::square) return wrapping_multiply(v, v);
  else if constexpr (op == Unary::logical_not) return v == T(0);
  else if constexpr (op == Unary::is_finite) return v - v == T(0);
  else if constexpr (op == Unary::is_nan) return v != v;
  else if constexpr (op == Unary::sqrt) return std::sqrt(v);
  else if constexpr (op == Unary::rsqrt) return T(1) / std::sqrt(v);
  else if constexpr (op == Unary::reciprocal) return T(1) / v;
  else if constexpr (op == Unary::exp) return std::exp(v);
  else if constexpr (op == Unary::expm1) return std::expm1(v);
  else if constexpr (op == Unary::log) return std::log(v);
  else if constexpr (op == Unary::log1p) return std::log1p(v);
  else if constexpr (op == Unary::sin) return std::sin(v);
  else if constexpr (op == Unary::cos) return std::cos(v);
  else if constexpr (op == Unary::tanh) return std::tanh(v);
  else if constexpr (op == Unary::sigmoid) return sigmoid_of(v);
  else if constexpr (op == Unary::erf) return std::erf(v);
  else if constexpr (op == Unary::power) return std::pow(v, a);
  else if constexpr (op == Unary::clamp) return v < a ? a : (v > b ? b : v);
  else if constexpr (op == Unary::floor) return std::floor(v);
  else if constexpr (op == Unary::ceil) return std::ceil(v);
  else if constexpr (op == Unary::round) return std::nearbyint(v);
  else if constexpr (op == Unary::relu) return v < T(0) ? T(0) : v;
  else if constexpr (op == Unary::leaky_relu) return v > T(0) ? v : a * v;
  else if constexpr (op == Unary::elu) return v > T(0) ? v : a * std::expm1(v);
  else if constexpr (op == Unary::gelu) return above_reach(v) * normal_cdf(v);
  else if constexpr (op == Unary::gelu_tanh) return T(0.5) * above_reach(v) * (T(1) + gelu_tanh_inner(v));
  else if constexpr (op == Unary::silu) return above_reach(v) * sigmoid_of(v);
  else {
    static_assert(op == Unary::softplus);
    return (v < T(0) ? T(0) : v) + std::log1p(std::exp(-std::abs(v)));
  }
  // clang-format on
}

/// The sign of the divisor, like Python's %; for integers 0 if the divisor is 0.
template <class T>
LPF_DEVICE T remainder_of(T a, T b) {
  T r;
  if constexpr (std::is_floating_point_v<T>) {
    r = std::fmod(a, b);
  } else {
    r = b == 0 || b == -1 ? 0 : a % b;  // INT64_MIN % -1 overflows
  }
  return r != T(0) && (r < T(0)) != (b < T(0)) ? r + b : r;
}

template <Binary op, class T>
LPF_DEVICE auto binary_of(T u, T v, [[maybe_unused]] T s) {
  // clang-format off
  if constexpr (op == Binary::add) return wrapping_add(u, v);
  else if constexpr (op == Binary::subtract) return wrapping_subtract(u, v);
  else if constexpr (op == Binary::multiply) return wrapping_multiply(u, v);
  else if constexpr (op == Binary::divide) return u / v;
  else if constexpr (op == Binary::power) return std::pow(u, v);
  else if constexpr (op == Binary::maximum) return u < v || v != v ? v : u;  // NaN propagates
  else if constexpr (op == Binary::minimum) return v < u || v != v ? v : u;
  else if constexpr (op == Binary::remainder) return remainder_of(u, v);
  else if constexpr (op == Binary::equal) return u == v;
  else if constexpr (op == Binary::not_equal) return u != v;
  else if constexpr (op == Binary::less) return u < v;
  else if constexpr (op == Binary::less_equal) return u <= v;
  else if constexpr (op == Binary::greater) return u > v;
  else if constexpr (op == Binary::greater_equal) return u >= v;
  else if constexpr (op == Binary::logical_and) return u != T(0) && v != T(0);
  else if constexpr (op == Binary::logical_or) return u != T(0) || v != T(0);
  else if constexpr (op == Binary::logical_xor) return (u != T(0)) != (v != T(0));
  else if constexpr (op == Binary::relu_backward) return v <= T(0) ? T(0) : u;
  else if constexpr (op == Binary::leaky_relu_backward) return v > T(0) ? u : s * u;
  else if constexpr (op == Binary::tanh_backward) return u * (T(1) - v * v);
  else if constexpr (op == Binary::sigmoid_backward) return u * v * (T(1) - v);
  else if constexpr (op == Binary::elu_backward) return v <= T(0) ? u * s * std::exp(v) : u;
  else if constexpr (op == Binary::silu_backward) {
    const T p = sigmoid_of(v);
    return u * p * (T(1) + within_reach(v) * (T(1) - p));
  } else if constexpr (op == Binary::gelu_backward) {
    return u * (normal_cdf(v) + within_reach(v) * T(0.39894228040143267794) * std::exp(T(-0.5) * v * v));
  } else {
    static_assert(op == Binary::gelu_tanh_backward);
    const T x = within_reach(v), t = gelu_tanh_inner(x);
    const T slope = T(0.79788456080286535588) * (T(1) + T(3 * 0.044715) * x * x);
    return u * T(0.5) * (T(1) + t + x * (T(1) - t * t) * slope);
  }
  // clang-format on
}

}  // namespace lpf::cuda
