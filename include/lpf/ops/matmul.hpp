// Matrix products. A transposed operand is a flag of the product, never a copy.
#pragma once

#include "lpf/ops/arithmetic.hpp"

namespace lpf {

namespace detail {

/// op(A)·op(B) for A [batch…, ., .] and B [batch…, ., .], with broadcast batch
/// axes; closed under differentiation.
LPF_ONCE Tensor product(const Tensor& a, const Tensor& b, bool ta, bool tb) {
  check_same_kind("matmul", a, b);
  check_floating("matmul", a);
  const int ra = a.rank(), rb = b.rank();
  const std::int64_t m = a.shape()[ta ? ra - 1 : ra - 2], k = a.shape()[ta ? ra - 2 : ra - 1];
  const std::int64_t kb = b.shape()[tb ? rb - 1 : rb - 2], n = b.shape()[tb ? rb - 2 : rb - 1];
  check<ShapeError>(k == kb, "matmul", "inner sizes ", k, " and ", kb, " differ: operands are ", a.shape(),
                    ta ? " (transposed)" : "", " and ", b.shape(), tb ? " (transposed)" : "");
  const Shape batch_a = a.shape().slice(0, ra - 2), batch_b = b.shape().slice(0, rb - 2);
  const Shape batch = broadcast("matmul", batch_a, batch_b);
  const auto one_or_all = [&](const Tensor& t, const Shape& own) {  // a strided batch has one stride
    if (own.numel() == 1 || own == batch) return t.detach();
    Shape full = batch;
    full.push_back(t.shape()[t.rank() - 2]);
    full.push_back(t.shape()[t.rank() - 1]);
    return expand(t.detach(), full);
  };
  const Tensor pa = one_or_all(a, batch_a), pb = one_or_all(b, batch_b);
  Shape shape = batch;
  shape.push_back(m);
  shape.push_back(n);
  Tensor y = empty(shape, a.options());
  if (a.impl().from_samples || b.impl().from_samples) {
    // The samples of an operand stay along a batch axis, or along its own axis of the result.
    const auto axis_of = [&](const Tensor& t, bool transposed, bool left) {
      const int from_end = t.impl().sample_axis < 0 ? 0 : t.rank() - t.impl().sample_axis;
      const bool own = from_end == (left != transposed ? 2 : 1);
      return from_end > 2 ? shape.rank() - from_end : own ? shape.rank() - (left ? 2 : 1) : -1;
    };
    const int of_a = axis_of(a, ta, true), of_b = axis_of(b, tb, false);
    const int axis = std::max(of_a, of_b);
    check_mean_beside("matmul", a, b, false);
    const bool every = of_a >= 0 && of_b >= 0 && of_a != of_b;  // sample with every other
    check<ReplicaError>(
        !every || !(is_differentiated(a) || is_differentiated(b)), "matmul",
        "multiplies each sample of a perturbed pass by those of other slices, which have other "
        "replicas: such a loss is smoothed with M = 1, or computed within each sample");
    if (a.impl().sample_axis != a.impl().mixed_axis && b.impl().sample_axis != b.impl().mixed_axis)
      y.impl().sample_axis =
          axis >= 0 && !every ? static_cast<std::int8_t>(axis)
          : a.impl().sample_axis == a.impl().unknown_axis && b.impl().sample_axis == b.impl().unknown_axis
              ? y.impl().unknown_axis
          : every ? y.impl().mixed_axis
                  : y.impl().summed_axis;
  }
  backend::Gemm gemm{a.dtype(),
                     ta,
                     tb,
                     m,
                     n,
                     k,
                     pa.raw(),
                     ta ? m : k,
                     pa.numel() == m * k ? 0 : m * k,
                     pb.raw(),
                     tb ? k : n,
                     pb.numel() == k * n ? 0 : k * n,
                     y.raw(),
                     n,
                     m * n,
                     batch.numel(),
                     1.0,
                     0.0};
  if (batch_b.numel() == 1 && !ta && gemm.stride_a != 0) {  // one B for all: a single tall product
    gemm.m *= gemm.batch;
    gemm.batch = 1;
  }
  a.backend().gemm(gemm);
  return record("matmul", std::move(y), {a, b}, [a, b, ta, tb](const Tensor& g, Need need) {
    Grads grads(2);
    if (need[0]) grads[0] = sum_to(ta ? product(b, g, tb, true) : product(g, b, false, !tb), a.shape());
    if (need[1]) grads[1] = sum_to(tb ? product(g, a, true, ta) : product(a, g, !ta, false), b.shape());
    return grads;
  });
}

}  // namespace detail

namespace detail {
/// The products of the replicas of two parameters, replica by replica.
LPF_ONCE Tensor matmul_replicas(const Tensor& a, const Tensor& b) {
  const PlanPtr plan = a.impl().replicas;
  check<ReplicaError>(
      a.is_replicated() && b.is_replicated(), "matmul", "a perturbed parameter of shape ",
      a.is_replicated() ? a.shape() : b.shape(), " meets a plain tensor of shape ",
      a.is_replicated() ? b.shape() : a.shape(),
      ": an activation x [B, …, k] is multiplied by linear(x, transpose(parameter)), a constant "
      "that is the same for all replicas by replicate(constant, parameter)");
  check<ReplicaError>(b.impl().replicas == plan, "matmul",
                      "the operands are replicas of two different perturbed passes");
  check<ShapeError>(a.rank() >= 1 && b.rank() >= 1, "matmul", "operands need at least one axis, got ",
                    a.shape(), " and ", b.shape());
  const int rank = std::max({a.rank(), b.rank(), 2});
  const auto matrices = [&](const Tensor& t, int new_axis) {
    Tensor m = t.rank() == 1 ? unsqueeze(t, new_axis) : t;
    while (m.rank() < rank) m = unsqueeze(m, 0);
    return remove_replica_dim(m);
  };
  Tensor y = add_replica_dim(product(matrices(a, 0), matrices(b, 1), false, false), plan);
  if (b.rank() == 1) y = squeeze(y, -1);
  if (a.rank() == 1) y = squeeze(y, b.rank() == 1 ? -1 : -2);
  return y;
}
}  // namespace detail

/// Matrix product of the last two axes, with broadcast batch axes; a rank-1 operand is a
/// row (left) or a column (right). Of replicas with replicas: each its own.
/// @throws ReplicaError for replicas with a plain tensor; ShapeError if sizes do not fit.
LPF_ONCE Tensor matmul(const Tensor& a, const Tensor& b) {
  if (detail::any_replicated(a, b)) return detail::matmul_replicas(a, b);
  if (const auto cast = detail::cast_operands("matmul", a, b)) return matmul(cast.a, cast.b);
  check<ShapeError>(a.rank() >= 1 && b.rank() >= 1, "matmul", "operands need at least one axis, got ",
                    a.shape(), " and ", b.shape());
  Tensor y =
      detail::product(a.rank() == 1 ? unsqueeze(a, 0) : a, b.rank() == 1 ? unsqueeze(b, 1) : b, false, false);
  if (b.rank() == 1) y = squeeze(y, -1);
  if (a.rank() == 1) y = squeeze(y, b.rank() == 1 ? -1 : -2);
  return y;
}
LPF_ONCE Tensor Tensor::matmul(const Tensor& other) const { return lpf::matmul(*this, other); }

/// Inner product of two tensors of one shape, as a scalar.
LPF_ONCE Tensor dot(const Tensor& a, const Tensor& b) {
  check<ShapeError>(a.shape() == b.shape(), "dot", "shapes ", a.shape(), " and ", b.shape(), " differ");
  return sum(mul(a, b));
}

}  // namespace lpf
