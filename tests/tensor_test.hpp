// Tensors for tests: random ones, their values, and what an error says.
#pragma once

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/autograd/gradcheck.hpp"
#include "lpf_test.hpp"

namespace lpf::test {

inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Standard normal numbers, the same for the same seed; float32 are the rounded float64.
inline Tensor normal(const Shape& shape, std::uint64_t seed = 1, DType dtype = float64) {
  return detail::normal_tensor(shape, seed, 7).to(dtype);
}
/// Uniform in [low, high).
inline Tensor uniform(const Shape& shape, double low, double high, std::uint64_t seed = 1,
                      DType dtype = float64) {
  Tensor out = empty(shape, {.dtype = float64});
  for (std::int64_t i = 0; i < out.numel(); ++i)
    out.data<double>()[i] = low + (high - low) * uniform_at<double>(NoiseKey{.seed = seed}, i);
  return out.to(dtype);
}

/// Shapes of rank 0 … 4: ordinary, empty, with one element.
inline const std::vector<Shape> shapes = {{},     {1},    {0},       {5},       {2, 3},      {1, 1},
                                          {2, 0}, {3, 1}, {2, 0, 3}, {2, 3, 2}, {1, 2, 1, 3}};

/// Whether t has this shape and exactly these values, in row-major order.
inline bool holds(const Tensor& t, const Shape& shape, const std::vector<double>& values) {
  return t.shape() == shape && t.to_vector() == values;
}
/// Whether two tensors are equal to the bit: dtype, shape and elements.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.numel()) * size_of(a.dtype())) == 0;
}
/// Largest |a − b| / max(|b|, floor) over all elements; infinite where shapes differ or a NaN is unmatched.
inline double relative_error(const Tensor& a, const Tensor& b, double floor = 1) {
  if (a.shape() != b.shape()) return std::numeric_limits<double>::infinity();
  const auto u = a.to_vector(), v = b.to_vector();
  double worst = 0;
  for (std::size_t i = 0; i < u.size(); ++i) {
    if (u[i] == v[i] || (std::isnan(u[i]) && std::isnan(v[i]))) continue;
    const double error = std::abs(u[i] - v[i]) / std::max(std::abs(v[i]), floor);
    worst = error <= worst ? worst : std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
  }
  return worst;
}

/// Empty if the first and second derivatives of f are right (see gradcheck), else what is wrong.
inline std::string wrong_derivatives(const GradCheckFunction& f, const std::vector<Tensor>& inputs,
                                     const GradCheckOptions& options = {}) {
  for (const auto& result : {gradcheck(f, inputs, options), gradgradcheck(f, inputs, options)})
    if (!result) return result.message;
  return {};
}

/// The message of the E that f throws, which must hold every one of `parts`; otherwise what is wrong, after
/// "!".
template <class E, class F>
std::string error_of(F&& f, std::initializer_list<std::string_view> parts = {}) {
  try {
    f();
  } catch (const E& e) {
    const std::string message = e.what();
    for (const auto part : parts)
      if (message.find(part) == std::string::npos)
        return "!'" + std::string(part) + "' is not in: " + message;
    return message;
  } catch (const std::exception& e) { return std::string("!another error: ") + e.what(); }
  return "!no error";
}

}  // namespace lpf::test

/// Checks that an expression throws an error of this type whose message holds all the given parts.
#define CHECK_ERROR(expression, type, ...)                                                  \
  do {                                                                                      \
    const std::string found_ =                                                              \
        ::lpf::test::error_of<type>([&] { static_cast<void>(expression); }, {__VA_ARGS__}); \
    CHECK_MESSAGE(found_[0] != '!', #expression ": ", found_);                              \
  } while (false)
