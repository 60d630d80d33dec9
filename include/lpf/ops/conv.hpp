// Convolution of images, channels last. Three operations, each linear in both of its operands, are closed
// under differentiation: the derivatives of one consist of the other two.
//   conv          y  = x ⋆ w              forward
//   conv_data     dx = dy, w               gradient of the input
//   conv_filter   dw = x, dy               gradient of the filters
// Slice r of the batch is convolved with replica r of w, all in one call. The gradient of w, summed over
// replicas, is one call over the whole batch.
#pragma once

#include "lpf/ops/flipout.hpp"
#include "lpf/ops/window.hpp"
#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/conv.hpp"
#endif

namespace lpf {

struct Conv2dOptions {
  Size2d stride = 1;        ///< distance between neighbouring windows in pixels
  Size2d padding = 0;       ///< zeros around the image, on each side
  Size2d dilation = 1;      ///< distance between neighbouring taps of the kernel in pixels
  std::int64_t groups = 1;  ///< channels are cut into this many groups, each convolved separately
};

namespace detail {

Tensor conv_data(const Tensor& dy, const Tensor& w, const backend::Conv2d& c);
Tensor conv_filter(const Tensor& x, const Tensor& dy, const backend::Conv2d& c, const PlanPtr& plan);

/// Calls f(description with these replicas); the slices are valid during the call.
template <class F>
void with_slices(backend::Conv2d c, const PlanPtr& plan, F f) {
  std::vector<std::int64_t> begin{0, c.n};
  if (plan) begin = plan->slices("conv2d", c.n).boundaries();
  c.replicas = plan ? plan->count() : 1;
  c.slice_begin = begin.data();
  f(c);
}

/// Samples of a slice below which flipout's replicas are applied by two convolutions of the whole batch.
inline constexpr std::int64_t fewest_samples_to_flip = 4;

/// The description of flipout's replicas of w where two convolutions are faster; otherwise null.
inline const backend::Replicas* flipped_filters(const Tensor& w, const backend::Conv2d& c) {
  const backend::Replicas* flips = w.is_replicated() ? flipped(w) : nullptr;
  const bool fits = flips && flips->segment.rows == c.k && flips->segment.inputs * c.groups == c.c;
  return fits && c.n < fewest_samples_to_flip * flips->count ? flips : nullptr;
}

/// y = x ⋆ θ_r by slice, as x ⋆ θ + ((x ⊙ b_r) ⋆ N) ⊙ a_r; or for `adjoint` dx from dy, with a_r and b_r exchanged.
LPF_ONCE void conv_flipped(const Tensor& x, const Tensor& w, const backend::Replicas& flips,
                           backend::Conv2d c, bool adjoint, const Tensor& y) {
  const Slices slices = slices_of("conv2d", w, c.n);
  const Side in = adjoint ? Side::rows : Side::inputs, out = adjoint ? Side::inputs : Side::rows;
  const auto convolve = [&](const Tensor& from, const void* filters, const Tensor& to) {
    with_slices(c, nullptr, [&](const backend::Conv2d& d) {
      adjoint ? x.backend().conv2d_backward_data(d, from.raw(), filters, to.raw())
              : x.backend().conv2d(d, from.raw(), filters, nullptr, to.raw());
    });
  };
  const Tensor signed_x = empty_like(x), of_noise = empty_like(y);
  multiply_signs(x, flips, in, slices, adjoint ? 1 : c.groups, signed_x);
  convolve(signed_x, flips.noise, of_noise);
  multiply_signs(of_noise, flips, out, slices, adjoint ? c.groups : 1, of_noise);
  convolve(x, flips.theta, y);
  y.backend().accumulate(y.dtype(), y.numel(), 1.0, of_noise.raw(), y.raw());
}

/// y = x ⋆ w + bias (may be undefined).
LPF_ONCE Tensor conv(const Tensor& x, const Tensor& w, const Tensor& bias, const backend::Conv2d& c) {
  Tensor y = empty({c.n, c.p, c.q, c.k}, x.options());
  const bool replicated_bias = bias.defined() && bias.is_replicated();
  if (const backend::Replicas* flips = flipped_filters(w, c)) {
    conv_flipped(x, w, *flips, c, false, y);
    if (bias.defined()) add_to_rows(bias, slices_of("conv2d", w, c.n), y);
  } else {
    with_slices(c,
                w.is_replicated() ? w.impl().replicas
                : replicated_bias ? bias.impl().replicas
                                  : nullptr,
                [&](backend::Conv2d& d) {
                  d.w_stride = w.is_replicated() ? w.numel() : 0;
                  d.bias_stride = replicated_bias ? c.k : 0;
                  x.backend().conv2d(d, x.raw(), w.raw_with_replicas(),
                                     bias.defined() ? bias.raw_with_replicas() : nullptr, y.raw());
                });
  }
  std::vector<Tensor> operands{x, w};
  if (bias.defined()) operands.push_back(bias);
  return record("conv2d", std::move(y), operands, [x, w, c, bias](const Tensor& g, Need need) {
    Grads grads(need.size());
    if (need[0]) grads[0] = conv_data(g, w, c);
    if (need[1]) grads[1] = conv_filter(x, g, c, gradient_plan(w));
    if (need.size() > 2 && need[2]) grads[2] = sum_of_rows(reshape(g, {c.n * c.p * c.q, c.k}), bias);
    return grads;
  });
}

/// The adjoint of x ↦ x ⋆ w.
LPF_ONCE Tensor conv_data(const Tensor& dy, const Tensor& w, const backend::Conv2d& c) {
  Tensor dx = empty({c.n, c.h, c.w, c.c}, dy.options());
  if (const backend::Replicas* flips = flipped_filters(w, c)) {
    conv_flipped(dy, w, *flips, c, true, dx);
  } else {
    with_slices(c, w.is_replicated() ? w.impl().replicas : nullptr, [&](backend::Conv2d& d) {
      d.w_stride = w.is_replicated() ? w.numel() : 0;
      dy.backend().conv2d_backward_data(d, dy.raw(), w.raw_with_replicas(), dx.raw());
    });
  }
  return record("conv2d_data", std::move(dx), {dy, w}, [dy, w, c](const Tensor& g, Need need) {
    return Grads{need[0] ? conv(g, w, {}, c) : Tensor(),
                 need[1] ? conv_filter(g, dy, c, gradient_plan(w)) : Tensor()};
  });
}

/// The adjoint of w ↦ x ⋆ w over the whole batch, or with a plan over each slice, as a replicated tensor.
LPF_ONCE Tensor conv_filter(const Tensor& x, const Tensor& dy, const backend::Conv2d& c,
                            const PlanPtr& plan) {
  const Shape shape{c.k, c.kh, c.kw, c.c / c.groups};
  Tensor dw = empty(plan ? shape.prepended(plan->count()) : shape, accumulation_options(x));
  with_slices(c, plan, [&](const backend::Conv2d& d) {
    x.backend().conv2d_backward_filter(d, x.raw(), dy.raw(), dw.raw(), plan != nullptr);
  });
  if (plan) {
    dw = dw.alias(shape);
    dw.impl().replicas = plan;
  }
  return record("conv2d_filter", std::move(dw), {x, dy}, [x, dy, c](const Tensor& g, Need need) {
    const Tensor h = g.to(x.dtype());
    return Grads{need[0] ? conv_data(dy, h, c) : Tensor(), need[1] ? conv(x, h, {}, c) : Tensor()};
  });
}

/// Checks the channels of x […, C], w [K, …, C/groups] and a bias [K] or undefined.
LPF_ONCE void check_conv_channels(const char* op, const Shape& x, const Shape& w, const Tensor& bias,
                                  std::int64_t groups) {
  const std::int64_t channels = x[x.rank() - 1], filters = w[0], each = w[w.rank() - 1];
  check(groups > 0, op, "groups must be positive, got ", groups);
  check<ShapeError>(channels % groups == 0, op, channels, " input channels do not divide into ", groups,
                    " groups: x is ", x);
  check<ShapeError>(filters % groups == 0, op, filters, " filters do not divide into ", groups,
                    " groups: the weight is ", w);
  check<ShapeError>(channels == each * groups, op, "input has ", channels, " channels, the weight expects ",
                    each * groups,
                    groups > 1 ? concat(" (", groups, " groups of ", each, ")") : std::string(), ": x is ", x,
                    ", the weight is ", w, channels_first_hint(x, each * groups),
                    w[1] * groups == channels ? "; filters too are channels last" : "");
  check<ShapeError>(!bias.defined() || bias.shape() == Shape{filters}, op, "the bias has shape ",
                    bias.defined() ? bias.shape() : Shape(), ", the weight ", w, " needs [", filters, "]");
}

/// The description of the call; checks every rule of conv2d() (axes = 2) or conv1d(). Sequences are images of
/// one row: their stride, padding and dilation are {1, stride}, {0, padding} and {1, dilation}.
LPF_ONCE backend::Conv2d describe_conv(const char* op, int axes, const Tensor& x, const Tensor& w,
                                       const Tensor& bias, const Conv2dOptions& o) {
  check_windowed(op, axes, x);
  check<ShapeError>(w.rank() == axes + 2, op, "the weight needs shape ",
                    axes == 2 ? "[K, kh, kw, C/groups]" : "[K, k, C/groups]", ", got ", w.shape());
  check_same_kind(op, x, w);
  check_conv_channels(op, x.shape(), w.shape(), bias, o.groups);
  const Shape xs = as_image(x.shape()), ws = as_image(w.shape());
  check_window(op, axes, {ws[1], ws[2]}, o.stride, o.padding, o.dilation);
  if (bias.defined()) {
    check_accumulation_kind(op, x, bias);
    check<ReplicaError>(
        !bias.is_replicated() || !w.is_replicated() || bias.impl().replicas == w.impl().replicas, op,
        "weight and bias are replicas of two different perturbed passes");
  }
  meet_batch(op, w, x, x.rank() - 1);  // images may be folded, [B·T, H, W, C]
  meet_batch(op, bias, x, x.rank() - 1);
  const WindowAxis rows =
      window_axis(op, "pixels of height", x.shape(), xs[1], ws[1], o.stride.h, o.padding.h, o.dilation.h);
  const WindowAxis columns = window_axis(op, axes == 2 ? "pixels of width" : "positions", x.shape(), xs[2],
                                         ws[2], o.stride.w, o.padding.w, o.dilation.w);
  return {.dtype = x.dtype(),
          .n = xs[0],
          .h = xs[1],
          .w = xs[2],
          .c = xs[3],
          .k = ws[0],
          .kh = ws[1],
          .kw = ws[2],
          .p = rows.positions,
          .q = columns.positions,
          .stride_h = rows.stride,
          .stride_w = columns.stride,
          .pad_h = o.padding.h,
          .pad_w = o.padding.w,
          .dilation_h = rows.dilation,
          .dilation_w = columns.dilation,
          .groups = o.groups,
          .replicas = 1,
          .slice_begin = nullptr,
          .w_stride = 0,
          .bias_stride = 0};
}

}  // namespace detail

/// y[b, p, q, k] = bias[k] + Σ_{r,s,c} x[b, p·stride + r·dilation − padding, …, c] · w[k, r, s, c], with x
/// zero outside. x [B, H, W, C], w [K, kh, kw, C/groups], bias [K] or undefined; y [B, P, Q, K] with
/// P = ⌊(H + 2·padding − dilation·(kh − 1) − 1) / stride⌋ + 1. Filter k reads the channels of group
/// ⌊k·groups/K⌋. w and bias may be replicated: replica r applies to the samples of slice r. PyTorch's conv2d,
/// channels last.
/// @throws ShapeError for incompatible sizes, ValueError for a stride, dilation or groups below 1 or a padding
/// that is negative or above 2²⁹, DTypeError unless all are float32 or all float64, or all bfloat16 with a
/// float32 bias.
LPF_ONCE Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias = {},
                       const Conv2dOptions& options = {}) {
  if (const auto cast = detail::cast_operands("conv2d", x, w)) return conv2d(cast.a, cast.b, bias, options);
  return detail::conv(x, w, bias, detail::describe_conv("conv2d", 2, x, w, bias, options));
}

}  // namespace lpf
