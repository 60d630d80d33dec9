// Elementwise kernels. Each operation is a small functor; loops over contiguous memory are left to the
// vectoriser.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "lpf/backend/contract.hpp"
#include "lpf/backend/cpu/isa.hpp"
#include "lpf/backend/cpu/parallel.hpp"
#include "lpf/backend/cpu/strided.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline constexpr std::int64_t elementwise_grain = 16384;

template <class T>
void fill_as(T* y, std::int64_t n, T value) {
  parallel_for(n, elementwise_grain,
               [&](std::int64_t i, std::int64_t end) { std::fill(y + i, y + end, value); });
}
inline void fill(void* y, DType type, std::int64_t n, double value) {
  visit(type,
        [&](auto zero) { fill_as(static_cast<decltype(zero)*>(y), n, static_cast<decltype(zero)>(value)); });
}

template <class T, class R, class F>
void map(std::int64_t n, const void* x, void* y, F f) {
  const T* from = static_cast<const T*>(x);
  R* to = static_cast<R*>(y);
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) to[i] = static_cast<R>(f(from[i]));
  });
}

template <class T>
T sigmoid_of(T x) {
  return T(1) / (T(1) + std::exp(-x));
}
template <class T>
T softplus_of(T x) {
  return std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x)));
}
template <class T>
T normal_cdf(T x) {
  return T(0.5) * std::erfc(-x * T(0.70710678118654752440));
}
inline constexpr double gelu_c = 0.79788456080286535588, gelu_k = 0.044715;  // √(2/π), Hendrycks & Gimpel

template <class T>
void unary_floating(Unary op, std::int64_t n, const void* x, void* y, T a, T b) {
  switch (op) {
    case Unary::sqrt:
      return map<T, T>(n, x, y, [](T v) { return std::sqrt(v); });
    case Unary::rsqrt:
      return map<T, T>(n, x, y, [](T v) { return T(1) / std::sqrt(v); });
    case Unary::reciprocal:
      return map<T, T>(n, x, y, [](T v) { return T(1) / v; });
    case Unary::exp:
      return map<T, T>(n, x, y, [](T v) { return std::exp(v); });
    case Unary::expm1:
      return map<T, T>(n, x, y, [](T v) { return std::expm1(v); });
    case Unary::log:
      return map<T, T>(n, x, y, [](T v) { return std::log(v); });
    case Unary::log1p:
      return map<T, T>(n, x, y, [](T v) { return std::log1p(v); });
    case Unary::sin:
      return map<T, T>(n, x, y, [](T v) { return std::sin(v); });
    case Unary::cos:
      return map<T, T>(n, x, y, [](T v) { return std::cos(v); });
    case Unary::tanh:
      return map<T, T>(n, x, y, [](T v) { return std::tanh(v); });
    case Unary::sigmoid:
      return map<T, T>(n, x, y, [](T v) { return sigmoid_of(v); });
    case Unary::erf:
      return map<T, T>(n, x, y, [](T v) { return std::erf(v); });
    case Unary::power:
      return map<T, T>(n, x, y, [a](T v) { return std::pow(v, a); });
    case Unary::clamp:
      return map<T, T>(n, x, y, [a, b](T v) { return v < a ? a : (v > b ? b : v); });
    case Unary::floor:
      return map<T, T>(n, x, y, [](T v) { return std::floor(v); });
    case Unary::ceil:
      return map<T, T>(n, x, y, [](T v) { return std::ceil(v); });
    case Unary::round:
      return map<T, T>(n, x, y, [](T v) { return std::nearbyint(v); });
    case Unary::relu:
      return map<T, T>(n, x, y, [](T v) { return v < T(0) ? T(0) : v; });
    case Unary::leaky_relu:
      return map<T, T>(n, x, y, [a](T v) { return v > T(0) ? v : a * v; });
    case Unary::elu:
      return map<T, T>(n, x, y, [a](T v) { return v > T(0) ? v : a * std::expm1(v); });
    case Unary::gelu:
      return map<T, T>(n, x, y, [](T v) { return v * normal_cdf(v); });
    case Unary::gelu_tanh:
      return map<T, T>(n, x, y, [](T v) {
        return T(0.5) * v * (T(1) + std::tanh(T(gelu_c) * (v + T(gelu_k) * v * v * v)));
      });
    case Unary::silu:
      return map<T, T>(n, x, y, [](T v) { return v * sigmoid_of(v); });
    case Unary::softplus:
      return map<T, T>(n, x, y, [](T v) { return softplus_of(v); });
    default:
      return;
  }
}

