// Attention: values averaged with weights softmax(scale·q·kᵀ) over the keys (Vaswani et al. 2017). On the CPU forward and
// first derivatives are one kernel each, which holds a tile of the weights at a time, so that memory is linear in the
// length. Second derivatives, CUDA, and learned masks are composed of other operations (ops/attention_parts.hpp).
#pragma once

#include <cmath>

#include "lpf/ops/attention_parts.hpp"
#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/attention.hpp"
#endif

namespace lpf {

namespace detail {

/// The kernel's description of the problem.
LPF_ONCE backend::Attention attention_problem(const AttentionForm& form, const std::vector<Tensor>& operands,
                                              const AttentionMask& m, double scale,
                                              const AttentionOptions& o) {
  const int axis = form.rows ? 1 : 2;
  const auto place = [&](int part) {
    const Tensor& x = operands[static_cast<std::size_t>(form.operand_of(part, operands.size()))];
    const std::int64_t width = form.width_of(part), length = x.size(axis);
    return form.rows ? backend::Attention::Place{length * x.size(2), width, x.size(2)}
                     : backend::Attention::Place{x.size(1) * length * width, length * width, width};
  };
  const std::int64_t queries = operands[0].size(axis), heads = form.heads, width = form.value_width;
  backend::Attention a{.dtype = operands[0].dtype(),
                       .batch = operands[0].size(0),
                       .heads = heads,
                       .group = heads / form.kv_heads,
                       .queries = queries,
                       .keys = form.keys,
                       .width = form.width,
                       .value_width = width,
                       .q = place(0),
                       .k = place(1),
                       .v = place(2),
                       .y = form.rows
                                ? backend::Attention::Place{queries * heads * width, width, heads * width}
                                : backend::Attention::Place{heads * queries * width, queries * width, width},
                       .scale = scale};
  if (m.mask.defined()) {
    const backend::View view = view_as(m.mask, {a.batch, heads, queries, form.keys});
    a.mask = view.data;
    a.mask_dtype = view.dtype;
    std::copy_n(view.stride, 4, a.mask_stride);
  }
  if (m.key_padding.defined()) a.padding = static_cast<const bool*>(m.key_padding.raw());
  a.causal = m.causal;
  a.first_query = m.first_query;
  a.dropout = o.dropout;
  a.key = o.key;
  a.first_element = o.first_element;
  return a;
}

/// Where each part begins in its operand, or in a gradient of its shape; null where that is undefined.
struct AttentionPointers {
  void* part[3];
  AttentionPointers(const AttentionForm& form, const std::vector<Tensor>& operands) {
    for (int p = 0; p < 3; ++p) {
      const Tensor& x = operands[static_cast<std::size_t>(form.operand_of(p, operands.size()))];
      part[p] = x.defined() ? element(x, form.rows ? form.column_of(p, operands.size()) : 0) : nullptr;
    }
  }
};

/// Attention by the backend's kernel; its second derivatives are composed.
LPF_ONCE Tensor fused_attention(const AttentionForm& form, const std::vector<Tensor>& operands,
                                const AttentionMask& m, double scale, const AttentionOptions& o) {
  const backend::Attention problem = attention_problem(form, operands, m, scale, o);
  const Tensor& q = operands[0];
  Tensor y = empty(form.rows ? Shape{problem.batch, problem.queries, form.heads * form.value_width}
                             : Shape{problem.batch, form.heads, problem.queries, form.value_width},
                   q.options());
  const Tensor statistics = empty({problem.batch, form.heads, problem.queries, 2}, q.options());
  const AttentionPointers at(form, operands);
  q.backend().attention(problem, at.part[0], at.part[1], at.part[2], y.raw(), statistics.raw());
  return record(attention_name, y, operands, [=, y = y.detach()](const Tensor& g, Need need) {
    if (is_grad_enabled()) {
      const auto part = [&](int p) { return attention_part(form, operands, p); };
      const Tensor heads_of_g =
          form.rows ? permute(reshape(g, {g.size(0), g.size(1), form.heads, form.value_width}), {0, 2, 1, 3})
                    : g;
      return attention_gradients(
          form, operands, composed_attention_backward(part(0), part(1), part(2), m, scale, o, heads_of_g));
    }
    Grads grads(operands.size());
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const bool whole = i == 0 || operands[i].size(form.rows ? 1 : 2) == form.keys;
      if (need[i]) grads[i] = whole ? empty_like(operands[i]) : zeros_like(operands[i]);
    }
    const AttentionPointers from(form, operands), to(form, grads);
    const backend::Attention again = attention_problem(form, operands, m, scale, o);
    g.backend().attention_backward(again, from.part[0], from.part[1], from.part[2], y.raw(), statistics.raw(),
                                   g.raw(), to.part[0], to.part[1], to.part[2]);
    return grads;
  });
}

/// Checks operands, masks and options; `keys` is the number of keys of the operands.
LPF_ONCE void check_attention(const AttentionForm& form, const std::vector<Tensor>& operands,
                              const AttentionMask& m, const AttentionOptions& o) {
  const char* const name = attention_name;
  const Tensor& q = operands[0];
  check_floating(name, q);
  for (const Tensor& t : operands) {
    check_plain(name, t);
    check_same_kind(name, q, t);
    check<ReplicaError>(
        !t.impl().from_samples || t.impl().sample_axis == 0 || t.impl().sample_axis == t.impl().unknown_axis,
        name, "an operand of shape ", t.shape(),
        " was computed in a perturbed pass, and its samples do not lie along the first axis: permute it");
    check<ShapeError>(t.size(0) == q.size(0), name, "operands have batches of ", q.size(0), " and ",
                      t.size(0));
  }
  const std::int64_t queries = q.size(form.rows ? 1 : 2);
  const Shape scores{q.size(0), form.heads, queries, form.keys};
  if (m.mask.defined()) {
    check<DTypeError>(m.mask.dtype() == DType::bool_ || m.mask.dtype() == q.dtype(), name, "the mask is ",
                      name_of(m.mask.dtype()), ", needs bool, or ", name_of(q.dtype()),
                      " to be added to the scores");
    check<DeviceError>(m.mask.device() == q.device(), name, "the mask is on ", m.mask.device(),
                       ", the queries on ", q.device(), ": move one with .to(device)");
    check<ShapeError>(m.mask.rank() <= 4 && broadcast(name, m.mask.shape(), scores) == scores, name,
                      "the mask ", m.mask.shape(), " does not broadcast to the scores ", scores,
                      " [B, heads, queries, keys]");
  }
  if (m.key_padding.defined()) {
    check_plain(name, m.key_padding);
    check<DTypeError>(m.key_padding.dtype() == DType::bool_, name, "key_padding is ",
                      name_of(m.key_padding.dtype()), ", needs bool: true where the key is padding");
    check<DeviceError>(m.key_padding.device() == q.device(), name, "key_padding is on ",
                       m.key_padding.device(), ", the queries on ", q.device(),
                       ": move one with .to(device)");
    check<ShapeError>(m.key_padding.shape() == Shape{q.size(0), form.keys}, name, "key_padding has shape ",
                      m.key_padding.shape(), ", needs [B, keys] = ", Shape{q.size(0), form.keys});
  }
  check(m.first_query >= 0, name, "first_query must not be negative, got ", m.first_query);
  check(o.dropout >= 0 && o.dropout <= 1, name, "dropout must be in [0, 1], got ", o.dropout);
}

/// Attention of operands in any form.
LPF_ONCE Tensor attention(const AttentionForm& form, const std::vector<Tensor>& operands,
                          const AttentionMask& m, const AttentionOptions& o) {
  check_attention(form, operands, m, o);
  const double scale = o.scale.value_or(1 / std::sqrt(static_cast<double>(form.width)));
  const bool learned = m.mask.defined() && (m.mask.requires_grad() || m.mask.is_replicated());
  if (!learned && operands[0].backend().attention) return fused_attention(form, operands, m, scale, o);
  const auto part = [&](int p) { return attention_part(form, operands, p); };
  const Tensor y = composed_attention(part(0), part(1), part(2), m, scale, o);
  if (!form.rows) return y;
  return permute(y, {0, 2, 1, 3}).reshape({y.size(0), y.size(2), form.heads * form.value_width});
}

/// The form of operands [B, heads, L, D].
LPF_ONCE AttentionForm heads_form(const Tensor& q, const Tensor& k, const Tensor& v) {
  const char* const name = attention_name;
  for (const Tensor& t : {q, k, v})
    check<ShapeError>(t.rank() == 4, name,
                      "needs queries, keys and values [B, heads, L, D] or [B, L, D], got ", q.shape(), ", ",
                      k.shape(), ", ", v.shape());
  check<ShapeError>(
      q.size(3) == k.size(3) && k.size(1) == v.size(1) && k.size(2) == v.size(2), name,
      "queries, keys and values of shapes ", q.shape(), ", ", k.shape(), ", ", v.shape(),
      " do not fit: queries and keys need the same D, keys and values the same heads and length");
  check<ShapeError>(q.size(1) > 0 ? k.size(1) > 0 && q.size(1) % k.size(1) == 0 : k.size(1) == 0, name,
                    q.size(1), " heads of queries cannot share ", k.size(1), " heads of keys and values");
  return {false, q.size(1), k.size(1), q.size(3), v.size(3), k.size(2)};
}

}  // namespace detail

