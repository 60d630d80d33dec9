// Tensors for tests: random ones, comparison of values, and checks of error messages. Non-templates are in
// tensor_test.cpp, compiled once.
#pragma once

#include <functional>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/calculus/gradcheck.hpp"
#include "lpf_test.hpp"

namespace lpf::test {

inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Standard normal numbers, the same for the same seed; float32 are the rounded float64.
Tensor normal(const Shape& shape, std::uint64_t seed = 1, DType dtype = float64);
/// Uniform in [low, high).
Tensor uniform(const Shape& shape, double low, double high, std::uint64_t seed = 1, DType dtype = float64);
/// int64 f(0), f(1), …: labels, indices.
template <class F>
Tensor integers(const Shape& shape, F f) {
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < shape.numel(); ++i) values.push_back(f(i));
  return from_vector(values, shape);
}
/// A tensor on the CPU: itself, or a copy.
inline Tensor on_host(const Tensor& t) { return t.detach().to(Device::cpu()); }

/// A plan of `count` replicas.
inline PlanPtr plan_of(std::int64_t count) { return std::make_shared<ReplicaPlan>(count); }

/// Shapes of rank 0 … 4: ordinary, empty, with one element.
inline const std::vector<Shape> shapes = {{},     {1},    {0},       {5},       {2, 3},      {1, 1},
                                          {2, 0}, {3, 1}, {2, 0, 3}, {2, 3, 2}, {1, 2, 1, 3}};

/// True if t has this shape and exactly these values, in row-major order.
bool holds(const Tensor& t, const Shape& shape, const std::vector<double>& values);
/// True if two tensors are bit-identical: dtype, shape and elements.
bool same_bits(const Tensor& a, const Tensor& b);
/// Largest |a − b| / max(|b|, floor) over all elements; infinite if shapes differ or a NaN is unmatched.
double relative_error(const Tensor& a, const Tensor& b, double floor = 1);
/// Largest |a − b|; NaN propagates.
double largest_difference(const Tensor& a, const Tensor& b);

/// Empty if the first and second derivatives of f are correct (see gradcheck),
/// else a description of the error.
std::string wrong_derivatives(const GradCheckFunction& f, const std::vector<Tensor>& inputs,
                              const GradCheckOptions& options = {});
/// Checks the first and the second derivatives of f.
void check_derivatives(const GradCheckFunction& f, const std::vector<Tensor>& inputs);

/// Checks that f of replicas is f of each: the same bits, and the right first and second derivatives. w is
/// [M, shape…].
void check_maps_replicas(const std::function<Tensor(const Tensor&)>& f, const Tensor& w);

/// Checks that run() gives the same bits with 1, 2, 3 and 7 threads.
void check_same_for_any_threads(const std::function<std::vector<Tensor>()>& run);

/// The message of the E that f throws, if it contains every one of `parts`; otherwise a
/// description of the failure, after "!".
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

/// Checks that an expression throws an error of this type whose message contains all the given parts.
#define CHECK_ERROR(expression, type, ...)                                                  \
  do {                                                                                      \
    const std::string found_ =                                                              \
        ::lpf::test::error_of<type>([&] { static_cast<void>(expression); }, {__VA_ARGS__}); \
    CHECK_MESSAGE(found_[0] != '!', #expression ": ", found_);                              \
  } while (false)

/// Checks that an operation throws for an invalid index: the CPU at once, a device when its result is read.
#define CHECK_INDEX_ERROR(expression, ...)                               \
  do {                                                                   \
    if (::lpf::default_device().is_cpu()) {                              \
      CHECK_ERROR(expression, ::lpf::IndexError, __VA_ARGS__);           \
    } else {                                                             \
      CHECK_ERROR((expression).to_vector(), ::lpf::IndexError, "index"); \
    }                                                                    \
  } while (false)

/// For the beginning of a test case of a CPU-only feature.
#define CPU_ONLY \
  if (!::lpf::default_device().is_cpu()) return ::lpf::test::skip("of the CPU backend")