template <class T>
void unary_any(Unary op, std::int64_t n, const void* x, void* y, double a, double b) {
  const T ta = static_cast<T>(a), tb = static_cast<T>(b);
  switch (op) {
    case Unary::affine:
      return map<T, T>(n, x, y, [ta, tb](T v) { return static_cast<T>(ta * v + tb); });
    case Unary::negative:
      return map<T, T>(n, x, y, [](T v) { return static_cast<T>(-v); });
    case Unary::absolute:
      return map<T, T>(n, x, y, [](T v) { return v < T(0) ? static_cast<T>(-v) : v; });
    case Unary::sign:
      return map<T, T>(n, x, y, [](T v) { return static_cast<T>((T(0) < v) - (v < T(0))); });
    case Unary::square:
      return map<T, T>(n, x, y, [](T v) { return static_cast<T>(v * v); });
    case Unary::logical_not:
      return map<T, bool>(n, x, y, [](T v) { return !v; });
    default:
      if constexpr (std::is_floating_point_v<T>) {
        if (op == Unary::is_finite) return map<T, bool>(n, x, y, [](T v) { return v - v == T(0); });
        if (op == Unary::is_nan) return map<T, bool>(n, x, y, [](T v) { return v != v; });
        return unary_floating<T>(op, n, x, y, ta, tb);
      } else {
        return fill_as(static_cast<bool*>(y), n, op == Unary::is_finite);
      }
  }
}
inline void unary(Unary op, DType type, std::int64_t n, const void* x, void* y, double a, double b) {
  if (type == DType::bool_)
    return map<bool, bool>(n, x, y, [op](bool v) { return op == Unary::logical_not ? !v : v; });
  visit(type, [&](auto zero) {
    if constexpr (!std::is_same_v<decltype(zero), bool>) unary_any<decltype(zero)>(op, n, x, y, a, b);
  });
}

/// y = f(a, b) with broadcasting: the innermost axis in a loop by the operands' strides, the others counted.
template <class T, class R, class F>
void zip(const View& a, const View& b, const View& y, F f) {
  const Loop<3> loop({&y, &a, &b});
  R* py = static_cast<R*>(y.data);
  const T* pa = static_cast<const T*>(a.data);
  const T* pb = static_cast<const T*>(b.data);
  loop.run(elementwise_grain, [&](const std::array<std::int64_t, 3>& at, std::int64_t n) {
    R* to = py + at[0];
    const T* u = pa + at[1];
    const T* v = pb + at[2];
    const std::int64_t sa = loop.inner_stride(1), sb = loop.inner_stride(2);
    if (sa == 1 && sb == 1) {
#pragma omp simd
      for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<R>(f(u[i], v[i]));
    } else if (sa == 1 && sb == 0) {
      const T w = *v;
#pragma omp simd
      for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<R>(f(u[i], w));
    } else {
      for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<R>(f(u[i * sa], v[i * sb]));
    }
  });
}

template <class T>
bool binary_backward(Binary op, const View& a, const View& b, const View& y, T alpha) {
  switch (op) {
    case Binary::relu_backward:
      return zip<T, T>(a, b, y, [](T g, T x) { return x > T(0) ? g : T(0); }), true;
    case Binary::leaky_relu_backward:
      return zip<T, T>(a, b, y, [alpha](T g, T x) { return x > T(0) ? g : alpha * g; }), true;
    case Binary::tanh_backward:
      return zip<T, T>(a, b, y, [](T g, T t) { return g * (T(1) - t * t); }), true;
    case Binary::sigmoid_backward:
      return zip<T, T>(a, b, y, [](T g, T s) { return g * s * (T(1) - s); }), true;
    case Binary::elu_backward:
      return zip<T, T>(a, b, y, [alpha](T g, T x) { return x > T(0) ? g : g * alpha * std::exp(x); }), true;
    case Binary::silu_backward:
      return zip<T, T>(a, b, y,
                       [](T g, T x) {
                         const T s = sigmoid_of(x);
                         return g * s * (T(1) + x * (T(1) - s));
                       }),
             true;
    case Binary::gelu_backward:
      return zip<T, T>(a, b, y,
                       [](T g, T x) {
                         return g *
                                (normal_cdf(x) + x * T(0.39894228040143267794) * std::exp(T(-0.5) * x * x));
                       }),
             true;
    case Binary::gelu_tanh_backward:
      return zip<T, T>(a, b, y,
                       [](T g, T x) {
                         const T t = std::tanh(T(gelu_c) * (x + T(gelu_k) * x * x * x));
                         const T slope = T(gelu_c) * (T(1) + T(3 * gelu_k) * x * x);
                         return g * T(0.5) * (T(1) + t + x * (T(1) - t * t) * slope);
                       }),
             true;
    default:
      return false;
  }
}

template <class T>
T remainder_of(T a, T b) {  // the sign of the divisor, as Python's %
  if constexpr (std::is_floating_point_v<T>) {
    const T r = std::fmod(a, b);
    return r != T(0) && (r < T(0)) != (b < T(0)) ? r + b : r;
  } else {
    if (b == T(0)) return T(0);
    const auto r = static_cast<T>(a % b);
    return static_cast<T>(r != T(0) && (r < T(0)) != (b < T(0)) ? r + b : r);
  }
}

