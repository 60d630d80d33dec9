// Parts of attention(): how queries, keys and values lie in their operands, the masks, and attention composed of other
// operations, which has derivatives of any order.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "lpf/ops/dropout.hpp"
#include "lpf/ops/mask.hpp"
#include "lpf/ops/matmul.hpp"
#include "lpf/ops/softmax.hpp"

namespace lpf {

/// The keys that a query may attend to: those that no field excludes. A query with none has the result 0.
struct AttentionMask {
  /// Broadcasts to [B, heads, queries, keys]. bool: true where the query may attend, as in PyTorch's
  /// scaled_dot_product_attention. Of the queries' dtype: added to the scores; −∞ excludes.
  Tensor mask = {};
  Tensor key_padding = {};  ///< bool [B, keys]: true where the key is padding. PyTorch's key_padding_mask
  bool causal = false;      ///< query i attends to keys 0 … first_query + i
  std::int64_t first_query =
      0;  ///< the place of the first query among the keys; not 0 if earlier ones are cached
};

struct AttentionOptions {
  std::optional<double> scale = {};  ///< of the scores; default: 1/√D
  double dropout = 0;                ///< probability with which a weight is set to 0, as by dropout()
  NoiseKey key = {};                 ///< of dropout: weight (b, head, i, j) has the number
  std::int64_t first_element = 0;  ///< first_element + ((b·heads + head)·queries + i)·keys + j of the stream
};

namespace detail {

inline constexpr const char* attention_name = "scaled_dot_product_attention";

/// How attention's queries, keys and values lie in one, two or three operands: [qkv], [q, kv] or [q, k, v].
struct AttentionForm {
  bool rows;  // [B, L, heads·D], of one operand side by side along the last axis; otherwise [B, heads, L, D]
  std::int64_t heads, kv_heads, width, value_width;
  std::int64_t keys;  // the first keys are used; an operand may have more (a cache)

