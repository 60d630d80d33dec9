// Masks: elements that are chosen by a tensor of bools, or by their place in a matrix.
#pragma once

#include "lpf/backend/capture.hpp"
#include "lpf/ops/index.hpp"
#include "lpf/ops/scan.hpp"
#include "lpf/ops/scatter.hpp"

namespace lpf {

namespace detail {

LPF_ONCE void check_mask(const char* operation, const Tensor& x, const Tensor& mask) {
  check<DTypeError>(mask.dtype() == DType::bool_, operation, "the mask is ", name_of(mask.dtype()),
                    ", needs bool: compare, or convert with .to(DType::bool_)");
  check<DeviceError>(mask.device() == x.device(), operation, "the mask is on ", mask.device(),
                     ", the tensor on ", x.device(), ": move one with .to(device)");
}

/// The places of the true elements of a mask in row-major order, int64 [count]. Waits for the device, since
/// their number is the size of the result.
LPF_ONCE Tensor true_places(const char* operation, const Tensor& mask) {
  check_not_captured(operation);
  const std::int64_t n = mask.numel();
  const TensorOptions options{DType::int64, mask.device()};
  if (mask.device().is_cpu()) {
    const bool* is_true = mask.data<bool>();
    Tensor places = empty({std::count(is_true, is_true + n, true)}, options);
    std::int64_t* to = places.data<std::int64_t>();
    for (std::int64_t i = 0; i < n; ++i)
      if (is_true[i]) *to++ = i;
    return places;
  }
  if (n == 0) return empty({0}, options);
  // The true elements before each give it its place in the result; the others are written behind its end.
  const Tensor flat = reshape(mask, {n}), rank = cumsum(flat, 0);
  const auto count = slice(rank, 0, n - 1, n).item<std::int64_t>();
  const Tensor behind = full({}, static_cast<double>(count), options);
  const Tensor all = scatter(empty({count + 1}, options), 0, where(flat, affine(rank, 1, -1), behind),
                             positions(n, mask.device()));
  return slice(all, 0, 0, count);
}

/// x where element (i, j) of the last two axes is on one side of a diagonal, 0 elsewhere.
LPF_ONCE Tensor triangle(const char* operation, const Tensor& x, std::int64_t diagonal, bool lower) {
  check<ShapeError>(x.rank() >= 2, operation, "needs a matrix or a batch of them, got shape ", x.shape());
  if (x.is_replicated())
    return add_replica_dim(triangle(operation, remove_replica_dim(x), diagonal, lower), x.impl().replicas);
  const std::int64_t m = x.shape()[x.rank() - 2], n = x.shape()[x.rank() - 1];
  const auto offset = static_cast<double>(std::clamp(diagonal, -m, n));  // beyond these nothing changes
  const Tensor edge = affine(reshape(positions(m, x.device()), {m, 1}), 1, offset);
  const Tensor column = positions(n, x.device());
  return where(lower ? column <= edge : column >= edge, x, zeros({}, x.options()));
}

}  // namespace detail

/// x with `value` (of rank 0) where the mask is true; mask and x are broadcast together. The gradient of x is 0
/// there, and that of the value the sum over these places. Of replicas: a mask that broadcasts to x's own shape
/// is applied to each, replicas of masks (by replicate()) to their own. PyTorch's Tensor.masked_fill.
/// @throws DTypeError unless the mask is bool and the value has x's dtype; ShapeError if shapes do not fit;
/// ReplicaError for a mask that would broadcast a replicated x.
LPF_ONCE Tensor masked_fill(const Tensor& x, const Tensor& mask, const Tensor& value) {
  detail::check_plain("masked_fill", value);
  detail::check_mask("masked_fill", x, mask);
  check<ShapeError>(value.rank() == 0, "masked_fill", "the value has shape ", value.shape(),
                    ", needs rank 0: use where() for several");
  if (!detail::any_replicated(x, mask)) return where(mask, value, x);
  check<ReplicaError>(x.is_replicated(), "masked_fill", "replicas of a mask meet a plain tensor of shape ",
                      x.shape(), ": replicate it");
  const PlanPtr plan = x.impl().replicas;
  detail::check_batch_mean("masked_fill", value, x, detail::LinearIn::none);
  if (!mask.is_replicated()) detail::check_batch_mean("masked_fill", mask, x, detail::LinearIn::none);
  check<ReplicaError>(
      mask.rank() <= x.rank() && broadcast("masked_fill", mask.shape(), x.shape()) == x.shape(),
      "masked_fill", "a mask of shape ", mask.shape(), " would broadcast the M = ", plan->count(),
      " replicas of a parameter of shape ", x.shape(),
      ": use per_sample(parameter, x) for a mask of the batch");
  Tensor rows = mask;
  if (mask.is_replicated()) {
    check<ReplicaError>(mask.impl().replicas == plan, "masked_fill",
                        "the operands are replicas of two different perturbed passes");
    Shape shape = mask.shape();
    while (shape.rank() < x.rank()) shape = shape.prepended(1);
    rows = detail::remove_replica_dim(mask).alias(shape.prepended(plan->count()));
  }
  return detail::add_replica_dim(where(rows, value, detail::remove_replica_dim(x)), plan);
}
/// @throws DTypeError for a number that x's dtype does not hold (PyTorch rounds it).
LPF_ONCE Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  detail::check_value("masked_fill", x, value);
  return masked_fill(x, mask, full({}, value, x.options()));
}

