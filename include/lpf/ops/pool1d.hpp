// Pooling over windows of sequences, channels last: that over images of one row.
#pragma once

#include "lpf/ops/pool.hpp"

namespace lpf {

/// Value of a stride for the size of the kernel, so that windows tile the sequence.
inline constexpr std::int64_t kernel_length = kernel_size.w;

struct MaxPool1dOptions {
  std::int64_t stride = kernel_length;
  std::int64_t padding = 0;  ///< counts as −∞; at most half the kernel
  /// Also windows that end behind the padding, if they begin in the sequence or in the padding before it.
  bool ceil_mode = false;
};

struct AvgPool1dOptions {
  std::int64_t stride = kernel_length;
  std::int64_t padding = 0;       ///< counts as 0; at most half the kernel
  bool count_include_pad = true;  ///< false: divide by the number of positions inside the sequence
  /// Also windows that end behind the padding, if they begin in the sequence or in the padding before it. What
  /// lies behind the padding never counts.
  bool ceil_mode = false;
};

namespace detail {

/// `pool` with the windows of a pooling along sequences, which are images of one row.
template <class Pool>
Tensor pool_sequences(const char* op, const Tensor& x, std::int64_t kernel, const AvgPool1dOptions& o,
                      Pool pool) {
  const std::int64_t stride = o.stride == kernel_length ? kernel : o.stride;
  const backend::Pool2d d = describe_pool(op, 1, x, {1, kernel},
                                          {.stride = {1, stride},
                                           .padding = {0, o.padding},
                                           .count_include_pad = o.count_include_pad,
                                           .ceil_mode = o.ceil_mode});
  return reshape(pool(reshape(x, as_image(x.shape())), d), {d.n, d.q, d.c});
}

LPF_ONCE void check_sequences(const char* op, const Tensor& x) {
  check_windowed(op, 1, x);
  check<ShapeError>(x.shape()[1] > 0, op, "there are no positions: x is ", x.shape());
}

}  // namespace detail

/// The maximum of each window and channel. x [B, L, C], y [B, P, C] with
/// P = ⌊(L + 2·padding − kernel) / stride⌋ + 1, or with ceil_mode ⌈…⌉ + 1, less one if the last window would
/// begin in the padding after the sequence. Of equal values the first in the window receives the gradient; a
/// NaN in the window is the result. PyTorch's max_pool1d.
/// @throws what max_pool2d() throws.
LPF_ONCE Tensor max_pool1d(const Tensor& x, std::int64_t kernel, const MaxPool1dOptions& options = {}) {
  const AvgPool1dOptions windows{
      .stride = options.stride, .padding = options.padding, .ceil_mode = options.ceil_mode};
  return detail::pool_sequences("max_pool1d", x, kernel, windows, detail::max_pool);
}

/// The mean of each window and channel; shapes and errors as in max_pool1d(). PyTorch's avg_pool1d.
LPF_ONCE Tensor avg_pool1d(const Tensor& x, std::int64_t kernel, const AvgPool1dOptions& options = {}) {
  return detail::pool_sequences("avg_pool1d", x, kernel, options, detail::avg_pool);
}

/// Means over `output` cells: cell i of n reads positions ⌊i·L/n⌋ to ⌈(i + 1)·L/n⌉. x [B, L, C],
/// y [B, output, C]. PyTorch's adaptive_avg_pool1d.
/// @throws ShapeError if x has no positions, ValueError if the output has none.
LPF_ONCE Tensor adaptive_avg_pool1d(const Tensor& x, std::int64_t output) {
  detail::check_sequences("adaptive_avg_pool1d", x);
  check(output > 0, "adaptive_avg_pool1d", "the output needs at least one position, got ", output);
  const Tensor y = adaptive_avg_pool2d(reshape(x, detail::as_image(x.shape())), {1, output});
  return reshape(y, {x.shape()[0], output, x.shape()[2]});
}

/// The mean over all positions of each channel: x [B, L, C], y [B, C]. ShapeError if x has no positions.
LPF_ONCE Tensor global_avg_pool1d(const Tensor& x) {
  detail::check_sequences("global_avg_pool1d", x);
  return mean(x, {1});
}

/// The maximum over all positions of each channel: x [B, L, C], y [B, C]. ShapeError if x has no positions.
LPF_ONCE Tensor global_max_pool1d(const Tensor& x) {
  detail::check_sequences("global_max_pool1d", x);
  return reshape(max_pool1d(x, x.shape()[1]), {x.shape()[0], x.shape()[2]});
}

}  // namespace lpf
