// Sums, means, extrema. Reductions are trees cut from the shape alone: the same
// bits for any number of threads.
#pragma once

#include <array>

#include "lpf/ops/shape.hpp"

namespace lpf {

namespace detail {

/// Normalised axes, ascending and unique; all of them for an empty list.
LPF_ONCE Axes reduced_axes(const char* operation, const Axes& axes, int rank) {
  std::array<bool, max_rank> named{};
  for (int a : axes) {
    bool& seen = named[static_cast<std::size_t>(normalize_axis(operation, a, rank))];
    check<ShapeError>(!seen, operation, "axis ", a, " is named twice");
    seen = true;
  }
  Axes out;
  for (int i = 0; i < rank; ++i)
    if (axes.empty() || named[static_cast<std::size_t>(i)]) out.push_back(i);
  return out;
}

/// One reduction over `count` adjacent axes from `axis` on, which become one axis of size 1.
LPF_ONCE Tensor reduce_run(backend::Reduce op, const Tensor& x, int axis, int count, DType result) {
  const auto outer = x.shape().product(0, axis), n = x.shape().product(axis, axis + count),
             inner = x.shape().product(axis + count, x.rank());
  Shape shape = x.shape();
  for (int i = axis; i < axis + count; ++i) shape[i] = 1;
  Tensor y = empty(shape, {result, x.device()});
  x.backend().reduce(op, x.dtype(), outer, n, inner, x.raw(), y.raw());
  return y;
}

/// Reduction over several axes, one run of adjacent axes at a time; reduced axes stay with size 1.
LPF_ONCE Tensor reduce(backend::Reduce op, Tensor x, const Axes& axes, DType result) {
  for (std::size_t i = axes.size(); i > 0;) {
    std::size_t first = i - 1;
    while (first > 0 && axes[first - 1] == axes[first] - 1) --first;
    x = reduce_run(op, x, axes[first], static_cast<int>(i - first), result);
    i = first;
  }
  return x;
}

LPF_ONCE Shape without_axes(const Shape& shape, const Axes& axes) {
  Shape out;
  for (int i = 0; i < shape.rank(); ++i)
    if (!std::binary_search(axes.begin(), axes.end(), i)) out.push_back(shape[i]);
  return out;
}

/// f(replicas as a plain tensor, its axes): a reduction of each replica of x over the normalised axes `over`.
template <class F>
Tensor reduce_replicas(F f, const Tensor& x, Axes over, BatchMean mean = BatchMean::refused,
                       const char* operation = "a reduction") {
  if (x.rank() == 0) return reduce_replicas(f, reshape(x, {1}), {0}, mean, operation);
  for (int& axis : over) ++axis;
  return on_each_replica(
      x, [&](const Tensor& t) { return f(t, over); }, mean, operation);
}

}  // namespace detail

/// Sum over the given axes (all if empty). Integers and bools are summed in int64, bfloat16 in float32.
LPF_ONCE Tensor sum(const Tensor& x, const Axes& axes, bool keepdim) {
  const Axes over = detail::reduced_axes("sum", axes, x.rank());
  if (x.is_replicated())
    return detail::reduce_replicas([&](const Tensor& t, const Axes& a) { return sum(t, a, keepdim); }, x,
                                   over, detail::BatchMean::kept);
  const Tensor from = is_floating(x.dtype()) ? x : x.to(DType::int64);
  const DType result = detail::accumulation_dtype(from.dtype());
  Tensor kept = over.empty() ? from.detach().clone().to(result)
                             : detail::reduce(backend::Reduce::sum, from.detach(), over, result);
  Tensor y = keepdim ? kept : kept.alias(detail::without_axes(x.shape(), over));
  if (const auto axis = x.impl().sample_axis; axis >= 0) {
    const auto next = std::lower_bound(over.begin(), over.end(), axis);
    y.impl().sample_axis = next != over.end() && *next == axis ? x.impl().summed_axis
                           : keepdim                           ? axis
                                     : static_cast<std::int8_t>(axis - (next - over.begin()));
  }
  return record("sum", std::move(y), {x},
                [from = x.shape(), shape = kept.shape(), dtype = from.dtype()](const Tensor& g, Need) {
                  return Grads{expand(reshape(g, shape).to(dtype), from)};
                });
}
LPF_ONCE Tensor Tensor::sum(std::initializer_list<int> axes, bool keepdim) const {
  return lpf::sum(*this, Axes(axes), keepdim);
}

/// Sums x over the axes along which `shape` was broadcast to x's: the adjoint of expand().
LPF_ONCE Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const int lead = x.rank() - shape.rank();
  Axes axes;
  for (int i = 0; i < x.rank(); ++i)
    if (i < lead || (shape[i - lead] == 1 && x.shape()[i] != 1)) axes.push_back(i);
  return reshape(axes.empty() ? x : sum(x, axes), shape);
}

