// Sliding windows over the height and width of an image, common to convolution and pooling.
#pragma once

#include "lpf/ops/fwd.hpp"

namespace lpf {

/// One number for height and one for width: {2, 3}, or 2 for both.
struct Size2d {
  std::int64_t h, w;
  constexpr Size2d(std::int64_t both) : h(both), w(both) {}  // NOLINT: implicit, for .stride = 2
  constexpr Size2d(std::int64_t height, std::int64_t width) : h(height), w(width) {}
  friend constexpr bool operator==(const Size2d&, const Size2d&) = default;
  std::string to_string() const { return concat("{", h, ", ", w, "}"); }
};

namespace detail {

LPF_ONCE void check_window(const char* operation, Size2d kernel, Size2d stride, Size2d padding,
                           Size2d dilation) {
  check(kernel.h > 0 && kernel.w > 0, operation, "the kernel needs at least one row and column, got ",
        kernel);
  check(stride.h > 0 && stride.w > 0, operation, "the stride must be positive, got ", stride);
  check(padding.h >= 0 && padding.w >= 0, operation, "the padding cannot be negative, got ", padding);
  check(dilation.h > 0 && dilation.w > 0, operation, "the dilation must be positive, got ", dilation);
}

/// Number of positions of a window along one axis.
LPF_ONCE std::int64_t window_positions(const char* operation, const char* axis, const Shape& x,
                                       std::int64_t size, std::int64_t kernel, std::int64_t stride,
                                       std::int64_t padding, std::int64_t dilation) {
  const std::int64_t padded = size + 2 * padding, reach = (kernel - 1) * dilation + 1;
  check<ShapeError>(reach <= padded && size > 0, operation, "a kernel that reaches over ", reach,
                    " pixels of ", axis, " does not fit the input, which has ", size, " and ", 2 * padding,
                    " of padding: x is ", x);
  return (padded - reach) / stride + 1;
}

LPF_ONCE void check_image(const char* operation, const Tensor& x) {
  check_floating(operation, x);
  check<ShapeError>(x.rank() == 4, operation, "x needs shape [B, H, W, C] (channels last), got ", x.shape());
  static_cast<void>(x.raw());  // throws for replicas
}

}  // namespace detail

}  // namespace lpf
