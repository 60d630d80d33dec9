// Operations that only rearrange elements. Reshaping and slices of the first axis
// share memory; the others copy.
#pragma once

#include <algorithm>
#include <numeric>

#include "lpf/ops/replica_dim.hpp"

namespace lpf {

/// The same elements in another shape (a view).
LPF_ONCE Tensor reshape(const Tensor& x, const Shape& shape) {
  if (x.is_replicated())
    return detail::on_each_replica(
        x, [&](const Tensor& t) { return reshape(t, shape.prepended(t.shape()[0])); },
        detail::BatchMean::kept);
  check<ShapeError>(shape.numel() == x.numel(), "reshape", "shape ", x.shape(), " has ", x.numel(),
                    " elements, ", shape, " has ", shape.numel());
  Tensor y = x.alias(shape);
  if (x.impl().sample_axis >= 0) {  // split, folded, or behind new axes of size 1
    int axis = 0;
    const std::int64_t before = x.shape().product(0, x.impl().sample_axis);
    while (axis < shape.rank() && (shape[axis] == 1 || shape.product(0, axis) < before)) ++axis;
    const bool found = axis < shape.rank() && shape.product(0, axis) == before;
    y.impl().sample_axis = found ? static_cast<std::int8_t>(axis) : x.impl().mixed_axis;
  }
  return record("reshape", std::move(y), {x},
                [from = x.shape()](const Tensor& g, Need) { return Grads{reshape(g, from)}; });
}
LPF_ONCE Tensor Tensor::reshape(Shape shape) const { return lpf::reshape(*this, shape); }
/// One of the sizes may be −1: it is inferred.
LPF_ONCE Tensor Tensor::reshape(std::initializer_list<std::int64_t> sizes) const {
  std::int64_t known = 1;
  int open = 0;
  for (auto s : sizes) s == -1 ? static_cast<void>(++open) : static_cast<void>(known *= s);
  check<ShapeError>(open <= 1, "reshape", "only one size can be -1");
  check<ShapeError>(open == 0 || (known > 0 && numel() % known == 0), "reshape", "a tensor of shape ",
                    shape(), " cannot fill sizes whose product is ", known, " with one left open");
  Shape to;
  for (auto s : sizes) to.push_back(s == -1 ? numel() / known : s);
  return lpf::reshape(*this, to);
}

/// Merges axes from … to into one.
LPF_ONCE Tensor flatten(const Tensor& x, int from = 0, int to = -1) {
  if (x.rank() == 0) return reshape(x, {1});
  from = normalize_axis("flatten", from, x.rank());
  to = normalize_axis("flatten", to, x.rank());
  check<ShapeError>(from <= to, "flatten", "axis ", from, " comes after axis ", to);
  Shape shape = x.shape().slice(0, from);
  shape.push_back(x.shape().product(from, to + 1));
  for (int i = to + 1; i < x.rank(); ++i) shape.push_back(x.shape()[i]);
  return reshape(x, shape);
}
LPF_ONCE Tensor Tensor::flatten(int from, int to) const { return lpf::flatten(*this, from, to); }

LPF_ONCE Tensor squeeze(const Tensor& x, int axis) {
  axis = normalize_axis("squeeze", axis, x.rank());
  check<ShapeError>(x.shape()[axis] == 1, "squeeze", "axis ", axis, " of shape ", x.shape(),
                    " is not of size 1");
  return reshape(x, x.shape().without(axis));
}
LPF_ONCE Tensor unsqueeze(const Tensor& x, int axis) {
  axis = normalize_axis("unsqueeze", axis, x.rank() + 1);
  Shape shape = x.shape().slice(0, axis);
  shape.push_back(1);
  for (int i = axis; i < x.rank(); ++i) shape.push_back(x.shape()[i]);
  return reshape(x, shape);
}
LPF_ONCE Tensor Tensor::squeeze(int axis) const { return lpf::squeeze(*this, axis); }
LPF_ONCE Tensor Tensor::unsqueeze(int axis) const { return lpf::unsqueeze(*this, axis); }

namespace detail {
Tensor expand_replicas(const Tensor& x, const Shape& shape);  // ops/replicate.hpp
}  // namespace detail

/// Repeats x along axes of size 1 and new leading axes up to `shape`. A parameter of a perturbed pass that is
/// repeated along a first axis of as many rows as there are samples, or a multiple, becomes an activation, in which
/// each sample has its replica (a class token); repeated along others it stays a parameter.
LPF_ONCE Tensor expand(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  if (x.is_replicated()) return detail::expand_replicas(x, shape);
  check<ShapeError>(x.rank() <= shape.rank() && broadcast("expand", x.shape(), shape) == shape, "expand",
                    "shape ", x.shape(), " does not expand to ", shape);
  Tensor y = empty(shape, x.options());
  if (x.impl().from_samples) detail::follow_broadcast("expand", y, {x});
  x.backend().assign(detail::view_of(y), detail::view_as(x, shape));
  return record("expand", std::move(y), {x},
                [from = x.shape()](const Tensor& g, Need) { return Grads{sum_to(g, from)}; });
}

/// Axis i of the result is axis axes[i] of x.
LPF_ONCE Tensor permute(const Tensor& x, const Axes& axes) {
  if (x.is_replicated()) {
    Axes shifted{0};
    for (int a : axes) shifted.push_back(normalize_axis("permute", a, x.rank()) + 1);
    return detail::on_each_replica(
        x, [&](const Tensor& t) { return permute(t, shifted); }, detail::BatchMean::kept);
  }
  check<ShapeError>(static_cast<int>(axes.size()) == x.rank(), "permute", axes.size(),
                    " axes given for a tensor of shape ", x.shape());
  const auto strides = x.shape().strides();
  backend::View from{x.raw(), x.dtype(), x.rank(), {}, {}};
  Shape shape;
  Axes inverse(axes.size(), -1);
  for (int i = 0; i < x.rank(); ++i) {
    const int a = normalize_axis("permute", axes[static_cast<std::size_t>(i)], x.rank());
    check<ShapeError>(inverse[static_cast<std::size_t>(a)] < 0, "permute", "axis ", a, " is named twice");
    inverse[static_cast<std::size_t>(a)] = i;
    shape.push_back(x.shape()[a]);
    from.shape[i] = x.shape()[a];
    from.stride[i] = strides[static_cast<std::size_t>(a)];
  }
  Tensor y = empty(shape, x.options());
  x.backend().assign(detail::view_of(y), from);
  if (const int axis = x.impl().sample_axis; axis >= 0)
    y.impl().sample_axis = static_cast<std::int8_t>(inverse[static_cast<std::size_t>(axis)]);
  return record("permute", std::move(y), {x},
                [inverse](const Tensor& g, Need) { return Grads{permute(g, inverse)}; });
}
LPF_ONCE Tensor Tensor::permute(std::initializer_list<int> axes) const {
  return lpf::permute(*this, Axes(axes));
}

/// Exchanges two axes; by default the last two.
LPF_ONCE Tensor transpose(const Tensor& x, int axis0 = -2, int axis1 = -1) {
  axis0 = normalize_axis("transpose", axis0, x.rank());
  axis1 = normalize_axis("transpose", axis1, x.rank());
  Axes axes(static_cast<std::size_t>(x.rank()));
  std::iota(axes.begin(), axes.end(), 0);
  std::swap(axes[static_cast<std::size_t>(axis0)], axes[static_cast<std::size_t>(axis1)]);
  return permute(x, axes);
}
LPF_ONCE Tensor Tensor::transpose(int axis0, int axis1) const { return lpf::transpose(*this, axis0, axis1); }

namespace detail {

/// The part of x that slice() returns, as a strided view.
LPF_ONCE backend::View strided_part(const Tensor& x, int axis, std::int64_t start, std::int64_t count,
                                    std::int64_t step) {
  backend::View v = view_of(x);
  v.data =
      static_cast<std::byte*>(v.data) + static_cast<std::size_t>(start * v.stride[axis]) * size_of(x.dtype());
  v.shape[axis] = count;
  v.stride[axis] *= step;
  return v;
}

/// Zeros of `shape` with x in the places that slice() reads: the adjoint of slice().
LPF_ONCE Tensor place(const Tensor& x, const Shape& shape, int axis, std::int64_t start, std::int64_t step) {
  Tensor y = zeros(shape, x.options());
  if (x.numel() > 0) x.backend().assign(strided_part(y, axis, start, x.shape()[axis], step), view_of(x));
  return record("place", std::move(y), {x},
                [axis, start, step, count = x.shape()[axis]](const Tensor& g, Need) {
                  return Grads{slice(g, axis, start, start + count * step, step)};
                });
}

}  // namespace detail

/// Elements start, start + step, … of one axis, up to but excluding stop; negative bounds count from the end.
/// A slice of the first axis with step 1 is a view.
LPF_ONCE Tensor slice(const Tensor& x, int axis, std::int64_t start, std::int64_t stop, std::int64_t step) {
  axis = normalize_axis("slice", axis, x.rank());
  if (x.is_replicated())
    return detail::on_each_replica(
        x, [&](const Tensor& t) { return slice(t, axis + 1, start, stop, step); }, detail::BatchMean::kept);
  check(step > 0, "slice", "step must be positive, got ", step);
  const std::int64_t n = x.shape()[axis];
  start = std::clamp<std::int64_t>(start < 0 ? start + n : start, 0, n);
  stop = std::clamp<std::int64_t>(stop < 0 ? stop + n : stop, start, n);
  step = std::min(step, std::max<std::int64_t>(n, 1));  // selects the same elements, and cannot overflow
  const std::int64_t count = (stop - start + step - 1) / step;
  const Shape shape = x.shape().with(axis, count);
  Tensor y;
  if (step == 1 && x.shape().product(0, axis) == 1) {
    static_cast<void>(x.raw());
    y = x.alias(shape, start * x.shape().product(axis + 1, x.rank()));
  } else {
    y = empty(shape, x.options());
    if (y.numel() > 0)
      x.backend().assign(detail::view_of(y), detail::strided_part(x, axis, start, count, step));
  }
  y.impl().sample_axis = x.impl().sample_axis;  // also of a part of the samples
  return record("slice", std::move(y), {x}, [from = x.shape(), axis, start, step](const Tensor& g, Need) {
    return Grads{detail::place(g, from, axis, start, step)};
  });
}
LPF_ONCE Tensor Tensor::slice(int axis, std::int64_t start, std::int64_t stop, std::int64_t step) const {
  return lpf::slice(*this, axis, start, stop, step);
}

/// `length` elements of one axis from `start`; IndexError if they do not exist.
LPF_ONCE Tensor narrow(const Tensor& x, int axis, std::int64_t start, std::int64_t length) {
  axis = normalize_axis("narrow", axis, x.rank());
  check<IndexError>(
      start >= 0 && length >= 0 && length <= x.shape()[axis] && start <= x.shape()[axis] - length, "narrow",
      length, " elements from ", start, " on are not all inside axis ", axis, " of shape ", x.shape());
  return slice(x, axis, start, start + length);
}
LPF_ONCE Tensor Tensor::narrow(int axis, std::int64_t start, std::int64_t length) const {
  return lpf::narrow(*this, axis, start, length);
}
LPF_ONCE Tensor Tensor::operator[](std::int64_t index) const {
  check<IndexError>(rank() > 0, "index", "a scalar has no axis to index");
  const std::int64_t n = shape()[0], i = index < 0 ? index + n : index;
  check<IndexError>(i >= 0 && i < n, "index", "index ", index, " is outside the first axis of shape ",
                    shape());
  return lpf::squeeze(lpf::slice(*this, 0, i, i + 1), 0);
}

Tensor concatenate(std::span<const Tensor> parts, int axis = 0);
namespace detail {
/// Replicas joined, with constants among them that are the same for all replicas.
LPF_ONCE Tensor concatenate_replicas(std::span<const Tensor> parts, int axis, const PlanPtr& plan) {
  std::vector<Tensor> all;
  for (const Tensor& p : parts) {
    check<ReplicaError>(p.is_replicated() ? p.impl().replicas == plan : !p.impl().from_samples, "concatenate",
                        p.is_replicated() ? "the operands are replicas of two different perturbed passes"
                                          : "a perturbed parameter meets an activation of shape ",
                        p.is_replicated() ? Shape() : p.shape(),
                        ": give it the axis of the samples, expand(parameter, {B, …})");
    all.push_back(p.is_replicated() ? remove_replica_dim(p, BatchMean::kept)
                                    : expand(p, p.shape().prepended(plan->count())));
  }
  return add_replica_dim(concatenate(all, axis + 1), plan);
}
}  // namespace detail

/// Joins tensors along an existing axis; the other sizes must agree.
LPF_ONCE Tensor concatenate(std::span<const Tensor> parts, int axis) {
  check<ShapeError>(!parts.empty(), "concatenate", "there is nothing to join");
  axis = normalize_axis("concatenate", axis, parts[0].rank());
  for (const Tensor& p : parts)
    if (p.is_replicated()) return detail::concatenate_replicas(parts, axis, p.impl().replicas);
  std::int64_t total = 0;
  for (const Tensor& p : parts) {
    if (detail::is_cast("concatenate", parts[0], p)) {
      std::vector<Tensor> wide;
      for (const Tensor& q : parts) wide.push_back(detail::to_float32(q));
      return concatenate(wide, axis);
    }
    detail::check_same_kind("concatenate", parts[0], p);
    detail::check_mean_beside("concatenate", parts[0], p, true);
    check<ShapeError>(
        p.rank() == parts[0].rank() && p.shape().with(axis, 0) == parts[0].shape().with(axis, 0),
        "concatenate", "shapes ", parts[0].shape(), " and ", p.shape(), " differ outside axis ", axis);
    total += p.shape()[axis];
  }
  Tensor y = empty(parts[0].shape().with(axis, total), parts[0].options());
  std::vector<std::int64_t> begin;
  std::int64_t at = 0;
  for (const Tensor& p : parts) {
    if (p.numel() > 0)
      y.backend().assign(detail::strided_part(y, axis, at, p.shape()[axis], 1), detail::view_of(p));
    begin.push_back(at);
    at += p.shape()[axis];
  }
  begin.push_back(at);
  for (const Tensor& p : parts)  // one batch behind another: no longer slice by slice
    if (p.impl().sample_axis == axis) y.impl().sample_axis = p.impl().mixed_axis;
  return record("concatenate", std::move(y), parts, [axis, begin](const Tensor& g, Need need) {
    Grads grads(need.size());
    for (std::size_t i = 0; i < need.size(); ++i)
      if (need[i]) grads[i] = slice(g, axis, begin[i], begin[i + 1]);
    return grads;
  });
}
LPF_ONCE Tensor concatenate(std::initializer_list<Tensor> parts, int axis = 0) {
  return concatenate(std::span(parts.begin(), parts.size()), axis);
}

/// Joins tensors of one shape along a new axis.
LPF_ONCE Tensor stack(std::span<const Tensor> parts, int axis = 0) {
  check<ShapeError>(!parts.empty(), "stack", "there is nothing to stack");
  std::vector<Tensor> expanded;
  for (const Tensor& p : parts) {
    check<ShapeError>(p.shape() == parts[0].shape(), "stack", "shapes ", parts[0].shape(), " and ", p.shape(),
                      " differ");
    expanded.push_back(unsqueeze(p, axis));
  }
  return concatenate(expanded, axis < 0 ? axis + parts[0].rank() + 1 : axis);
}
LPF_ONCE Tensor stack(std::initializer_list<Tensor> parts, int axis = 0) {
  return stack(std::span(parts.begin(), parts.size()), axis);
}

/// Consecutive parts of `size` along an axis; the last may be shorter. An empty axis gives one empty part.
LPF_ONCE std::vector<Tensor> split(const Tensor& x, std::int64_t size, int axis = 0) {
  axis = normalize_axis("split", axis, x.rank());
  check(size > 0, "split", "size must be positive, got ", size);
  std::vector<Tensor> parts;
  const std::int64_t n = x.shape()[axis];
  size = std::min(size, std::max<std::int64_t>(n, 1));
  for (std::int64_t at = 0; at == 0 || at < n; at += size) parts.push_back(slice(x, axis, at, at + size));
  return parts;
}

/// A copy with its own memory.
LPF_ONCE Tensor clone(const Tensor& x) {
  if (x.is_replicated())
    return detail::on_each_replica(
        x, [](const Tensor& t) { return clone(t); }, detail::BatchMean::kept);
  Tensor y = empty_like(x);
  x.backend().copy(y.raw(), x.raw(), static_cast<std::size_t>(x.numel()) * size_of(x.dtype()));
  return record("clone", std::move(y), {x}, [](const Tensor& g, Need) { return Grads{g}; });
}
LPF_ONCE Tensor Tensor::clone() const { return lpf::clone(*this); }

/// The elements (of all replicas) converted to another dtype; x itself if it already has it.
LPF_ONCE Tensor Tensor::to(DType dtype) const {
  if (dtype == this->dtype()) return *this;
  const PlanPtr plan = impl().replicas;
  const Tensor from = alias(plan ? shape().prepended(plan->count()) : shape());
  Tensor y = empty(from.shape(), {dtype, device()});
  if (y.numel() > 0) backend().assign(detail::view_of(y), detail::view_of(from));
  if (plan) {
    y = y.alias(shape());
    y.impl().replicas = plan;
    y.impl().sum_gradient = impl().sum_gradient;
  }
  y = record("to", std::move(y), {*this},
             [from = this->dtype()](const Tensor& g, Need) { return Grads{g.to(from)}; });
  if (dtype == bfloat16 && y.node()) y.node()->set_gradient_dtype(this->dtype());
  return y;
}

LPF_ONCE void Tensor::copy_to_host(DType type, void* to) const {
  const Tensor x = detach().to(type);
  backend().copy_to_host(to, x.raw(), static_cast<std::size_t>(x.numel()) * size_of(type));
}

/// The elements on another device; x itself if it is already there.
LPF_ONCE Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  Tensor y = empty(shape(), {dtype(), device});
  const auto bytes = static_cast<std::size_t>(numel()) * size_of(dtype());
  if (this->device().is_cpu()) {
    y.backend().copy_from_host(y.raw(), raw(), bytes);
  } else {
    check<DeviceError>(device.is_cpu(), "to", "copies between two GPUs are not supported");
    backend().copy_to_host(y.raw(), raw(), bytes);
  }
  return record("to", std::move(y), {*this},
                [from = this->device()](const Tensor& g, Need) { return Grads{g.to(from)}; });
}

LPF_ONCE const Tensor& Tensor::copy_(const Tensor& source) const {
  check<ShapeError>(source.shape() == shape(), "copy_", "source has shape ", source.shape(), ", destination ",
                    shape());
  detail::check_in_place("copy_", *this);
  const Tensor here = source.detach().to(device());
  if (numel() > 0) backend().assign(detail::view_of(*this), detail::view_of(here));
  return *this;
}
LPF_ONCE const Tensor& Tensor::fill_(double value) const {
  detail::check_in_place("fill_", *this);
  backend().fill(raw(), dtype(), numel(), value);
  return *this;
}

}  // namespace lpf
