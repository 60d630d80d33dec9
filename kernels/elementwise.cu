// Elementwise functions, layout and conversion. One kernel per function and kind of number; the threads look
// up strides, broadcasting and narrow integers, since their time is memory-bound. Elements that are
// contiguous in all arrays are accessed in packs; for arithmetic, float64 and integers, which training does
// not use, are accessed one by one, so that the many functions are compiled once for them.
#include <tuple>
#include <utility>

#include "elements.hpp"
#include "functions.hpp"
#include "kernel_groups.hpp"
#include "launch.hpp"
#include "strided.hpp"
#include "upload.hpp"

namespace lpf::cuda {
namespace {

using backend::View;

/// y = f(x…), elementwise.
template <int width, class F, class Y, class... X>
struct Map {
  static constexpr int views = 1 + sizeof...(X);
  Walk<views> walk;  // of y and all x
  F f;
  Elements<Y> y;
  std::tuple<Elements<X>...> x;

  LPF_DEVICE void operator()(std::int64_t k) const { step(k, std::index_sequence_for<X...>()); }

 private:
  template <std::size_t... i>
  LPF_DEVICE void step(std::int64_t k, std::index_sequence<i...>) const {
    std::int64_t at[views];
    walk.find(k, at);
    if constexpr (width > 1) {
      const int elements = walk.elements(k);
      if (elements == width) {
        const auto packs = std::make_tuple(
            std::get<i>(x).template get_pack<width>(at[i + 1], walk.stride(static_cast<int>(i) + 1))...);
        Pack<Y, width> out;
        for (int j = 0; j < width; ++j)
          out.value[j] = static_cast<Y>(f(static_cast<Computed<X>>(std::get<i>(packs).value[j])...));
        return store<width>(y.data + at[0], out);
      }
      LPF_ROLLED for (int j = 1; j < elements; ++j) {
        y.set(at[0], f(std::get<i>(x).get(at[i + 1])...));
        for (int v = 0; v < views; ++v) at[v] += walk.stride(v);
      }
    }
    y.set(at[0], f(std::get<i>(x).get(at[i + 1])...));
  }
};

/// Runs Map on views, with packs of `width`.
template <int width, class Y, class... X, class F, class... Views>
void map(const F& f, const View& y, const Views&... x) {
  const Walk<1 + sizeof...(X)> walk({&y, &x...}, width);
  each(walk.steps(), Map<width, F, Y, X...>{walk, f, {y.data, y.dtype}, {Elements<X>(x.data, x.dtype)...}});
}

View contiguous(const void* data, DType type, std::int64_t n) {
  return {const_cast<void*>(data), type, 1, {n}, {1}};
}

template <class T>
struct Fill {
  Pieces<pack_width<T>> pieces;
  T* y;
  T value;
  LPF_DEVICE void operator()(std::int64_t k) const {
    pieces(k, [&](std::int64_t i, auto w) {
      Pack<T, w> pack;
      for (int j = 0; j < w; ++j) pack.value[j] = value;
      store(y + i, pack);
    });
  }
};
void fill(void* y, DType type, std::int64_t n, double value) {
  const auto put = [&](auto v) {
    using T = decltype(v);
    const Pieces<pack_width<T>> pieces(n, static_cast<T*>(y));
    each(pieces.count(), Fill<T>{pieces, static_cast<T*>(y), v});
  };
  switch (type) {
    case DType::bool_: return put(static_cast<std::uint8_t>(value != 0));
    case DType::uint8: return put(static_cast<std::uint8_t>(lpf::detail::saturated<std::int64_t>(value)));
    case DType::int32: return put(static_cast<std::int32_t>(lpf::detail::saturated<std::int64_t>(value)));
    case DType::int64: return put(lpf::detail::saturated<std::int64_t>(value));
    case DType::float32: return put(static_cast<float>(value));
    case DType::bfloat16: return put(static_cast<BFloat16>(value));
    default: return put(value);
  }
}

// --- one operand

[[noreturn]] void refuse(DType type) {
  fail<DTypeError>("kernel", "needs float32 or float64, got ", name_of(type), ": convert with .to(float32)");
}

/// The width of packs for arithmetic.
template <class T, class Y>
inline constexpr int arithmetic_width = std::is_same_v<Computed<T>, float> ? pack_width<T, Y> : 1;

template <Unary op, class T>
struct UnaryOf {
  Computed<T> a, b;
  LPF_DEVICE auto operator()(Computed<T> v) const { return unary_of<op>(v, a, b); }
};
template <class T, Unary op>
void unary_one(DType type, std::int64_t n, const void* x, void* y, double a, double b) {
  if constexpr (!std::is_floating_point_v<Computed<T>> && !takes_integers(op)) {
    refuse(type);
  } else {
    using Y = std::conditional_t<is_test(op), bool, T>;
    map<arithmetic_width<T, Y>, Y, T>(UnaryOf<op, T>{number_as<T>(a), number_as<T>(b)},
                                      contiguous(y, is_test(op) ? DType::bool_ : type, n),
                                      contiguous(x, type, n));
  }
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

template <Binary op, class T>
struct BinaryOf {
  Computed<T> alpha;
  LPF_DEVICE auto operator()(Computed<T> u, Computed<T> v) const { return binary_of<op>(u, v, alpha); }
};
template <class T, Binary op>
void binary_one(const View& a, const View& b, const View& y, double alpha) {
  if constexpr (!std::is_floating_point_v<Computed<T>> && !takes_integers(op)) {
    refuse(a.dtype);
  } else {
    using Y = std::conditional_t<is_test(op), bool, T>;
    map<arithmetic_width<T, Y>, Y, T, T>(BinaryOf<op, T>{number_as<T>(alpha)}, y, a, b);
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
struct PlusMultiple {
  Computed<T> a;
  LPF_DEVICE Computed<T> operator()(Computed<T> x, Computed<T> y) const { return y + a * x; }
};
void accumulate(DType type, std::int64_t n, double a, const void* x, void* y) {
  visit_real("accumulate", type, [&](auto zero) {
    using T = decltype(zero);
    const View to = contiguous(y, type, n);
    map<pack_width<T>, T, T, T>(PlusMultiple<T>{number_as<T>(a)}, to, contiguous(x, type, n), to);
  });
}

// --- layout and conversion

struct Choose {
  template <class Bits>
  LPF_DEVICE Bits operator()(std::uint8_t condition, Bits a, Bits b) const {
    return condition ? a : b;
  }
};
void where(const View& condition, const View& a, const View& b, const View& y) {
  visit_bits(y.dtype, [&](auto zero) {
    using Bits = decltype(zero);
    map<pack_width<Bits>, Bits, std::uint8_t, Bits, Bits>(Choose(), y, condition, a, b);
  });
}

struct Same {
  template <class T>
  LPF_DEVICE T operator()(T x) const {
    return x;
  }
};
/// To bool: x != 0; of a floating number that an integer type does not have, the nearest one that it has.
template <class From>
struct ToInteger {
  DType to;
  LPF_DEVICE std::int64_t operator()(From v) const {
    if (to == DType::bool_) return v != From(0);
    if constexpr (!std::is_floating_point_v<From>) {
      return v;
    } else {
      const auto number = static_cast<double>(v);
      if (to == DType::uint8) return lpf::detail::saturated<std::uint8_t>(number);
      if (to == DType::int32) return lpf::detail::saturated<std::int32_t>(number);
      return lpf::detail::saturated<std::int64_t>(number);
    }
  }
};

void assign(const View& y, const View& x) {
  if (y.dtype == x.dtype)
    return visit_bits(y.dtype, [&](auto zero) {
      using Bits = decltype(zero);
      map<pack_width<Bits>, Bits, Bits>(Same(), y, x);
    });
  visit_arithmetic(y.dtype, [&](auto to) {
    visit_arithmetic(x.dtype, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      if constexpr (std::is_same_v<To, From> && !std::is_same_v<To, std::int64_t>) {
        return;  // done above
      } else if constexpr (std::is_same_v<To, std::int64_t>) {
        map<1, To, From>(ToInteger<Computed<From>>{y.dtype}, y, x);
      } else {
        map<std::is_same_v<Computed<To>, float> ? arithmetic_width<From, To> : 1, To, From>(Same(), y, x);
      }
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
