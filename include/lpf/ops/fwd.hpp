// Declarations of the operations that are used in other operations' backward functions.
#pragma once

#include <span>
#include <vector>

#include "lpf/autograd/autocast.hpp"

namespace lpf {

using Axes = std::vector<int>;

// arithmetic.hpp
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor affine(const Tensor& x, double a, double b);
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);

// shape.hpp
Tensor reshape(const Tensor& x, const Shape& shape);
Tensor expand(const Tensor& x, const Shape& shape);
Tensor permute(const Tensor& x, const Axes& axes);
Tensor slice(const Tensor& x, int axis, std::int64_t start, std::int64_t stop, std::int64_t step = 1);

// replicate.hpp
Tensor per_sample(const Tensor& parameter, const Tensor& x);

// reduce.hpp
Tensor sum(const Tensor& x, const Axes& axes = {}, bool keepdim = false);
Tensor sum_to(const Tensor& x, const Shape& shape);

namespace detail {

LPF_ONCE void check_same_kind(const char* operation, const Tensor& a, const Tensor& b) {
  check<DTypeError>(a.dtype() == b.dtype(), operation, "operands are ", name_of(a.dtype()), " and ",
                    name_of(b.dtype()), ": convert one with .to(dtype)");
  check<DeviceError>(a.device() == b.device(), operation, "operands are on ", a.device(), " and ", b.device(),
                     ": move one with .to(device)");
}

LPF_ONCE void check_floating(const char* operation, const Tensor& x) {
  check<DTypeError>(is_floating(x.dtype()), operation, "needs float32 or float64, got ", name_of(x.dtype()),
                    ": convert with .to(float32)");
}

/// ReplicaError unless x is a plain tensor: for operations that have no rule for replicas.
LPF_ONCE void check_plain(const char* operation, const Tensor& x) {
  check<ReplicaError>(!x.is_replicated(), operation,
                      "has no rule for replicas: a replicated parameter of shape ", x.shape(),
                      " (M = ", x.is_replicated() ? x.impl().replicas->count() : 0,
                      ") must be applied with linear(), conv2d(), embedding(), or per_sample(parameter, x)");
}

/// Notes on y the axis along which the samples lie in operands that are broadcast to its shape.
/// @throws ReplicaError if they lie along different axes, or if the samples of one operand meet, along another
/// axis, as many rows of y that may be samples.
LPF_ONCE void follow_broadcast(const char* operation, const Tensor& y, const Operands& operands) {
  const Shape& shape = y.shape();
  int first = -1, last = -1;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const Tensor& x = operands[i];
    if (x.impl().sample_axis < 0) continue;
    const int lead = shape.rank() - x.rank(), axis = lead + x.impl().sample_axis;
    const bool repeated = axis > 0 && shape[0] != 1 && (lead > 0 || x.shape()[0] == 1);
    const bool other = last >= 0 && axis != last;
    last = std::max(last, axis);
    first = first < 0 ? axis : std::min(first, axis);
    check<ReplicaError>(
        !other && !(repeated && shape[0] == shape[axis]), operation, "the ", shape[last],
        " samples of one operand, each with the replica of its slice, would go along axis ", last, " of ",
        shape, ", whose samples are along axis ", other ? first : 0,
        ": read rows that are the same for all samples (positions) with Embedding::rows(), or "
        "embedding(…, {.batched = false})");
  }
  y.impl().sample_axis = static_cast<std::int8_t>(last);
}

/// ReplicaError if the samples of x, computed in a perturbed pass, do not lie along its first axis.
LPF_ONCE void check_samples_first(const char* operation, const Tensor& x) {
  const auto& of = x.impl();
  check<ReplicaError>(
      !of.from_samples || of.sample_axis == 0 || of.sample_axis == of.unknown_axis, operation,
      "a perturbed parameter meets an activation of shape ", x.shape(), ", in which the samples ",
      of.sample_axis < 0 ? "were summed or mixed" : "do not lie along the first axis: permute it");
}

/// ReplicaError for a function over the samples that separate passes would compute slice by slice: where x was
/// computed in a perturbed pass, and its samples lie along one of `axes`.
LPF_ONCE void check_each_sample(const char* operation, const Tensor& x, const Axes& axes) {
  const auto& of = x.impl();
  if (!of.from_samples || !is_grad_enabled() || !x.requires_grad()) return;
  bool over = false;
  for (const int axis : axes) over |= axis == of.sample_axis;
  check<ReplicaError>(
      !over, operation, "is not linear, and goes over the samples (axis ", int{of.sample_axis},
      ") of an activation ", x.shape(),
      " of a perturbed pass, where each slice is a pass of its "
      "own: compute it for each sample, or for each slice from slice_mean(values, parameter)");
}
/// The same for a function of a mean over the batch.
LPF_ONCE void check_not_batch_mean(const char* operation, const Tensor& x) {
  check<ReplicaError>(
      x.rank() > 0 || !x.impl().from_samples || !is_grad_enabled() || !x.requires_grad() ||
          backward_read.operation,
      operation,
      "is not linear, and is applied to a mean (or sum) over the batch of a perturbed "
      "pass, where each slice is a pass of its own: use slice_mean(losses, parameter), the means "
      "of the slices as replicas; detach() it to look at its value");
}

/// x as a strided view that broadcasts to `shape`.
LPF_ONCE backend::View view_as(const Tensor& x, const Shape& shape) {
  backend::View v{x.raw(), x.dtype(), shape.rank(), {}, {}};
  const auto strides = x.shape().strides();
  const int lead = shape.rank() - x.rank();
  for (int i = 0; i < shape.rank(); ++i) {
    v.shape[i] = shape[i];
    const bool broadcast_axis = i < lead || (x.shape()[i - lead] == 1 && shape[i] != 1);
    v.stride[i] = broadcast_axis ? 0 : strides[static_cast<std::size_t>(i - lead)];
  }
  return v;
}
LPF_ONCE backend::View view_of(const Tensor& x) { return view_as(x, x.shape()); }

}  // namespace detail

}  // namespace lpf
