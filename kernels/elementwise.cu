// Elementwise functions, layout and conversion. One kernel for each function and kind of number; strides,
// broadcasting and narrow integers are looked up by the threads, whose time goes to memory.
#include <bit>
#include <utility>

#include "elements.hpp"
#include "families.hpp"
#include "functions.hpp"
#include "launch.hpp"
#include "strided.hpp"
#include "upload.hpp"

namespace lpf::cuda {
namespace {

using backend::View;

template <class T>
struct Fill {
  T* y;
  T value;
  LPF_DEVICE void operator()(std::int64_t i) const { y[i] = value; }
};
void fill(void* y, DType type, std::int64_t n, double value) {
  const auto put = [&](auto bits) { each(n, Fill<decltype(bits)>{static_cast<decltype(bits)*>(y), bits}); };
  switch (type) {
    case DType::bool_: return put(static_cast<std::uint8_t>(value != 0));
    case DType::uint8: return put(static_cast<std::uint8_t>(static_cast<std::int64_t>(value)));
    case DType::int32: return put(static_cast<std::int32_t>(value));
    case DType::int64: return put(static_cast<std::int64_t>(value));
    case DType::float32: return put(static_cast<float>(value));
    case DType::bfloat16: return put(static_cast<BFloat16>(value));
    default: return put(value);
  }
}

// --- one operand
// ------------------------------------------------------------------------------------------------------

[[noreturn]] void refuse(DType type) {
  fail<DTypeError>("kernel", "needs float32 or float64, got ", name_of(type), ": convert with .to(float32)");
}

template <Unary op, class T>
struct UnaryKernel {
  Elements<T> x;
  Elements<std::conditional_t<is_test(op), bool, T>> y;
  Computed<T> a, b;
  LPF_DEVICE void operator()(std::int64_t i) const { y.set(i, unary_of<op>(x.get(i), a, b)); }
};
template <class T, Unary op>
void unary_one(DType type, std::int64_t n, const void* x, void* y, double a, double b) {
  if constexpr (!std::is_floating_point_v<Computed<T>> && !takes_integers(op))
    refuse(type);
  else
    each(n, UnaryKernel<op, T>{{x, type}, {y, type}, number_as<T>(a), number_as<T>(b)});
}
template <class T, int... ops>
void unary_typed(Unary op, DType type, std::int64_t n, const void* x, void* y, double a, double b,
                 std::integer_sequence<int, ops...>) {
  static constexpr decltype(&unary_one<T, Unary::affine>) functions[] = {unary_one<T, Unary{ops}>...};
  functions[static_cast<int>(op)](type, n, x, y, a, b);
}
void unary(Unary op, DType type, std::int64_t n, const void* x, void* y, double a, double b) {
  visit_arithmetic(type, [&](auto zero) {
    unary_typed<decltype(zero)>(op, type, n, x, y, a, b,
                                std::make_integer_sequence<int, static_cast<int>(Unary::is_nan) + 1>());
  });
}

// --- two operands, broadcast
// -------------------------------------------------------------------------------------------

template <Binary op, class T>
struct BinaryKernel {
  Walk<3> walk;
  Elements<T> a, b;
  Elements<std::conditional_t<is_test(op), bool, T>> y;
  Computed<T> alpha;
  LPF_DEVICE void operator()(std::int64_t i) const {
    std::int64_t at[3];
    walk.find(i, at);
    y.set(at[0], binary_of<op>(a.get(at[1]), b.get(at[2]), alpha));
  }
};
template <class T, Binary op>
void binary_one(const View& a, const View& b, const View& y, double alpha) {
  if constexpr (!std::is_floating_point_v<Computed<T>> && !takes_integers(op)) {
    refuse(a.dtype);
  } else {
    const Walk<3> walk({&y, &a, &b});
    each(walk.size(),
         BinaryKernel<op, T>{
             walk, {a.data, a.dtype}, {b.data, b.dtype}, {y.data, y.dtype}, number_as<T>(alpha)});
  }
}
template <class T, int... ops>
void binary_typed(Binary op, const View& a, const View& b, const View& y, double alpha,
                  std::integer_sequence<int, ops...>) {
  static constexpr decltype(&binary_one<T, Binary::add>) functions[] = {binary_one<T, Binary{ops}>...};
  functions[static_cast<int>(op)](a, b, y, alpha);
}
void binary(Binary op, const View& a, const View& b, const View& y, double alpha) {
  visit_arithmetic(a.dtype, [&](auto zero) {
    binary_typed<decltype(zero)>(
        op, a, b, y, alpha, std::make_integer_sequence<int, static_cast<int>(Binary::elu_backward) + 1>());
  });
}

template <class T>
struct Accumulate {
  Computed<T> a;
  const T* x;
  T* y;
  LPF_DEVICE void operator()(std::int64_t i) const { y[i] = static_cast<T>(y[i] + a * x[i]); }
};
void accumulate(DType type, std::int64_t n, double a, const void* x, void* y) {
  visit_real("accumulate", type, [&](auto zero) {
    using T = decltype(zero);
    each(n, Accumulate<T>{number_as<T>(a), static_cast<const T*>(x), static_cast<T*>(y)});
  });
}

// --- layout and conversion
// ---------------------------------------------------------------------------------------------

template <class Bits>
struct Where {
  Walk<4> walk;
  const std::uint8_t* condition;
  const Bits *a, *b;
  Bits* y;
  LPF_DEVICE void operator()(std::int64_t i) const {
    std::int64_t at[4];
    walk.find(i, at);
    y[at[0]] = condition[at[1]] ? a[at[2]] : b[at[3]];
  }
};
void where(const View& condition, const View& a, const View& b, const View& y) {
  const Walk<4> walk({&y, &condition, &a, &b});
  visit_bits(y.dtype, [&](auto zero) {
    using Bits = decltype(zero);
    each(walk.size(),
         Where<Bits>{walk, static_cast<const std::uint8_t*>(condition.data), static_cast<const Bits*>(a.data),
                     static_cast<const Bits*>(b.data), static_cast<Bits*>(y.data)});
  });
}

template <class Bits>
struct Move {
  Walk<2> walk;
  const Bits* x;
  Bits* y;
  LPF_DEVICE void operator()(std::int64_t i) const {
    std::int64_t at[2];
    walk.find(i, at);
    y[at[0]] = x[at[1]];
  }
};

/// To bool: whether it is not 0.
template <class To, class From>
struct Convert {
  Walk<2> walk;
  Elements<From> x;
  Elements<To> y;
  bool to_bool;
  LPF_DEVICE void operator()(std::int64_t i) const {
    std::int64_t at[2];
    walk.find(i, at);
    const auto v = x.get(at[1]);
    if constexpr (std::is_same_v<To, std::int64_t>) {
      y.set(at[0], to_bool ? v != 0 : static_cast<std::int64_t>(v));
    } else {
      y.set(at[0], v);
    }
  }
};

void assign(const View& y, const View& x) {
  const Walk<2> walk({&y, &x});
  if (y.dtype == x.dtype)
    return visit_bits(y.dtype, [&](auto zero) {
      using Bits = decltype(zero);
      each(walk.size(), Move<Bits>{walk, static_cast<const Bits*>(x.data), static_cast<Bits*>(y.data)});
    });
  visit_arithmetic(y.dtype, [&](auto to) {
    visit_arithmetic(x.dtype, [&](auto from) {
      each(walk.size(), Convert<decltype(to), decltype(from)>{
                            walk, {x.data, x.dtype}, {y.data, y.dtype}, y.dtype == DType::bool_});
    });
  });
}

}  // namespace

void elementwise(Table& t) {
  t.upload = [](void* to, const void* from, std::size_t bytes) {
    detail::upload(static_cast<detail::UploadWord*>(to), from, bytes);
  };
  t.fill = fill;
  t.unary = unary;
  t.binary = binary;
  t.where = where;
  t.assign = assign;
  t.accumulate = accumulate;
}

}  // namespace lpf::cuda