namespace detail {
/// x/n, rounded once: x·(1/n) is rounded twice, and the mean of 41 ones would not be 1.
LPF_ONCE Tensor divided(const Tensor& x, double n) { return div(x, full({}, n, x.options())); }
}  // namespace detail

/// Mean over the given axes (all if empty), for bfloat16 in float32; NaN over no elements.
LPF_ONCE Tensor mean(const Tensor& x, const Axes& axes = {}, bool keepdim = false) {
  detail::check_floating("mean", x);
  std::int64_t n = 1;
  for (int a : detail::reduced_axes("mean", axes, x.rank())) n *= x.shape()[a];
  return detail::divided(sum(x, axes, keepdim), static_cast<double>(n));
}
LPF_ONCE Tensor Tensor::mean(std::initializer_list<int> axes, bool keepdim) const {
  return lpf::mean(*this, Axes(axes), keepdim);
}

/// Variance over the given axes, with divisor n − correction (PyTorch's default is 1).
LPF_ONCE Tensor var(const Tensor& input, const Axes& axes = {}, double correction = 1, bool keepdim = false) {
  detail::check_floating("var", input);
  const Tensor x = detail::to_float32(input);
  const Axes over = detail::reduced_axes("var", axes, x.rank());
  detail::check_each_sample("var", x, over);
  std::int64_t n = 1;
  for (int a : over) n *= x.shape()[a];
  const Tensor near = sub(x, mean(x, axes, true));
  const Tensor centred = sub(near, mean(near, axes, true));  // a large mean is rounded: what is left of it
  return detail::divided(sum(mul(centred, centred), axes, keepdim),
                         std::max(0.0, static_cast<double>(n) - correction));
}

namespace detail {

/// The normalised `axis` for an extremum, which must not be empty.
LPF_ONCE int extremum_axis(const char* operation, const Tensor& x, int axis) {
  check_plain(operation, x);
  axis = normalize_axis(operation, axis, x.rank());
  check<ShapeError>(x.shape()[axis] > 0, operation, "axis ", axis, " of shape ", x.shape(), " is empty");
  return axis;
}
LPF_ONCE Tensor arg_extremum(const char* operation, backend::Reduce op, const Tensor& x, int axis,
                             bool keepdim) {
  axis = extremum_axis(operation, x, axis);
  const Tensor y = reduce_run(op, x.detach(), axis, 1, DType::int64);
  return keepdim ? y : squeeze(y, axis);
}

}  // namespace detail

/// Index of the maximum (minimum) along an axis, the first of equals; int64.
LPF_ONCE Tensor argmax(const Tensor& x, int axis, bool keepdim = false) {
  return detail::arg_extremum("argmax", backend::Reduce::argmax, x, axis, keepdim);
}
LPF_ONCE Tensor argmin(const Tensor& x, int axis, bool keepdim = false) {
  return detail::arg_extremum("argmin", backend::Reduce::argmin, x, axis, keepdim);
}
LPF_ONCE Tensor Tensor::argmax(int axis) const { return lpf::argmax(*this, axis); }

namespace detail {
LPF_ONCE Tensor of_bools(backend::Reduce op, const Tensor& x) {
  if (x.is_replicated())
    return on_each_replica(
        x,
        [op](const Tensor& t) {
          return reduce_run(op, t.detach().to(DType::bool_), 1, t.rank() - 1, DType::bool_)
              .reshape(Shape{t.shape()[0]});
        },
        BatchMean::kept);
  return reduce_run(op, x.detach().to(DType::bool_), 0, x.rank(), DType::bool_).reshape(Shape{});
}
}  // namespace detail

/// True if all (any) elements are true; of rank 0. Of replicas: each its own.
LPF_ONCE Tensor all(const Tensor& x) { return detail::of_bools(backend::Reduce::all, x); }
LPF_ONCE Tensor any(const Tensor& x) { return detail::of_bools(backend::Reduce::any, x); }

/// Product over one axis, 1 over none, by halving: derivatives of any order are exact, also where factors are
/// 0. Integers and bools are multiplied in int64, bfloat16 in float32.
LPF_ONCE Tensor prod(const Tensor& x, int axis, bool keepdim = false) {
  axis = normalize_axis("prod", axis, x.rank());
  detail::check_own_values("prod", x);
  detail::check_each_sample("prod", x, {axis});
  Tensor y = is_floating(x.dtype()) ? detail::to_float32(x) : x.to(DType::int64);
  if (x.shape()[axis] == 0) y = affine(sum(y, {axis}, true), 1, 1);  // with the history of y
  while (y.shape()[axis] > 1) {
    const std::int64_t n = y.shape()[axis], half = n / 2;
    Tensor pairs = mul(slice(y, axis, 0, half), slice(y, axis, half, 2 * half));
    y = n % 2 ? concatenate({pairs, slice(y, axis, n - 1, n)}, axis) : pairs;
  }
  return keepdim ? y : squeeze(y, axis);
}

}  // namespace lpf
