// The product of activations with a weight, y = x·wᵀ + b, in which M perturbed copies of the weights are one
// batched pass. Slice r of the batch is multiplied by replica r in one strided-batched product; the gradient
// of the weight, summed over replicas, is one ordinary product Gᵀ·x over the whole batch, G = dL/dy.
#pragma once

#include "lpf/ops/weight_product.hpp"

namespace lpf {

namespace detail {

Tensor weight_gradient(const Tensor& a, const Tensor& b, const PlanPtr& plan, const Tensor& buffer = {});

/// y = x·op(w) + bias, op the transpose (forward) or nothing (backward: the gradient of the input, G·w).
/// x [rows, k], w [k, n] or, transposed, [n, k], bias [n] or undefined; y [rows, n]. Slice r of the rows uses
/// replica r of w and of the bias.
inline Tensor slice_product(const Tensor& x, const Tensor& w, bool transpose_w, const Tensor& bias = {}) {
  const std::int64_t k = x.shape()[1], n = w.shape()[transpose_w ? 0 : 1];
  Tensor y = empty({x.shape()[0], n}, x.options());
  if (bias.defined()) write_bias(bias, y);

  // [reading 6]
  // One batched product for each run of slices of equal length; there are at most two runs.
  slices_of("linear", w, x.shape()[0]).for_each_run([&](const Slices::Run& run) {
    backend::Gemm product{.dtype = x.dtype(),
                          .transpose_b = transpose_w,
                          .m = run.length,
                          .n = n,
                          .k = k,
                          .a = element(x, run.begin * k),
                          .lda = k,
                          .stride_a = run.length * k,
                          .ldb = w.shape()[1],
                          .stride_b = k * n,
                          .c = element(y, run.begin * n),
                          .ldc = n,
                          .stride_c = run.length * n,
                          .batch = run.count,
                          .beta = bias.defined() ? 1.0 : 0.0};
    if (multiply_and_draw(product, w, run.first)) return;  // replicas that are not in memory
    product.b = element(w, run.first * k * n);             // W_r of the run's slices
    w.backend().gemm(product);
  });

  // [reading 7]
  // With G = dL/dy, here g: dL/dx = G·op(w)ᵀ by slice; dL/dw = Gᵀ·x, or xᵀ·G if w is not transposed;
  // dL/dbias = Σ_i G_i, the sum of the rows.
  return record("linear", std::move(y), {x, w, bias}, [x, w, transpose_w, bias](const Tensor& g, Need need) {
    Grads grads(3);
    if (need[0]) grads[0] = slice_product(g, w, !transpose_w);
    if (need[1])
      grads[1] = transpose_w ? weight_gradient(g, x, gradient_plan(w), grad_buffer(1))
                             : weight_gradient(x, g, gradient_plan(w), grad_buffer(1));
    if (need[2]) grads[2] = sum_of_rows(g, bias);
    return grads;
  });
}

/// aᵀ·b, the gradient of a weight: over all rows, which sums over the replicas, added to `buffer` if defined;
/// or with a plan one per slice, as replicas. a [rows, p], b [rows, q].
inline Tensor weight_gradient(const Tensor& a, const Tensor& b, const PlanPtr& plan, const Tensor& buffer) {
  const std::int64_t rows = a.shape()[0], p = a.shape()[1], q = b.shape()[1];
  const Slices slices = plan ? plan->slices("linear", rows) : Slices(1, rows);
  Tensor y = buffer.defined() ? buffer : empty({slices.count(), p, q}, accumulation_options(a));
  slices.for_each_run([&](const Slices::Run& run) {
    a.backend().gemm({.dtype = a.dtype(),
                      .transpose_a = true,
                      .m = p,
                      .n = q,
                      .k = run.length,
                      .a = element(a, run.begin * p),
                      .lda = p,
                      .stride_a = run.length * p,
                      .b = element(b, run.begin * q),
                      .ldb = q,
                      .stride_b = run.length * q,
                      .c = element(y, run.first * p * q),
                      .ldc = q,
                      .stride_c = p * q,
                      .batch = run.count,
                      .beta = buffer.defined() ? 1.0 : 0.0,
                      .dtype_c = y.dtype()});
  });
  if (!buffer.defined()) y = y.alias({p, q});
  if (plan) y.impl().replicas = plan;
  return record("linear_filter", std::move(y), {a, b}, [a, b](const Tensor& g, Need need) {
    const Tensor h = g.to(a.dtype());
    return Grads{need[0] ? slice_product(b, h, true) : Tensor(),
                 need[1] ? slice_product(a, h, false) : Tensor()};
  });
}

}  // namespace detail

/// y = x·wᵀ + bias. x [B, …, in], w [out, in], bias [out] or undefined; y [B, …, out]. In bfloat16 the bias
/// and the gradients of w and bias are float32. ShapeError if the shapes do not fit.
inline Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias = {}) {
  if (const auto cast = detail::cast_operands("linear", x, w)) return linear(cast.a, cast.b, bias);
  detail::check_linear(x, w, bias);
  const std::int64_t in = w.shape()[1], out = w.shape()[0];
  const Tensor rows = reshape(x, {x.shape().product(0, x.rank() - 1), in});
  return reshape(detail::slice_product(rows, w, true, bias), x.shape().with(x.rank() - 1, out));
}

}  // namespace lpf