template <class T>
void binary_any(Binary op, const View& a, const View& b, const View& y, double alpha) {
  switch (op) {
    case Binary::add:
      return zip<T, T>(a, b, y, [](T u, T v) { return u + v; });
    case Binary::subtract:
      return zip<T, T>(a, b, y, [](T u, T v) { return u - v; });
    case Binary::multiply:
      return zip<T, T>(a, b, y, [](T u, T v) { return u * v; });
    case Binary::maximum:
      return zip<T, T>(a, b, y, [](T u, T v) { return u < v ? v : u; });
    case Binary::minimum:
      return zip<T, T>(a, b, y, [](T u, T v) { return v < u ? v : u; });
    case Binary::remainder:
      return zip<T, T>(a, b, y, [](T u, T v) { return remainder_of(u, v); });
    case Binary::equal:
      return zip<T, bool>(a, b, y, [](T u, T v) { return u == v; });
    case Binary::not_equal:
      return zip<T, bool>(a, b, y, [](T u, T v) { return u != v; });
    case Binary::less:
      return zip<T, bool>(a, b, y, [](T u, T v) { return u < v; });
    case Binary::less_equal:
      return zip<T, bool>(a, b, y, [](T u, T v) { return u <= v; });
    case Binary::greater:
      return zip<T, bool>(a, b, y, [](T u, T v) { return u > v; });
    case Binary::greater_equal:
      return zip<T, bool>(a, b, y, [](T u, T v) { return u >= v; });
    case Binary::logical_and:
      return zip<T, bool>(a, b, y, [](T u, T v) { return u && v; });
    case Binary::logical_or:
      return zip<T, bool>(a, b, y, [](T u, T v) { return u || v; });
    case Binary::logical_xor:
      return zip<T, bool>(a, b, y, [](T u, T v) { return !u != !v; });
    default:
      if constexpr (std::is_floating_point_v<T>) {
        if (op == Binary::divide) return zip<T, T>(a, b, y, [](T u, T v) { return u / v; });
        if (op == Binary::power) return zip<T, T>(a, b, y, [](T u, T v) { return std::pow(u, v); });
        binary_backward<T>(op, a, b, y, static_cast<T>(alpha));
      }
  }
}
inline void binary(Binary op, const View& a, const View& b, const View& y, double alpha) {
  visit(a.dtype, [&](auto zero) { binary_any<decltype(zero)>(op, a, b, y, alpha); });
}

inline void where(const View& condition, const View& a, const View& b, const View& y) {
  const Loop<4> loop({&y, &condition, &a, &b});
  visit(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    loop.run(elementwise_grain, [&](const std::array<std::int64_t, 4>& at, std::int64_t n) {
      T* to = static_cast<T*>(y.data) + at[0];
      const bool* c = static_cast<const bool*>(condition.data) + at[1];
      const T* u = static_cast<const T*>(a.data) + at[2];
      const T* v = static_cast<const T*>(b.data) + at[3];
      for (std::int64_t i = 0; i < n; ++i)
        to[i] = c[i * loop.inner_stride(1)] ? u[i * loop.inner_stride(2)] : v[i * loop.inner_stride(3)];
    });
  });
}

template <class R, class T>
R convert(T value) {
  if constexpr (std::is_same_v<R, bool>)
    return value != T(0);
  else
    return static_cast<R>(value);
}

inline void assign(const View& y, const View& x) {
  const Loop<2> loop({&y, &x});
  visit(y.dtype, [&](auto to_zero) {
    visit(x.dtype, [&](auto from_zero) {
      using R = decltype(to_zero);
      using T = decltype(from_zero);
      loop.run(elementwise_grain, [&](const std::array<std::int64_t, 2>& at, std::int64_t n) {
        R* to = static_cast<R*>(y.data) + at[0];
        const T* from = static_cast<const T*>(x.data) + at[1];
        const std::int64_t sy = loop.inner_stride(0), sx = loop.inner_stride(1);
        if (std::is_same_v<R, T> && sy == 1 && sx == 1) {
          std::memcpy(static_cast<void*>(to), from, static_cast<std::size_t>(n) * sizeof(T));
        } else {
          for (std::int64_t i = 0; i < n; ++i) to[i * sy] = convert<R>(from[i * sx]);
        }
      });
    });
  });
}

inline void accumulate(DType type, std::int64_t n, double a, const void* x, void* y) {
  visit_floating("accumulate", type, [&](auto zero) {
    using T = decltype(zero);
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(y);
    const T factor = static_cast<T>(a);
    parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) to[i] += factor * from[i];
    });
  });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
