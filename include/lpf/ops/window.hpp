// Sliding windows over the height and width of an image or along a sequence, common to convolution and
// pooling.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lpf/ops/fwd.hpp"

namespace lpf {

/// One number for height and one for width: {2, 3}, or 2 for both.
struct Size2d {
  std::int64_t h, w;
  constexpr Size2d(std::int64_t both) : h(both), w(both) {}  // NOLINT: implicit, for .stride = 2
  constexpr Size2d(std::int64_t height, std::int64_t width) : h(height), w(width) {}
  friend constexpr bool operator==(const Size2d&, const Size2d&) = default;
  std::string to_string() const { return h == w ? concat(h) : concat("{", h, ", ", w, "}"); }
};

namespace detail {

/// So that padded sizes fit the 32 bits in which kernels and cuDNN count pixels.
inline constexpr std::int64_t max_padding = std::int64_t{1} << 29;

/// Checks a window over an image (axes = 2), or over a sequence: the sizes .w alone.
LPF_ONCE void check_window(const char* operation, int axes, Size2d kernel, Size2d stride, Size2d padding,
                           Size2d dilation) {
  if (axes == 1)
    for (Size2d* s : {&kernel, &stride, &padding, &dilation}) s->h = s->w;
  check(kernel.h > 0 && kernel.w > 0, operation, "the kernel needs at least one row and column, got ",
        kernel);
  check(stride.h > 0 && stride.w > 0, operation, "the stride must be positive, got ", stride);
  check(padding.h >= 0 && padding.w >= 0, operation, "the padding cannot be negative, got ", padding);
  check(padding.h <= max_padding && padding.w <= max_padding, operation, "the padding may be at most ",
        max_padding, ", got ", padding);
  check(dilation.h > 0 && dilation.w > 0, operation, "the dilation must be positive, got ", dilation);
}

/// The positions of a window along one axis: their number, and stride and dilation, which are brought down to
/// what they act on where they are larger, so that no sum of them overflows. With `ceil_mode` also those whose
/// windows end behind the padding, as far as they begin before the padding that follows the input.
struct WindowAxis {
  std::int64_t positions, stride, dilation;
};
/// `unit` is that of the axis, as "pixels of height".
LPF_ONCE WindowAxis window_axis(const char* operation, const char* unit, const Shape& x, std::int64_t size,
                                std::int64_t kernel, std::int64_t stride, std::int64_t padding,
                                std::int64_t dilation, bool ceil_mode = false) {
  const std::int64_t padded = size + 2 * padding;
  check<ShapeError>(size > 0, operation, "the input has no ", unit, ": x is ", x);
  if (kernel == 1) dilation = 1;  // between taps, of which there is one
  const bool within = kernel - 1 <= (padded - 1) / dilation;
  // The window at 0 may end behind the padding by less than a stride; with ceil_mode there is no dilation.
  const bool fits = within || (ceil_mode && kernel - padded < stride);
  const bool countable = kernel - 1 <= (INT64_MAX - 1) / dilation;
  check<ShapeError>(
      fits, operation, "a kernel that reaches over ",
      countable ? concat((kernel - 1) * dilation + 1) : concat(kernel - 1, "·", dilation, " + 1"), " ", unit,
      " does not fit the input, which has ", size, " and ", 2 * padding, " of padding: x is ", x);
  stride = std::min(stride, padded);
  if (!within) return {1, stride, dilation};
  const std::int64_t room = padded - 1 - (kernel - 1) * dilation;  // where the last window within may begin
  const std::int64_t last = (room + (ceil_mode ? stride - 1 : 0)) / stride;
  return {last + (ceil_mode && last * stride >= size + padding ? 0 : 1), stride, dilation};
}

/// Checks a batch of images (axes = 2) or sequences (axes = 1).
LPF_ONCE void check_windowed(const char* operation, int axes, const Tensor& x) {
  check_floating(operation, x);
  check<ShapeError>(x.rank() == axes + 2, operation, "x needs shape ",
                    axes == 2 ? "[B, H, W, C]" : "[B, L, C]", " (channels last), got ", x.shape());
  static_cast<void>(x.raw());  // throws for replicas
}
LPF_ONCE void check_image(const char* operation, const Tensor& x) { check_windowed(operation, 2, x); }

/// The shape [B, 1, L, C] of sequences [B, L, C] as images; of images, their own.
LPF_ONCE Shape as_image(const Shape& s) { return s.rank() == 3 ? Shape{s[0], 1, s[1], s[2]} : s; }

}  // namespace detail

}  // namespace lpf
