// linear() with some rows of a weight, without a copy of them: the projections that share one parameter in attention.
#pragma once

#include "lpf/ops/linear.hpp"

namespace lpf {

namespace detail {

/// The rows [first, first + count) of the first axis of a parameter, or of each of its replicas, in its memory:
/// element `at` of replica r is `stride`·r + at.
struct RowsOf {
  std::int64_t first, count;
};

Tensor rows_gradient(const Tensor& a, const Tensor& b, const RowsOf& rows, std::int64_t all,
                     const PlanPtr& plan, const Tensor& buffer = {});

/// The sums of a bias' rows in a gradient of `all` elements that is 0 elsewhere; of replicas each its own.
LPF_ONCE Tensor placed_rows(const Tensor& sums, const RowsOf& rows, std::int64_t all) {
  if (!sums.is_replicated()) return place(sums, {all}, 0, rows.first, 1);
  return on_each_replica(sums, [&](const Tensor& t) { return place(t, {t.size(0), all}, 1, rows.first, 1); });
}

/// y = x·op(W) + bias with W = some rows of w [all, k]: op the transpose (forward, x [B·L, k]) or nothing (the gradient
/// of the input, x [B·L, count]).
LPF_ONCE Tensor product_with_rows(const Tensor& x, const Tensor& w, const RowsOf& rows, bool transpose_w,
                                  const Tensor& bias = {}) {
  const std::int64_t all = w.size(0), width = w.size(1), k = x.size(1), n = transpose_w ? rows.count : width;
  Tensor y = empty({x.size(0), n}, x.options());
  if (bias.defined()) write_bias(bias, y, rows.first);
  slices_of("linear", w, x.size(0)).for_each_run([&](const Slices::Run& run) {
    w.backend().gemm({.dtype = x.dtype(),
                      .transpose_b = transpose_w,
                      .m = run.length,
                      .n = n,
                      .k = k,
                      .a = element(x, run.begin * k),
                      .lda = k,
                      .stride_a = run.length * k,
                      .b = element(w, (run.first * all + rows.first) * width),
                      .ldb = width,
                      .stride_b = all * width,
                      .c = element(y, run.begin * n),
                      .ldc = n,
                      .stride_c = run.length * n,
                      .batch = run.count,
                      .beta = bias.defined() ? 1.0 : 0.0});
  });
  return record("linear_rows", std::move(y), {x, w, bias}, [=](const Tensor& g, Need need) {
    Grads grads(3);
    if (need[0]) grads[0] = product_with_rows(g, w, rows, !transpose_w);
    if (need[1])
      grads[1] = transpose_w ? rows_gradient(g, x, rows, all, gradient_plan(w), grad_buffer(1))
                             : rows_gradient(x, g, rows, all, gradient_plan(w), grad_buffer(1));
    if (need[2]) grads[2] = placed_rows(sum_of_rows(g, bias), rows, all);
    return grads;
  });
}

/// aᵀ·b in the rows of a gradient of `all` rows that is 0 elsewhere, or added to `buffer`; with a plan one for each slice,
/// as replicas.
LPF_ONCE Tensor rows_gradient(const Tensor& a, const Tensor& b, const RowsOf& rows, std::int64_t all,
                              const PlanPtr& plan, const Tensor& buffer) {
  const std::int64_t p = a.size(1), q = b.size(1), count = a.size(0);
  const Slices slices = plan ? plan->slices("linear", count) : Slices(1, count);
  Tensor y = buffer.defined() ? buffer : zeros({slices.count(), all, q}, accumulation_options(a));
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
                      .c = element(y, (run.first * all + rows.first) * q),
                      .ldc = q,
                      .stride_c = all * q,
                      .batch = run.count,
                      .beta = buffer.defined() ? 1.0 : 0.0,
                      .dtype_c = y.dtype()});
  });
  if (!buffer.defined()) y = y.alias({all, q});
  if (plan) y.impl().replicas = plan;
  return record("linear_rows_filter", std::move(y), {a, b}, [a, b, rows](const Tensor& g, Need need) {
    const Tensor h = g.to(a.dtype());
    return Grads{need[0] ? product_with_rows(b, h, rows, true) : Tensor(),
                 need[1] ? product_with_rows(a, h, rows, false) : Tensor()};
  });
}

/// y = x·Wᵀ + b with rows [first, first + count) of weight and bias: linear(x, slice(w, …), slice(b, …)), in which each
/// replica of a perturbed pass is read where it lies. x [B, …, in], w [rows, in], bias [rows] or undefined.
LPF_ONCE Tensor linear_rows(const Tensor& x, const Tensor& w, const Tensor& bias, std::int64_t first,
                            std::int64_t count) {
  if (const auto cast = cast_operands("linear", x, w)) return linear_rows(cast.a, cast.b, bias, first, count);
  check_linear(x, w, bias);
  check<IndexError>(first >= 0 && count >= 0 && first + count <= w.size(0), "linear", count, " rows from ",
                    first, " on are not all in the weight ", w.shape());
  const Tensor rows = reshape(x, {x.shape().product(0, x.rank() - 1), w.size(1)});
  return reshape(product_with_rows(rows, w, {first, count}, true, bias), x.shape().with(x.rank() - 1, count));
}

}  // namespace detail

}  // namespace lpf
