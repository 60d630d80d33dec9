// Random tensors. There is no generator: every number is a function of a NoiseKey and of its index in the
// key's stream (core/philox.hpp), identical on every device and for any number of threads. A random layer
// takes its keys from a DrawCounter (nn/draw_counter.hpp), so each pass, and each replay of a captured
// step, draws anew.
#pragma once

#include "lpf/core/philox.hpp"
#include "lpf/tensor/tensor.hpp"

namespace lpf {

namespace detail {
/// An uninitialised tensor for elements [first, first + shape.numel()) of a stream, whose range is checked.
inline Tensor empty_for_stream(const char* operation, const Shape& shape, const NoiseKey& key,
                               const TensorOptions& options, std::int64_t first) {
  check<DTypeError>(options.dtype == float32 || options.dtype == float64, operation,
                    "gives float32 or float64, not ", name_of(options.dtype), ": convert with .to(dtype)");
  check_noise_range(key, first, shape.numel(), options.dtype == float32 ? 4 : 2);
  return empty(shape, options);
}
}  // namespace detail

/// Uniform numbers in [0, 1): elements first, first + 1, … of the stream `key`, in row-major order. They have
/// 24 random bits in float32 and 53 in float64; a key's float32 and float64 numbers are unrelated.
/// @throws DTypeError for another dtype; ValueError if the stream has no such elements (check_noise_range()).
inline Tensor rand(const Shape& shape, const NoiseKey& key, const TensorOptions& options = {},
                   std::int64_t first = 0) {
  const Tensor y = detail::empty_for_stream("rand", shape, key, options, first);
  y.backend().uniform(options.dtype, key, first, y.numel(), y.raw());
  return y;
}

/// Standard normal numbers, N(0, 1), otherwise as rand(). rand() and randn() use the same bits of a key: give
/// each its own key. @throws as rand().
inline Tensor randn(const Shape& shape, const NoiseKey& key, const TensorOptions& options = {},
                    std::int64_t first = 0) {
  const Tensor y = detail::empty_for_stream("randn", shape, key, options, first);
  y.backend().normal(options.dtype, key, first, y.numel(), y.raw());
  return y;
}

}  // namespace lpf
