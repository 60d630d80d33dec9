// Typed errors. Each names the operation, the rule that was broken and the values, and says what to do:
//   [linear] input has 12 features, weight expects 10: x is [32, 12], weight is [64, 10]
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "lpf/core/config.hpp"

namespace lpf {

/// Base of everything that LPF throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Shapes, ranks or sizes that do not fit together.
class ShapeError : public Error {
  using Error::Error;
};
/// An element type the operation does not take.
class DTypeError : public Error {
  using Error::Error;
};
/// A device that is absent, or operands on different devices.
class DeviceError : public Error {
  using Error::Error;
};
/// An option or argument outside its range.
class ValueError : public Error {
  using Error::Error;
};
/// An index outside its axis, or a label outside its classes.
class IndexError : public Error {
  using Error::Error;
};
/// A call that is not allowed now: a freed graph, a nested perturbation scope, parameters that changed.
class StateError : public Error {
  using Error::Error;
};
/// A NaN or infinity where a finite number is needed.
class NumericError : public Error {
  using Error::Error;
};
/// A replicated parameter reached an operation that has no rule for it.
class ReplicaError : public Error {
  using Error::Error;
};
/// The operating system refused: missing file, full disk, read-only folder.
class IoError : public Error {
  using Error::Error;
};
/// A file that is truncated, corrupt, or not of the expected kind.
class FormatError : public Error {
  using Error::Error;
};

namespace detail {

template <class T>
void append(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    out += value ? "true" : "false";
  } else if constexpr (std::is_same_v<T, char>) {
    out += value;
  } else if constexpr (std::is_integral_v<T>) {
    out += std::to_string(value);
  } else if constexpr (std::is_floating_point_v<T>) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.6g", static_cast<double>(value));
    out += buffer;
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    out += std::string_view(value);
  } else {
    out += value.to_string();
  }
}

}  // namespace detail

/// Text of several values one after another; anything with to_string() prints itself.
template <class... Args>
std::string concat(const Args&... args) {
  std::string out;
  (detail::append(out, args), ...);
  return out;
}

/// Throws E with the message "[operation] args…".
template <class E = ValueError, class... Args>
[[noreturn]] void fail(std::string_view operation, const Args&... args) {
  throw E(concat("[", operation, "] ", args...));
}

/// Throws E unless `ok`: check<ShapeError>(ok, "matmul", "inner sizes differ: ", a, " and ", b).
template <class E = ValueError, class... Args>
void check(bool ok, std::string_view operation, const Args&... args) {
  if (!ok) [[unlikely]]
    fail<E>(operation, args...);
}

}  // namespace lpf
