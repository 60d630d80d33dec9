// Typed errors. The message names the operation, the violated rule, the values and the remedy:
//   [linear] input has 12 features, weight expects 10: x is [32, 12], weight is [64, 10]
#pragma once

#include <charconv>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "lpf/core/config.hpp"

namespace lpf {

/// Base of all exceptions that LPF throws deliberately.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Incompatible shapes, ranks or sizes.
class ShapeError : public Error {
  using Error::Error;
};
/// An element type that the operation does not accept.
class DTypeError : public Error {
  using Error::Error;
};
/// A device that is absent, or operands on different devices.
class DeviceError : public Error {
  using Error::Error;
};
/// A device has no memory for what is wanted.
class OutOfMemoryError : public Error {
  using Error::Error;
};
/// An option or argument outside its range.
class ValueError : public Error {
  using Error::Error;
};
/// An index outside its axis, or a label outside the classes.
class IndexError : public Error {
  using Error::Error;
};
/// A call in the wrong state: a freed graph, a nested perturbation scope, parameters that changed.
class StateError : public Error {
  using Error::Error;
};
/// NaN or infinity where a finite number is required.
class NumericError : public Error {
  using Error::Error;
};
/// A replicated parameter in an operation that has no rule for it.
class ReplicaError : public Error {
  using Error::Error;
};
/// The operating system reported an error: missing file, full disk, read-only folder.
class IOError : public Error {
  using Error::Error;
};
using IoError [[deprecated("use IOError")]] = IOError;
/// A file that is truncated, corrupt, or of another format.
class FormatError : public Error {
  using Error::Error;
};

namespace detail {

LPF_ONCE void append_integer(std::string& out, long long value) { out += std::to_string(value); }
LPF_ONCE void append_unsigned(std::string& out, unsigned long long value) { out += std::to_string(value); }
LPF_ONCE void append_real(std::string& out, double value) {
  if (value != value) {  // its sign is meaningless
    out += "nan";
    return;
  }
  char buffer[32];  // as printf's %.6g, which would follow the locale
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general, 6).ptr);
}

template <class T>
void append(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    out += value ? "true" : "false";
  } else if constexpr (std::is_same_v<T, char>) {
    out += value;
  } else if constexpr (std::is_integral_v<T> && std::is_unsigned_v<T>) {
    append_unsigned(out, value);
  } else if constexpr (std::is_integral_v<T>) {
    append_integer(out, value);
  } else if constexpr (std::is_floating_point_v<T>) {
    append_real(out, static_cast<double>(value));
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    out += std::string_view(value);
  } else {
    out += value.to_string();
  }
}

/// A value and the function that prints it. Messages are lists of these, so that code is generated once per
/// type, not once per combination of types.
struct Printable {
  const void* value;
  void (*append_to)(std::string&, const void*);

  template <class T>
  Printable(const T& v)  // NOLINT: implicit, a reference until the end of the full expression
      : value(&v),
        append_to([](std::string& out, const void* p) { append(out, *static_cast<const T*>(p)); }) {}
  Printable(const char* text)  // NOLINT: likewise; literals of all lengths
      : value(text), append_to([](std::string& out, const void* p) { out += static_cast<const char*>(p); }) {}
};

LPF_ONCE std::string join(std::initializer_list<Printable> values) {
  std::string out;
  for (const Printable& v : values) v.append_to(out, v.value);
  return out;
}

/// "[operation] values…"
LPF_ONCE std::string message(std::string_view operation, std::initializer_list<Printable> values) {
  std::string out = "[";
  out += operation;
  out += "] ";
  out += join(values);
  return out;
}

template <class E>
[[noreturn, gnu::cold, gnu::noinline]] void throw_error(std::string_view operation,
                                                        std::initializer_list<Printable> values) {
  throw E(message(operation, values));
}

}  // namespace detail

/// Concatenates the text of several values; anything with to_string() can be printed.
template <class... Args>
std::string concat(const Args&... args) {
  return detail::join({detail::Printable(args)...});
}

/// Throws E with the message "[operation] args…".
template <class E = ValueError, class... Args>
[[noreturn]] void fail(std::string_view operation, const Args&... args) {
  detail::throw_error<E>(operation, {detail::Printable(args)...});
}

/// Throws E unless `ok`: check<ShapeError>(ok, "matmul", "inner sizes differ: ", a, " and ", b).
template <class E = ValueError, class... Args>
void check(bool ok, std::string_view operation, const Args&... args) {
  if (!ok) [[unlikely]]
    fail<E>(operation, args...);
}

}  // namespace lpf