/// softmax(scale·q·kᵀ + mask)·v: each query's average of the values. q [B, heads, queries, D], k [B, heads, keys, D],
/// v [B, heads, keys, E], result [B, heads, queries, E]; or all without the axis of heads. k and v may have fewer heads,
/// by which q's are divisible: neighbouring heads share one (PyTorch's enable_gqa). A query that may attend to nothing
/// has the result 0 and the gradient 0. PyTorch's functional.scaled_dot_product_attention.
/// @throws ShapeError, DTypeError, DeviceError if operands and masks do not fit; ValueError for a dropout outside [0, 1]
/// or a negative first_query; ReplicaError for replicas, but for a mask that is added.
LPF_ONCE Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                             const AttentionMask& mask = {},
                                             const AttentionOptions& options = {}) {
  if (q.rank() == 3 && k.rank() == 3 && v.rank() == 3) {
    const auto one_head = [](const Tensor& t) { return reshape(t, {t.size(0), 1, t.size(1), t.size(2)}); };
    const Tensor y = scaled_dot_product_attention(one_head(q), one_head(k), one_head(v), mask, options);
    return reshape(y, {y.size(0), y.size(2), y.size(3)});
  }
  return detail::attention(detail::heads_form(q, k, v), {q, k, v}, mask, options);
}

/// The weights softmax(scale·q·kᵀ + mask) [B, heads, queries, keys] themselves, for pictures: q, k [B, heads, L, D].
/// Dropout is not applied. @throws as scaled_dot_product_attention().
LPF_ONCE Tensor attention_weights(const Tensor& q, const Tensor& k, const AttentionMask& mask = {},
                                  const AttentionOptions& options = {}) {
  detail::check_attention(detail::heads_form(q, k, k), {q, k}, mask, options);
  return detail::composed_weights(q, k, mask,
                                  options.scale.value_or(1 / std::sqrt(static_cast<double>(q.size(3)))));
}

}  // namespace lpf
