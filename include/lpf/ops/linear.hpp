// The product of activations with a weight, y = x·wᵀ + b: the operation in which M perturbed copies of the
// weights are one batched pass. Slice r of the batch meets replica r in one strided-batched product; the
// gradient of the weight, summed over replicas, is one ordinary product dyᵀ·x over the whole batch.
#pragma once

#include "lpf/ops/replicate.hpp"

namespace lpf {

namespace detail {

Tensor slice_outer(const Tensor& a, const Tensor& b, const PlanPtr& plan, const Tensor& to = {});

/// Calls f(first replica, replicas, rows) for runs of slices of equal length: at most two where M does not
/// divide B.
template <class F>
void for_each_run(const std::vector<std::int64_t>& begin, F f) {
  const std::size_t count = begin.size() - 1;
  for (std::size_t r = 0; r < count;) {
    std::size_t end = r + 1;
    while (end < count && begin[end + 1] - begin[end] == begin[r + 1] - begin[r]) ++end;
    f(static_cast<std::int64_t>(r), static_cast<std::int64_t>(end - r), begin[r + 1] - begin[r]);
    r = end;
  }
}

/// y += x·op(w), rows of slice r by replica r. x [rows, k], w [k, n] or, transposed, [n, k]; y [rows, n].
LPF_ONCE inline void add_slice_product(const Tensor& x, const Tensor& w, bool transpose_w, double beta,
                                       const Tensor& y) {
  const std::int64_t k = x.shape()[1], n = y.shape()[1];
  const auto begin = w.is_replicated() ? w.impl().replicas->slices("linear", x.shape()[0])
                                       : std::vector<std::int64_t>{0, x.shape()[0]};
  const auto at = [](const Tensor& t, std::int64_t i) {
    return static_cast<std::byte*>(t.raw_with_replicas()) + static_cast<std::size_t>(i) * size_of(t.dtype());
  };
  for_each_run(begin, [&](std::int64_t r, std::int64_t replicas, std::int64_t rows) {
    const std::int64_t first = begin[static_cast<std::size_t>(r)];
    backend::Gemm product{x.dtype(),
                          false,
                          transpose_w,
                          rows,
                          n,
                          k,
                          at(x, first * k),
                          k,
                          rows * k,
                          nullptr,
                          transpose_w ? k : n,
                          k * n,
                          at(y, first * n),
                          n,
                          rows * n,
                          replicas,
                          1.0,
                          beta};
    const Recipe* unmade = w.impl().storage->unmade();
    if (unmade && unmade->multiply(product, r)) return;
    product.b = at(w, r * k * n);
    x.backend().gemm(product);
  });
}

/// x·op(w) with w plain or replicated.
LPF_ONCE inline Tensor slice_product(const Tensor& x, const Tensor& w, bool transpose_w) {
  Tensor y = empty({x.shape()[0], w.shape()[transpose_w ? 0 : 1]}, x.options());
  static_cast<void>(x.raw());
  add_slice_product(x, w, transpose_w, 0, y);
  return record("linear", std::move(y), {x, w}, [x, w, transpose_w](const Tensor& g, Need need) {
    Grads grads(2);
    const PlanPtr plan = gradient_plan(w);
    if (need[0]) grads[0] = slice_product(g, w, !transpose_w);
    if (need[1])
      grads[1] = transpose_w ? slice_outer(g, x, plan, landing(1)) : slice_outer(x, g, plan, landing(1));
    return grads;
  });
}

/// aᵀ·b: over all rows, added to `to` if there is one; or with a plan one product for each slice, as a
/// replicated tensor. Of bfloat16 float32.
LPF_ONCE inline Tensor slice_outer(const Tensor& a, const Tensor& b, const PlanPtr& plan, const Tensor& to) {
  const std::int64_t p = a.shape()[1], q = b.shape()[1];
  Tensor y;
  if (!plan) {
    y = to.defined() ? to : empty({p, q}, options_of_sum(a));
    a.backend().gemm({a.dtype(), true, false, p, q, a.shape()[0], a.raw(), p, 0, b.raw(), q, 0, y.raw(), q, 0,
                      1, 1.0, to.defined() ? 1.0 : 0.0, y.dtype()});
  } else {
    const auto begin = plan->slices("linear", a.shape()[0]);
    Tensor all = empty({plan->count(), p, q}, options_of_sum(a));
    for_each_run(begin, [&](std::int64_t r, std::int64_t replicas, std::int64_t rows) {
      const std::int64_t first = begin[static_cast<std::size_t>(r)];
      a.backend().gemm({a.dtype(), true, false, p, q, rows, a.alias({}, first * p).raw(), p, rows * p,
                        b.alias({}, first * q).raw(), q, rows * q, all.alias({}, r * p * q).raw(), q, p * q,
                        replicas, 1.0, 0.0, all.dtype()});
    });
    y = all.alias({p, q});
    y.impl().replicas = plan;
  }
  return record("linear_filter", std::move(y), {a, b}, [a, b](const Tensor& g, Need need) {
    const Tensor h = g.to(a.dtype());
    return Grads{need[0] ? slice_product(b, h, true) : Tensor(),
                 need[1] ? slice_product(a, h, false) : Tensor()};
  });
}

/// The bias of each row: [out] for all, or replica r for slice r. Written before the product adds to it.
LPF_ONCE inline void fill_bias(const Tensor& bias, const Tensor& y) {
  const std::int64_t n = y.shape()[1];
  const auto begin = bias.is_replicated() ? bias.impl().replicas->slices("linear", y.shape()[0])
                                          : std::vector<std::int64_t>{0, y.shape()[0]};
  const Tensor plain = bias.alias({static_cast<std::int64_t>(begin.size() - 1), n});
  for (std::size_t r = 0; r + 1 < begin.size(); ++r) {
    const Tensor rows = y.alias({begin[r + 1] - begin[r], n}, begin[r] * n);
    y.backend().assign(view_of(rows),
                       view_as(plain.alias({n}, static_cast<std::int64_t>(r) * n), rows.shape()));
  }
}

}  // namespace detail

/// y = x·wᵀ + bias. x [B, …, in], w [out, in], bias [out] or undefined; y [B, …, out]. ShapeError where they
/// do not fit. In bfloat16 the bias is float32, and so are the gradients of w and bias.
LPF_ONCE inline Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias = {}) {
  check<ShapeError>(w.rank() == 2, "linear", "the weight needs shape [out, in], got ", w.shape());
  check<ShapeError>(x.rank() >= 1 && x.shape()[x.rank() - 1] == w.shape()[1], "linear", "input has ",
                    x.rank() ? x.shape()[x.rank() - 1] : 0, " features, weight expects ", w.shape()[1],
                    ": x is ", x.shape(), ", weight is ", w.shape());
  if (detail::is_rounded(x) || detail::is_rounded(w))
    return linear(detail::rounded("linear", x), detail::rounded("linear", w), bias);
  detail::check_same_kind("linear", x, w);
  detail::check_floating("linear", x);
  const std::int64_t in = w.shape()[1], out = w.shape()[0];
  const Shape shape = x.shape().with(x.rank() - 1, out);
  if (w.is_replicated()) {  // the batch is the first axis; a longer one is met by reshaping below
    check<ShapeError>(x.rank() >= 2, "linear", "a perturbed pass needs a batch axis, x is ", x.shape());
    w.impl().replicas->slices("linear", x.shape()[0]);
  }
  const Tensor rows = reshape(x, {x.shape().product(0, x.rank() - 1), in});
  if (!bias.defined()) return reshape(detail::slice_product(rows, w, true), shape);
  check<ShapeError>(bias.shape() == Shape{out}, "linear", "the bias has shape ", bias.shape(),
                    ", the weight ", w.shape(), " needs [", out, "]");
  detail::check_kind_of_sum("linear", x, bias);
  if (bias.is_replicated()) {
    check<ShapeError>(x.rank() >= 2, "linear", "a perturbed pass needs a batch axis, x is ", x.shape());
    bias.impl().replicas->slices("linear", x.shape()[0]);
  }
  Tensor y = empty({rows.shape()[0], out}, x.options());
  detail::fill_bias(bias, y);
  detail::add_slice_product(rows, w, true, 1, y);
  y = record("linear", std::move(y), {rows, w, bias}, [rows, w, bias](const Tensor& g, Need need) {
    Grads grads(3);
    const PlanPtr plan = detail::gradient_plan(bias);
    if (need[0]) grads[0] = detail::slice_product(g, w, false);
    if (need[1]) grads[1] = detail::slice_outer(g, rows, detail::gradient_plan(w), detail::landing(1));
    if (need[2]) grads[2] = plan ? detail::slice_sum(g, plan) : sum(g, {0});
    return grads;
  });
  return reshape(y, shape);
}

}  // namespace lpf
