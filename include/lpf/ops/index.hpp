// Gather and scatter by index. Indices are int64 tensors; each is checked against its axis.
#pragma once

#include <concepts>

#include "lpf/ops/arithmetic.hpp"

namespace lpf {

namespace detail {

/// IndexError unless every index is in [0, n), DeviceError unless they are on
/// the device of the indexed tensor.
LPF_ONCE void check_indices(const char* operation, const Tensor& index, std::int64_t n,
                            const Tensor& indexed) {
  check<DTypeError>(index.dtype() == DType::int64, operation, "indices are ", name_of(index.dtype()),
                    ", need int64");
  check<DeviceError>(index.device() == indexed.device(), operation, "the indices are on ", index.device(),
                     ", what they index is on ", indexed.device(), ": move one with .to(device)");
  if (index.numel() == 0 || !index.device().is_cpu())
    return;  // on a device, the kernels check, without synchronisation
  const std::int64_t* i = index.data<std::int64_t>();
  for (std::int64_t k = 0; k < index.numel(); ++k)
    check<IndexError>(i[k] >= 0 && i[k] < n, operation, "index ", i[k], " is outside [0, ", n, ")");
}

inline const std::int64_t* indices_of(const Tensor& index) {
  return static_cast<const std::int64_t*>(index.raw());
}

Tensor index_add(const Tensor& y, const Shape& shape, int axis, const Tensor& index);
Tensor scatter_add(const Tensor& y, const Shape& shape, int axis, const Tensor& index);

}  // namespace detail

/// Entries `index` (rank 1) of one axis. NumPy's take, PyTorch's index_select. Of replicas: each its own, but along
/// the first axis, where it is embedding() that says which replica a row is read from. @throws ReplicaError there.
LPF_ONCE Tensor index_select(const Tensor& x, int axis, const Tensor& index) {
  axis = normalize_axis("index_select", axis, x.rank());
  if (x.is_replicated()) {
    check<ReplicaError>(
        axis > 0, "index_select", "whether ", index.numel(),
        " rows of a perturbed parameter are one a sample cannot be "
        "told: read them with embedding(), or, the same for all samples, Embedding::rows() or "
        "embedding(…, {.batched = false})");
    return detail::on_each_replica(
        x, [&](const Tensor& t) { return index_select(t, axis + 1, index); }, detail::BatchMean::kept);
  }
  check<ShapeError>(index.rank() == 1, "index_select", "the index has shape ", index.shape(),
                    ", needs rank 1");
  detail::check_indices("index_select", index, x.shape()[axis], x);
  const std::int64_t count = index.numel();
  Tensor y = empty(x.shape().with(axis, count), x.options());
  x.backend().take(x.dtype(), x.shape().product(0, axis), x.shape()[axis],
                   x.shape().product(axis + 1, x.rank()), count, x.raw(), detail::indices_of(index), y.raw());
  if (x.impl().sample_axis == axis) y.impl().sample_axis = x.impl().mixed_axis;  // in another order
  return record("index_select", std::move(y), {x}, [axis, index, from = x.shape()](const Tensor& g, Need) {
    return Grads{detail::index_add(g, from, axis, index)};
  });
}

namespace detail {
/// The first elements of x along each axis, as many as `shape` has.
LPF_ONCE Tensor corner(Tensor x, const Shape& shape) {
  for (int i = 0; i < x.rank(); ++i)
    if (shape[i] != x.shape()[i]) x = slice(x, i, 0, shape[i]);
  return x;
}
}  // namespace detail

/// y[…, j, …] = x[…, index[…, j, …], …], of the index's shape, which may not exceed x's but along `axis`.
/// PyTorch's gather, NumPy's take_along_axis.
LPF_ONCE Tensor gather(const Tensor& x, int axis, const Tensor& index) {
  detail::check_plain("gather", x);
  axis = normalize_axis("gather", axis, x.rank());
  bool fits = index.rank() == x.rank(), covers = fits;
  for (int i = 0; fits && i < x.rank(); ++i) {
    if (i == axis) continue;
    fits = index.shape()[i] <= x.shape()[i];
    covers = covers && index.shape()[i] == x.shape()[i];
  }
  check<ShapeError>(fits, "gather", "the index ", index.shape(), " may be no larger than the shape ",
                    x.shape(), " but along axis ", axis);
  if (!covers) return gather(detail::corner(x, index.shape().with(axis, x.shape()[axis])), axis, index);
  detail::check_indices("gather", index, x.shape()[axis], x);
  Tensor y = empty(index.shape(), x.options());
  x.backend().gather(x.dtype(), x.shape().product(0, axis), x.shape()[axis],
                     x.shape().product(axis + 1, x.rank()), index.shape()[axis], x.raw(),
                     detail::indices_of(index), y.raw());
  return record("gather", std::move(y), {x}, [axis, index, from = x.shape()](const Tensor& g, Need) {
    return Grads{detail::scatter_add(g, from, axis, index)};
  });
}

namespace detail {

/// Adds y to the entries `index` of one axis of zeros of `shape`: the adjoint of index_select().
LPF_ONCE Tensor index_add(const Tensor& y, const Shape& shape, int axis, const Tensor& index) {
  if (y.dtype() == bfloat16) return index_add(to_float32(y), shape, axis, index);
  Tensor x = zeros(shape, y.options());
  y.backend().index_add(y.dtype(), shape.product(0, axis), shape[axis], shape.product(axis + 1, shape.rank()),
                        index.numel(), y.raw(), indices_of(index), x.raw());
  return record("index_add", std::move(x), {y},
                [axis, index](const Tensor& g, Need) { return Grads{index_select(g, axis, index)}; });
}

/// The adjoint of gather().
LPF_ONCE Tensor scatter_add(const Tensor& y, const Shape& shape, int axis, const Tensor& index) {
  if (y.dtype() == bfloat16) return scatter_add(to_float32(y), shape, axis, index);
  Tensor x = zeros(shape, y.options());
  y.backend().scatter_add(y.dtype(), shape.product(0, axis), shape[axis],
                          shape.product(axis + 1, shape.rank()), index.shape()[axis], y.raw(),
                          indices_of(index), x.raw());
  return record("scatter_add", std::move(x), {y},
                [axis, index](const Tensor& g, Need) { return Grads{gather(g, axis, index)}; });
}

/// The maximum (minimum) over `axes`, ascending; those stay with size 1.
LPF_ONCE Tensor extreme_value_over(const char* name, bool largest, const Tensor& x, const Axes& axes) {
  const auto op = largest ? backend::Reduce::max : backend::Reduce::min;
  Tensor y = reduce(op, x.detach(), axes, x.dtype());
  return record(name, y, {x}, [x, y = y.detach(), axes](const Tensor& g, Need) {
    const DType wide = accumulation_dtype(x.dtype());
    const Tensor ties = (x.detach() == y).to(wide);
    return Grads{mul(ties, div(g.to(wide), sum(ties, axes, true))).to(g.dtype())};
  });
}

LPF_ONCE Tensor extreme_value(const char* name, bool largest, const Tensor& x, const Axes& axes,
                              bool keepdim) {
  const Axes over = reduced_axes(name, axes, x.rank());
  for (const int axis : over)
    check<ShapeError>(x.shape()[axis] > 0, name, "axis ", axis, " of shape ", x.shape(), " is empty");
  if (over.empty()) return clone(x);  // a scalar
  check_each_sample(name, x, over);
  const auto extreme = [&](const Tensor& t, const Axes& a) {
    return extreme_value_over(name, largest, t, a);
  };
  const Tensor y =
      x.is_replicated() ? reduce_replicas(extreme, x, over, BatchMean::refused, name) : extreme(x, over);
  return keepdim ? y : reshape(y, without_axes(x.shape(), over));
}

}  // namespace detail

/// Maximum (minimum) over the given axes (all if empty), NaN if there is one. Equal elements share the gradient
/// evenly, as in PyTorch. Of replicas: each its own.
/// @throws ShapeError for an axis that x does not have, that is named twice, or that is empty.
LPF_ONCE Tensor amax(const Tensor& x, const Axes& axes = {}, bool keepdim = false) {
  return detail::extreme_value("amax", true, x, axes, keepdim);
}
LPF_ONCE Tensor amin(const Tensor& x, const Axes& axes = {}, bool keepdim = false) {
  return detail::extreme_value("amin", false, x, axes, keepdim);
}
/// Over one axis. A template, so that {} means all axes and not axis 0.
template <std::same_as<int> Axis>
Tensor amax(const Tensor& x, Axis axis, bool keepdim = false) {
  return amax(x, Axes{axis}, keepdim);
}
template <std::same_as<int> Axis>
Tensor amin(const Tensor& x, Axis axis, bool keepdim = false) {
  return amin(x, Axes{axis}, keepdim);
}
LPF_ONCE Tensor Tensor::max() const { return amax(*this); }
LPF_ONCE Tensor Tensor::min() const { return amin(*this); }

/// One-hot vectors: [shape…, classes] of `dtype`.
LPF_ONCE Tensor one_hot(const Tensor& labels, std::int64_t classes, DType dtype = DType::float32) {
  check(classes > 0, "one_hot", "the number of classes must be positive, got ", classes);
  detail::check_indices("one_hot", labels, classes, labels);
  const std::int64_t n = labels.numel();
  const auto off = no_grad();
  const Tensor rows =
      detail::scatter_add(ones({n, 1}, {dtype, labels.device()}), {n, classes}, 1, reshape(labels, {n, 1}));
  Shape shape = labels.shape();
  shape.push_back(classes);
  return reshape(rows, shape).to(dtype);
}

}  // namespace lpf
