// Pooling over windows of images, channels last.
#pragma once

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
};

struct AvgPool2dOptions {
  Size2d stride = kernel_size;
  Size2d padding = 0;             ///< counts as 0; at most half the kernel
  bool count_include_pad = true;  ///< false: divide by the number of pixels inside the image
};

namespace detail {

LPF_ONCE backend::Pool2d describe_pool(const char* op, const Tensor& x, Size2d kernel, Size2d stride,
                                       Size2d padding, bool count_include_pad) {
  check_image(op, x);
  if (stride == kernel_size) stride = kernel;
  check_window(op, kernel, stride, padding, 1);
  check(2 * padding.h <= kernel.h && 2 * padding.w <= kernel.w, op,
        "the padding may be at most half the kernel: padding is ", padding, ", kernel ", kernel);
  const Shape& s = x.shape();
  const WindowAxis rows = window_axis(op, "height", s, s[1], kernel.h, stride.h, padding.h, 1),
                   columns = window_axis(op, "width", s, s[2], kernel.w, stride.w, padding.w, 1);
  return {.dtype = x.dtype(),
          .n = s[0],
          .h = s[1],
          .w = s[2],
          .c = s[3],
          .kh = kernel.h,
          .kw = kernel.w,
          .p = rows.positions,
          .q = columns.positions,
          .stride_h = rows.stride,
          .stride_w = columns.stride,
          .pad_h = padding.h,
          .pad_w = padding.w,
          .count_include_pad = count_include_pad};
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
/// P = ⌊(H + 2·padding − kernel) / stride⌋ + 1. Of equal values the first in the window, row by row, receives
/// the gradient; a NaN in the window is the result. PyTorch's max_pool2d.
/// @throws ShapeError if the kernel does not fit, ValueError for a kernel or stride below 1, or a padding
/// that is negative, above 2²⁹ or more than half the kernel.
LPF_ONCE Tensor max_pool2d(const Tensor& x, Size2d kernel, const MaxPool2dOptions& options = {}) {
  const backend::Pool2d d =
      detail::describe_pool("max_pool2d", x, kernel, options.stride, options.padding, true);
  Tensor y = empty({d.n, d.p, d.q, d.c}, x.options()), index = empty(y.shape(), {DType::int64, x.device()});
  x.backend().max_pool2d(d, x.raw(), y.raw(), static_cast<std::int64_t*>(index.raw()));
  return record("max_pool2d", std::move(y), {x},
                [index, d](const Tensor& g, Need) { return Grads{detail::max_pool_adjoint(g, index, d)}; });
}

/// The mean of each window and channel; shapes and errors as in max_pool2d(). PyTorch's avg_pool2d.
LPF_ONCE Tensor avg_pool2d(const Tensor& x, Size2d kernel, const AvgPool2dOptions& options = {}) {
  return detail::avg_pool(x, detail::describe_pool("avg_pool2d", x, kernel, options.stride, options.padding,
                                                   options.count_include_pad));
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

}  // namespace lpf