/// The indices of the elements that are not 0 (or true), in row-major order: int64 [count, rank of x]. Its size
/// depends on the values, so it waits for a GPU, and is refused in a captured step. PyTorch's torch.nonzero.
/// @throws ReplicaError for replicas, which would have different numbers of them.
LPF_ONCE Tensor nonzero(const Tensor& x) {
  detail::check_plain("nonzero", x);
  Tensor rest = detail::true_places("nonzero", x.detach().to(DType::bool_));
  if (x.rank() == 0 || rest.numel() == 0) return empty({rest.numel(), x.rank()}, rest.options());
  std::vector<Tensor> indices(static_cast<std::size_t>(x.rank()));
  for (int axis = x.rank(); axis-- > 0;) {
    const Tensor size = full({}, static_cast<double>(x.shape()[axis]), rest.options());
    Tensor& index = indices[static_cast<std::size_t>(axis)];
    index = axis == 0 ? rest : remainder(rest, size);
    // Exact: the places are multiples of the size, and below 2^53.
    if (axis > 0) rest = div(sub(rest, index).to(float64), size.to(float64)).to(DType::int64);
  }
  return stack(indices, 1);
}

/// The elements of x where the mask is true, in row-major order, as a vector; mask and x are broadcast together.
/// Its length depends on the mask, so it waits for a GPU, and is refused in a captured step. PyTorch's
/// torch.masked_select, x[mask].
/// @throws DTypeError unless the mask is bool, ShapeError if shapes do not fit, ReplicaError for replicas.
LPF_ONCE Tensor masked_select(const Tensor& x, const Tensor& mask) {
  for (const Tensor* t : {&x, &mask}) detail::check_plain("masked_select", *t);
  detail::check_mask("masked_select", x, mask);
  const Shape shape = broadcast("masked_select", x.shape(), mask.shape());
  const Tensor places = detail::true_places("masked_select", expand(mask.detach(), shape));
  return index_select(reshape(expand(x, shape), {shape.numel()}), 0, places);
}

/// The lower triangle of the matrices [m, n] of the last two axes: x where j − i ≤ diagonal, 0 elsewhere. Of
/// replicas: each its own. PyTorch's torch.tril. @throws ShapeError for less than two axes.
LPF_ONCE Tensor tril(const Tensor& x, std::int64_t diagonal = 0) {
  return detail::triangle("tril", x, diagonal, true);
}
/// The upper triangle: x where j − i ≥ diagonal, 0 elsewhere. PyTorch's torch.triu.
LPF_ONCE Tensor triu(const Tensor& x, std::int64_t diagonal = 0) {
  return detail::triangle("triu", x, diagonal, false);
}

}  // namespace lpf
