// Pooling over windows of images, channels last.
#pragma once

#include <optional>

#include "lpf/ops/index.hpp"
#include "lpf/ops/window.hpp"
#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/pool.hpp"
#endif

namespace lpf {

/// Value of `stride` for the size of the kernel, so that windows tile the image.
inline constexpr Size2d kernel_size{INT64_MIN};

struct MaxPool2dOptions {
  Size2d stride = kernel_size;
  Size2d padding = 0;  ///< counts as −∞; at most half the kernel
  /// Also windows that end behind the padding, if they begin in the image or in the padding before it.
  bool ceil_mode = false;
};

struct AvgPool2dOptions {
  Size2d stride = kernel_size;
  Size2d padding = 0;             ///< counts as 0; at most half the kernel
  bool count_include_pad = true;  ///< false: divide by the number of pixels inside the image
  /// Also windows that end behind the padding, if they begin in the image or in the padding before it. What
  /// lies behind the padding never counts.
  bool ceil_mode = false;
  std::optional<std::int64_t> divisor_override = {};  ///< divide by this instead
};

namespace detail {

/// The stride of a pooling window, by default the kernel. ValueError for options out of range.
LPF_ONCE Size2d check_pool(const char* op, int axes, Size2d kernel, const AvgPool2dOptions& o) {
  const Size2d stride = o.stride == kernel_size ? kernel : o.stride, pad = o.padding;
  check_window(op, axes, kernel, stride, pad, 1);
  const bool small = 2 * pad.h <= kernel.h && 2 * pad.w <= kernel.w;
  if (axes == 1) kernel.h = kernel.w;
  check(small, op, "the padding may be at most half the kernel: padding is ", axes == 1 ? pad.w : pad,
        ", kernel ", kernel);
  const std::int64_t divisor = o.divisor_override.value_or(1);
  check(divisor > 0, op, "divisor_override must be at least 1, got ", divisor);
  return stride;
}

/// Windows over images [B, H, W, C] (axes = 2), or over sequences [B, L, C] as images of one row, whose
/// kernel, stride and padding are {1, kernel}, {1, stride} and {0, padding}.
LPF_ONCE backend::Pool2d describe_pool(const char* op, int axes, const Tensor& x, Size2d kernel,
                                       const AvgPool2dOptions& o) {
  check_windowed(op, axes, x);
  const Size2d stride = check_pool(op, axes, kernel, o), pad = o.padding;
  const Shape s = as_image(x.shape());
  const WindowAxis rows =
      window_axis(op, "pixels of height", x.shape(), s[1], kernel.h, stride.h, pad.h, 1, o.ceil_mode);
  const WindowAxis columns = window_axis(op, axes == 2 ? "pixels of width" : "positions", x.shape(), s[2],
                                         kernel.w, stride.w, pad.w, 1, o.ceil_mode);
  return {.dtype = x.dtype(),
          .n = s[0],
          .h = s[1],
          .w = s[2],
          .c = s[3],
          .kh = std::min(kernel.h, s[1] + 2 * pad.h),  // what lies behind the padding counts nowhere
          .kw = std::min(kernel.w, s[2] + 2 * pad.w),
          .p = rows.positions,
          .q = columns.positions,
          .stride_h = rows.stride,
          .stride_w = columns.stride,
          .pad_h = pad.h,
          .pad_w = pad.w,
          .count_include_pad = o.count_include_pad,
          .divisor = o.divisor_override.value_or(0)};
}

/// Adds each output's gradient to zeros at the place of its maximum: the adjoint of reading x there.
LPF_ONCE Tensor max_pool_adjoint(const Tensor& dy, const Tensor& index, const backend::Pool2d& d) {
  Tensor dx = empty({d.n, d.h, d.w, d.c}, dy.options());
  dy.backend().max_pool2d_backward(d, dy.raw(), static_cast<std::int64_t*>(index.raw()), dx.raw());
  return record("max_pool2d_backward", std::move(dx), {dy}, [index, d](const Tensor& g, Need) {
    const Tensor planes = reshape(g, {d.n, d.h * d.w, d.c});
    return Grads{reshape(gather(planes, 1, index.reshape({d.n, d.p * d.q, d.c})), {d.n, d.p, d.q, d.c})};
  });
}

LPF_ONCE Tensor max_pool(const Tensor& x, const backend::Pool2d& d) {
  Tensor y = empty({d.n, d.p, d.q, d.c}, x.options()), index = empty(y.shape(), {DType::int64, x.device()});
  x.backend().max_pool2d(d, x.raw(), y.raw(), static_cast<std::int64_t*>(index.raw()));
  return record("max_pool2d", std::move(y), {x},
                [index, d](const Tensor& g, Need) { return Grads{max_pool_adjoint(g, index, d)}; });
}

Tensor avg_pool_adjoint(const Tensor& dy, const backend::Pool2d& d);

LPF_ONCE Tensor avg_pool(const Tensor& x, const backend::Pool2d& d) {
  Tensor y = empty({d.n, d.p, d.q, d.c}, x.options());
  x.backend().avg_pool2d(d, x.raw(), y.raw());
  return record("avg_pool2d", std::move(y), {x},
                [d](const Tensor& g, Need) { return Grads{avg_pool_adjoint(g, d)}; });
}

LPF_ONCE Tensor avg_pool_adjoint(const Tensor& dy, const backend::Pool2d& d) {
  Tensor dx = empty({d.n, d.h, d.w, d.c}, dy.options());
  dy.backend().avg_pool2d_backward(d, dy.raw(), dx.raw());
  return record("avg_pool2d_backward", std::move(dx), {dy},
                [d](const Tensor& g, Need) { return Grads{avg_pool(g, d)}; });
}

/// Means over `cells` parts of one axis, part i from ⌊i·n/cells⌋ to ⌈(i + 1)·n/cells⌉.
LPF_ONCE Tensor adaptive_mean(const Tensor& x, int axis, std::int64_t cells) {
  const std::int64_t n = x.shape()[axis];
  if (n == cells) return x;
  std::vector<Tensor> parts;
  for (std::int64_t i = 0, begin = 0, rest = 0; i < cells;
       ++i) {  // i·n = begin·cells + rest, which may be above 2⁶³
    const std::int64_t end = begin + (rest + n) / cells;
    rest = (rest + n) % cells;
    parts.push_back(mean(slice(x, axis, begin, rest > 0 ? end + 1 : end), {axis}, true));
    begin = end;
  }
  return concatenate(parts, axis);
}

}  // namespace detail

/// The maximum of each window and channel. x [B, H, W, C], y [B, P, Q, C] with
/// P = ⌊(H + 2·padding − kernel) / stride⌋ + 1, or with ceil_mode ⌈…⌉ + 1, less one if the last window would
/// begin in the padding after the image. Of equal values the first in the window, row by row, receives the
/// gradient; a NaN in the window is the result. PyTorch's max_pool2d.
/// @throws ShapeError if the kernel does not fit, ValueError for a kernel or stride below 1, or a padding
/// that is negative, above 2²⁹ or more than half the kernel.
LPF_ONCE Tensor max_pool2d(const Tensor& x, Size2d kernel, const MaxPool2dOptions& options = {}) {
  const AvgPool2dOptions windows{
      .stride = options.stride, .padding = options.padding, .ceil_mode = options.ceil_mode};
  return detail::max_pool(x, detail::describe_pool("max_pool2d", 2, x, kernel, windows));
}

/// The mean of each window and channel; shapes and errors as in max_pool2d(), and ValueError for a
/// divisor_override below 1. PyTorch's avg_pool2d.
LPF_ONCE Tensor avg_pool2d(const Tensor& x, Size2d kernel, const AvgPool2dOptions& options = {}) {
  return detail::avg_pool(x, detail::describe_pool("avg_pool2d", 2, x, kernel, options));
}

/// Means over a grid of output.h × output.w cells: cell i of n reads rows ⌊i·H/n⌋ to ⌈(i + 1)·H/n⌉.
/// x [B, H, W, C], y [B, output.h, output.w, C]. PyTorch's adaptive_avg_pool2d.
/// @throws ShapeError if x has no pixels, or the output more than 2⁶⁰ elements; ValueError if the output has
/// none; OutOfMemoryError if there is no memory for it.
LPF_ONCE Tensor adaptive_avg_pool2d(const Tensor& x, Size2d output) {
  constexpr const char* op = "adaptive_avg_pool2d";
  detail::check_image(op, x);
  check(output.h > 0 && output.w > 0, op, "the output needs at least one row and column, got ", output);
  const Shape& s = x.shape();
  check<ShapeError>(s[1] > 0 && s[2] > 0, op, "there are no pixels to average: x is ", s);
  if (s[1] % output.h == 0 && s[2] % output.w == 0) return avg_pool2d(x, {s[1] / output.h, s[2] / output.w});
  const Shape to{s[0], output.h, output.w, s[3]};
  if (to.numel() == 0) return reshape(x, to);
  static_cast<void>(empty(to, x.options()));  // throws before the work if there is no memory for the result
  return detail::adaptive_mean(detail::adaptive_mean(x, 1, output.h), 2, output.w);
}

/// The mean over all pixels of each channel: x [B, H, W, C], y [B, C]. ShapeError if x has no pixels.
LPF_ONCE Tensor global_avg_pool2d(const Tensor& x) {
  detail::check_image("global_avg_pool2d", x);
  check<ShapeError>(x.shape()[1] > 0 && x.shape()[2] > 0, "global_avg_pool2d",
                    "there are no pixels to average: x is ", x.shape());
  return mean(x, {1, 2});
}

/// The maximum over all pixels of each channel: x [B, H, W, C], y [B, C]; max_pool2d() over the image.
/// ShapeError if x has no pixels.
LPF_ONCE Tensor global_max_pool2d(const Tensor& x) {
  detail::check_image("global_max_pool2d", x);
  const Shape& s = x.shape();
  check<ShapeError>(s[1] > 0 && s[2] > 0, "global_max_pool2d", "there are no pixels: x is ", s);
  return reshape(max_pool2d(x, {s[1], s[2]}), {s[0], s[3]});
}

}  // namespace lpf
