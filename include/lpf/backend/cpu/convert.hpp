// Moving elements without arithmetic: fill, conversion between dtypes, strided
// copies, and selection by a condition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "lpf/backend/contract.hpp"
#include "lpf/backend/cpu/isa.hpp"
#include "lpf/backend/cpu/strided.hpp"
#include "lpf/backend/cpu/typed.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline constexpr std::int64_t elementwise_grain = 16384;

/// n contiguous elements as a view.
inline View flat(void* data, DType type, std::int64_t n) { return {data, type, 1, {n}, {1}}; }

/// A number converted to an element; whole numbers wrap, so that −1 becomes the largest unsigned value, as in
/// C.
template <class T>
T number_as(double v) {
  if constexpr (std::is_same_v<T, bool>) {
    return v != 0;
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(lpf::detail::saturated<std::int64_t>(v));
  } else {
    return static_cast<T>(v);
  }
}

inline void fill(void* y, DType type, std::int64_t n, double value) {
  visit(type, [&](auto zero) {
    using T = decltype(zero);
    T* to = static_cast<T*>(y);
    if (n > 0 && value == 0 && !std::signbit(value)) {
      std::memset(y, 0, static_cast<std::size_t>(n) * sizeof(T));
    } else {
      std::fill(to, to + n, number_as<T>(value));
    }
  });
}

inline std::byte* byte_at(const View& v, std::int64_t element) {
  return static_cast<std::byte*>(v.data) + element * static_cast<std::int64_t>(size_of(v.dtype));
}

/// to[i·step_to] = from[i·step_from], with the conversions of C++; to bool: x != 0. Integers wrap; of a
/// floating number that an integer type does not have, the nearest one that it has (saturated()).
using ConvertLoop = void (*)(std::int64_t n, const void* from, std::int64_t step_from, void* to,
                             std::int64_t step_to);

template <class R, class T>
void convert_loop(std::int64_t n, const void* from, std::int64_t step_from, void* to, std::int64_t step_to) {
  const T* x = static_cast<const T*>(from);
  R* y = static_cast<R*>(to);
  for (std::int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<R, bool>) {
      y[i * step_to] = x[i * step_from] != T(0);
    } else if constexpr (std::is_integral_v<R> && std::is_same_v<T, double>) {
      y[i * step_to] = lpf::detail::saturated<R>(x[i * step_from]);
    } else {
      y[i * step_to] = static_cast<R>(x[i * step_from]);
    }
  }
}

/// y = x, converted. A conversion goes through the widest type of x's kind, double or int64, which holds
/// every value of the others: two loops per type instead of one per pair.
inline void assign(const View& y, const View& x) {
  ConvertLoop widen = nullptr, narrow = nullptr;
  if (y.dtype == x.dtype) {  // copies bits
    const std::size_t size = size_of(y.dtype);
    narrow = size == 1   ? convert_loop<std::uint8_t, std::uint8_t>
             : size == 2 ? convert_loop<std::uint16_t, std::uint16_t>
             : size == 4 ? convert_loop<std::uint32_t, std::uint32_t>
                         : convert_loop<std::uint64_t, std::uint64_t>;
  } else {
    const auto through = [&](auto w) {
      using W = decltype(w);
      visit(x.dtype, [&](auto t) {
        if constexpr (std::is_floating_point_v<W> == is_floating(dtype_of<decltype(t)>()))
          widen = convert_loop<W, decltype(t)>;
      });
      visit(y.dtype, [&](auto r) { narrow = convert_loop<decltype(r), W>; });
    };
    is_floating(x.dtype) ? through(double{}) : through(std::int64_t{});
  }
  const Loop loop({&y, &x});
  auto row = [&](const std::int64_t* at, std::int64_t n) {
    const std::int64_t sy = loop.inner_stride(0), sx = loop.inner_stride(1);
    if (widen) {
      constexpr std::int64_t piece = 256;
      std::uint64_t buffer[piece];
      for (std::int64_t i = 0; i < n; i += piece) {
        const std::int64_t m = std::min(piece, n - i);
        widen(m, byte_at(x, at[1] + i * sx), sx, buffer, 1);
        narrow(m, buffer, 1, byte_at(y, at[0] + i * sy), sy);
      }
    } else if (sy == 1 && sx == 1) {
      std::memcpy(byte_at(y, at[0]), byte_at(x, at[1]), static_cast<std::size_t>(n) * size_of(y.dtype));
    } else {
      narrow(n, byte_at(x, at[1]), sx, byte_at(y, at[0]), sy);
    }
  };
  loop.run(elementwise_grain, row);
}

/// Elements of a narrower type, converted to int64.
inline std::vector<std::int64_t> widened(const View& x) {
  View compact = x;
  std::int64_t n = 1;
  for (int i = x.rank; i-- > 0;) {
    compact.stride[i] = n;
    n *= x.shape[i];
  }
  std::vector<std::int64_t> out(static_cast<std::size_t>(n));
  compact.data = out.data();
  compact.dtype = DType::int64;
  if (n > 0) assign(compact, x);
  return out;
}

/// to[i] = condition[i·sc] ? a[i·sa] : b[i·sb], for elements of one size: copies bits.
template <class Bits>
void select(std::int64_t n, const void* condition, std::int64_t sc, const void* a, std::int64_t sa,
            const void* b, std::int64_t sb, void* to) {
  const bool* c = static_cast<const bool*>(condition);
  const Bits *u = static_cast<const Bits*>(a), *v = static_cast<const Bits*>(b);
  Bits* y = static_cast<Bits*>(to);
  for (std::int64_t i = 0; i < n; ++i) y[i] = c[i * sc] ? u[i * sa] : v[i * sb];
}

inline void where(const View& condition, const View& a, const View& b, const View& y) {
  if (y.dtype == DType::bfloat16) no_kernel(y.dtype);
  const Loop loop({&y, &condition, &a, &b});
  const std::size_t size = size_of(y.dtype);
  const auto inner = size == 1   ? select<std::uint8_t>
                     : size == 4 ? select<std::uint32_t>
                                 : select<std::uint64_t>;
  auto row = [&](const std::int64_t* at, std::int64_t n) {
    inner(n, byte_at(condition, at[1]), loop.inner_stride(1), byte_at(a, at[2]), loop.inner_stride(2),
          byte_at(b, at[3]), loop.inner_stride(3), byte_at(y, at[0]));
  };
  loop.run(elementwise_grain, row);
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