  int operand_of(int part, std::size_t operands) const {
    return std::min(part, static_cast<int>(operands) - 1);
  }
  std::int64_t heads_of(int part) const { return part == 0 ? heads : kv_heads; }
  std::int64_t width_of(int part) const { return part == 2 ? value_width : width; }
  /// The first column of a part in its operand.
  std::int64_t column_of(int part, std::size_t operands) const {
    std::int64_t at = 0;
    for (int p = part; p-- > 0 && operand_of(p, operands) == operand_of(part, operands);)
      at += heads_of(p) * width_of(p);
    return at;
  }
};

/// Queries (part 0), keys or values as [B, heads, L, D].
LPF_ONCE Tensor attention_part(const AttentionForm& form, const std::vector<Tensor>& operands, int part) {
  Tensor x = operands[static_cast<std::size_t>(form.operand_of(part, operands.size()))];
  const std::int64_t heads = form.heads_of(part), width = form.width_of(part);
  if (form.rows) {
    if (const std::int64_t all = heads * width; all != x.size(2))
      x = narrow(x, 2, form.column_of(part, operands.size()), all);
    x = permute(reshape(x, {x.size(0), x.size(1), heads, width}), {0, 2, 1, 3});
  }
  return part > 0 && x.size(2) != form.keys ? narrow(x, 2, 0, form.keys) : x;
}

/// The gradients of the operands from those of queries, keys and values [B, heads, L, D], undefined where not needed.
LPF_ONCE Grads attention_gradients(const AttentionForm& form, const std::vector<Tensor>& operands,
                                   const std::vector<Tensor>& parts) {
  Grads grads(operands.size());
  for (std::size_t i = 0; i < operands.size(); ++i) {
    std::vector<Tensor> columns;
    for (int part = 0; part < 3; ++part) {
      if (static_cast<std::size_t>(form.operand_of(part, operands.size())) != i) continue;
      Tensor g = parts[static_cast<std::size_t>(part)];
      if (!g.defined()) continue;
      if (form.rows) g = permute(g, {0, 2, 1, 3}).reshape({g.size(0), g.size(2), g.size(1) * g.size(3)});
      const int axis = form.rows ? 1 : 2;
      if (const std::int64_t length = operands[i].size(axis); g.size(axis) != length)
        g = place(g, g.shape().with(axis, length), axis, 0, 1);
      columns.push_back(g);
    }
    if (!columns.empty()) grads[i] = columns.size() == 1 ? columns[0] : concatenate(columns, 2);
  }
  return grads;
}

/// Where keys are excluded by a mask of bools: a tensor that broadcasts to [B, heads, queries, keys], or undefined.
LPF_ONCE Tensor excluded_keys(const AttentionMask& m, std::int64_t queries, std::int64_t keys,
                              Device device) {
  Tensor excluded;
  const auto also = [&](const Tensor& t) { excluded = excluded.defined() ? logical_or(excluded, t) : t; };
  if (m.mask.defined() && m.mask.dtype() == DType::bool_) also(logical_not(m.mask));
  if (m.key_padding.defined()) also(reshape(m.key_padding, {m.key_padding.size(0), 1, 1, keys}));
  if (m.causal) {
    const Tensor last = affine(positions(queries, device), 1, static_cast<double>(m.first_query));
    also(positions(keys, device) > reshape(last, {queries, 1}));
  }
  return excluded;
}

/// a·op(b) over the last two axes, under autocast() in bfloat16.
LPF_ONCE Tensor cast_product(const Tensor& a, const Tensor& b, bool ta, bool tb) {
  const auto cast = cast_operands("matmul", a, b);
  return cast ? product(cast.a, cast.b, ta, tb) : product(a, b, ta, tb);
}

/// Keys or values [B, kv heads, L, D] for every head that shares them.
LPF_ONCE Tensor shared_heads(const Tensor& x, std::int64_t heads) {
  const std::int64_t b = x.size(0), own = x.size(1), length = x.size(2), width = x.size(3);
  if (own == heads) return x;
  return reshape(expand(reshape(x, {b, own, 1, length, width}), {b, own, heads / own, length, width}),
                 {b, heads, length, width});
}
/// The adjoint of shared_heads().
LPF_ONCE Tensor sum_of_heads(const Tensor& g, std::int64_t own) {
  const std::int64_t b = g.size(0), heads = g.size(1), length = g.size(2), width = g.size(3);
  if (own == heads) return g;
  return sum(reshape(g, {b, own, heads / own, length, width}), {2});
}

/// softmax(scale·q·kᵀ + mask) of q [B, heads, queries, D], k [B, kv heads, keys, D], before dropout; rows of zeros for
/// queries that attend to nothing.
LPF_ONCE Tensor composed_weights(const Tensor& q, const Tensor& k, const AttentionMask& m, double scale) {
  const std::int64_t queries = q.size(2), keys = k.size(2);
  Tensor scores = affine(cast_product(q, shared_heads(k, q.size(1)), false, true), scale, -0.0);
  const bool added = m.mask.defined() && m.mask.dtype() != DType::bool_;
  if (added) scores = add(scores, m.mask);
  const Tensor excluded = excluded_keys(m, queries, keys, q.device()), zero = zeros({}, scores.options());
  if (excluded.defined())
    scores = where(excluded, full({}, -std::numeric_limits<double>::infinity(), scores.options()), scores);
  if (keys == 0 || !(added || excluded.defined())) return softmax(scores);
  const Tensor none = amax(scores.detach(), -1, true) == -std::numeric_limits<double>::infinity();
  const Tensor p = softmax(where(none, zero, scores));
  return where(none, zeros({}, p.options()), p);
}

/// Attention composed of other operations: q, k, v [B, heads, L, D].
LPF_ONCE Tensor composed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& m,
                                   double scale, const AttentionOptions& o) {
  const Tensor weights = dropout(composed_weights(q, k, m, scale), o.dropout, o.key, o.first_element);
  return cast_product(weights, shared_heads(v, q.size(1)), false, false);
}

/// The gradients of q, k and v, composed of differentiable operations.
LPF_ONCE std::vector<Tensor> composed_attention_backward(const Tensor& q, const Tensor& k, const Tensor& v,
                                                         const AttentionMask& m, double scale,
                                                         const AttentionOptions& o, const Tensor& g) {
  const auto dropped = [&o](const Tensor& t) { return dropout(t, o.dropout, o.key, o.first_element); };
  const Tensor p = composed_weights(q, k, m, scale), all_k = shared_heads(k, q.size(1));
  const Tensor dp = dropped(product(g, shared_heads(v, q.size(1)), false, true));
  const Tensor ds = affine(mul(p, sub(dp, sum(mul(dp, p), {-1}, true))), scale, -0.0);
  return {product(ds, all_k, false, false), sum_of_heads(product(ds, q, true, false), k.size(1)),
          sum_of_heads(product(dropped(p), g, true, false), v.size(1))};
}

}  // namespace detail

}  // namespace lpf
