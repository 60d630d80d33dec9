// Where the samples of a perturbed pass lie in a tensor that was computed from them, and what is refused because M
// separate passes would have computed something else. follow_samples() (autograd/node.hpp) passes on what is known
// from operands to result; operations that move, sum or reorder axes set `sample_axis` themselves.
#pragma once

#include "lpf/ops/fwd.hpp"

namespace lpf::detail {

/// True if what is computed now is differentiated, and is not itself a gradient.
LPF_ONCE bool is_differentiated(const Tensor& x) {
  return is_grad_enabled() && x.requires_grad() && !backward_read.operation;
}

/// True for a mean (or sum) over the samples.
LPF_ONCE bool is_batch_mean(const Tensor& x) {
  const TensorImpl& of = x.impl();
  return of.from_samples && !x.is_replicated() && (x.rank() == 0 || of.sample_axis == of.summed_axis);
}

/// True if a plain tensor of this shape meets the replicas of `parameter` slice by slice: it has more axes, of
/// which the first is the batch, or the parameter has an axis of size 1 in the place of the batch. Of M > 1
/// replicas a batch has at least M samples.
LPF_ONCE bool is_activation(const Shape& shape, const Tensor& parameter) {
  if (shape.rank() < parameter.rank() || shape.rank() == 0) return false;
  const ReplicaPlan& plan = *parameter.impl().replicas;
  if (shape[0] == 1 && plan.count() > 1) return false;
  if (shape.rank() > parameter.rank()) return true;
  return parameter.shape()[0] == 1 && shape[0] != 1 &&
         (plan.count() == 1 || plan.batch() == 0 || shape[0] % plan.batch() == 0);
}
LPF_ONCE bool is_activation(const Tensor& x, const Tensor& parameter) {
  return !x.is_replicated() && !is_batch_mean(x) && is_activation(x.shape(), parameter);
}

/// What an elementwise function of (a, b) is linear in, for a batch mean among its operands.
enum class LinearIn { none, sum, either, first };

/// Checks a batch mean, plain or added to replicas, in an operation on replicas.
LPF_ONCE void check_batch_mean(const char* name, const Tensor& a, const Tensor& b, LinearIn linear) {
  const bool mean_a = a.impl().from_samples, mean_b = b.impl().from_samples;
  const bool varies_a = mean_a || a.is_replicated(), varies_b = mean_b || b.is_replicated();
  const bool fine = !(mean_a || mean_b) || linear == LinearIn::sum ||
                    (linear == LinearIn::either && !(varies_a && varies_b)) ||
                    (linear == LinearIn::first && !varies_b);
  check<ReplicaError>(
      fine, name, "an operand of shape ", mean_a ? a.shape() : b.shape(),
      ", computed from the batch and without an axis of samples first, meets one of shape ",
      mean_a ? b.shape() : a.shape(),
      " with a value for each replica: where separate passes would have one of each slice, use "
      "slice_mean(losses, parameter), or the losses of the samples before their mean");
}

/// Notes on y the axis along which the samples lie in operands that are broadcast to its shape.
/// @throws ReplicaError if they lie along different axes, or if the samples of one operand meet, along another
/// axis, as many rows of y that may be samples.
LPF_ONCE void follow_broadcast(const char* operation, const Tensor& y, const Operands& operands) {
  if (backward_read.operation) return;
  const Shape& shape = y.shape();
  int first = -1, last = -1;
  bool mixed = false;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const Tensor& x = operands[i];
    mixed |= x.impl().sample_axis == TensorImpl::mixed_axis;
    if (x.impl().sample_axis < 0) continue;
    const int lead = shape.rank() - x.rank(), axis = lead + x.impl().sample_axis;
    const bool repeated = axis > 0 && shape[0] != 1 && (lead > 0 || x.shape()[0] == 1);
    const bool other = last >= 0 && axis != last;
    last = std::max(last, axis);
    first = first < 0 ? axis : std::min(first, axis);
    check<ReplicaError>(!other && !(repeated && shape[0] == shape[axis]), operation, "the ", shape[last],
                        " samples of one operand, each with the replica of its slice, would go along axis ",
                        last, " of ", shape, ", whose samples are along axis ", other ? first : 0,
                        ": read rows that are the same for all samples (positions) with Embedding::rows(), "
                        "embedding(…, {.batched = false}), or indices of every sample, expand(indices, {B, "
                        "T}); what has one row a "
                        "sample, unsqueeze behind the batch");
  }
  if (last >= 0 && !mixed) y.impl().sample_axis = static_cast<std::int8_t>(last);
}

/// ReplicaError if the samples of x, computed in a perturbed pass, do not lie along its first axis.
LPF_ONCE void check_samples_first(const char* operation, const Tensor& x) {
  const TensorImpl& of = x.impl();
  check<ReplicaError>(
      !of.from_samples || of.sample_axis == 0 || of.sample_axis == of.unknown_axis, operation,
      "a perturbed parameter meets an activation of shape ", x.shape(), ", in which the samples ",
      of.sample_axis < 0 ? "were summed or mixed" : "do not lie along the first axis: permute it");
}

/// For an operation that is not linear: ReplicaError if it is applied to a mean over the batch of a perturbed pass.
LPF_ONCE void check_not_batch_mean(const char* operation, const Tensor& x) {
  if (!is_batch_mean(x) || !is_differentiated(x)) return;
  fail<ReplicaError>(
      operation,
      "is not linear, and is applied to a mean (or sum) over the batch of a perturbed pass, where "
      "each slice is a pass of its own: use slice_mean(losses, parameter), the means of the slices "
      "as replicas; detach() it to look at its value");
}

/// For a function over `axes` that is not linear: ReplicaError if the samples lie along one of them.
LPF_ONCE void check_each_sample(const char* operation, const Tensor& x, const Axes& axes) {
  check_not_batch_mean(operation, x);
  const TensorImpl& of = x.impl();
  if (!of.from_samples || !is_differentiated(x)) return;
  for (const int axis : axes)
    check<ReplicaError>(
        axis != of.sample_axis, operation, "is not linear, and goes over the samples (axis ", axis,
        ") of an activation ", x.shape(),
        " of a perturbed pass, where each slice is a pass of its own: compute it for each sample, "
        "or from slice_mean(values, parameter), the means of the slices as replicas");
}

/// For plain operands: ReplicaError if one is a mean over the batch, and the other, by which it is multiplied or
/// to whose samples it is added, was computed from the batch too.
LPF_ONCE void check_mean_beside(const char* operation, const Tensor& a, const Tensor& b, bool added) {
  if (!a.impl().from_samples || !b.impl().from_samples) return;
  const bool mean_a = is_batch_mean(a), mean_b = is_batch_mean(b);
  if (added ? mean_a == mean_b : !(mean_a || mean_b)) return;
  check<ReplicaError>(!is_differentiated(a) && !is_differentiated(b), operation,
                      "combines a mean (or sum) over the batch of a perturbed pass, of shape ",
                      mean_a ? a.shape() : b.shape(), ", with what was computed from the batch, ",
                      mean_a ? b.shape() : a.shape(),
                      ", where each slice is a pass of its own: add it after their mean, or use "
                      "slice_mean(losses, parameter), the means of the slices as replicas");
}

}  // namespace lpf::detail
