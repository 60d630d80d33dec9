// Attention of several heads as a layer, and the keys and values that are kept for decoding step by step.
#pragma once

#include "lpf/nn/layer_error.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/ops/attention.hpp"
#include "lpf/ops/linear_rows.hpp"

namespace lpf::nn {

/// Keys and values of the positions so far, for decoding. Copies are independent. Without history.
class KeyValueCache {
 public:
  KeyValueCache() = default;
  /// The keys and values [B, length, 2·dim], keys first.
  explicit KeyValueCache(const Tensor& keys_values)
      : memory_(keys_values.detach()), length_(keys_values.size(1)) {}

  std::int64_t length() const { return length_; }
  /// [B, capacity, 2·dim], of which the first length() positions are set; undefined before any.
  const Tensor& memory() const { return memory_; }
  /// Appends the keys and values of further positions, [B, n, 2·dim].
  LPF_ONCE void append(const Tensor& keys_values);
  /// The cache of the samples `index` (int64 [n]), in that order and as often: for beams.
  LPF_ONCE KeyValueCache select(const Tensor& index) const;

 private:
  Tensor memory_;
  std::int64_t length_ = 0;
};

LPF_ONCE void KeyValueCache::append(const Tensor& keys_values) {
  const auto off = no_grad();
  const Tensor more = keys_values.detach();
  check<ShapeError>(more.rank() == 3, "KeyValueCache", "needs keys and values [B, n, 2·dim], got ",
                    more.shape());
  const std::int64_t batch = more.size(0), n = more.size(1), width = more.size(2);
  if (memory_.defined()) {
    check<ShapeError>(memory_.size(0) == batch && memory_.size(2) == width, "KeyValueCache",
                      "keys and values ", more.shape(), " do not continue those of ", memory_.size(0),
                      " samples of width ", memory_.size(2));
    lpf::detail::check_same_kind("KeyValueCache", memory_, more);
  }
  // Room for as many again, so that a position is moved once on average; a copy of this cache keeps its memory.
  const bool fits = memory_.defined() && length_ + n <= memory_.size(1);
  if (!fits || memory_.use_count() > 1) {
    const std::int64_t capacity = fits ? memory_.size(1) : std::max<std::int64_t>(16, 2 * (length_ + n));
    const Tensor larger = empty({batch, capacity, width}, more.options());
    if (length_ > 0)
      larger.backend().assign(lpf::detail::strided_part(larger, 1, 0, length_, 1),
                              lpf::detail::strided_part(memory_, 1, 0, length_, 1));
    memory_ = larger;
  }
  if (more.numel() > 0)
    memory_.backend().assign(lpf::detail::strided_part(memory_, 1, length_, n, 1),
                             lpf::detail::view_of(more));
  length_ += n;
}

LPF_ONCE KeyValueCache KeyValueCache::select(const Tensor& index) const {
  const auto off = no_grad();
  KeyValueCache out;
  if (memory_.defined()) out.memory_ = index_select(memory_, 0, index);
  out.length_ = length_;
  return out;
}

struct MultiheadAttentionOptions {
  double dropout = 0;  ///< of the attention weights, in training
  bool bias = true;    ///< of the four projections
  /// Of in_proj_weight and out_proj.weight; default: PyTorch's, Xavier uniform and U(±1/√dim).
  init::Initializer weight_init = {};
};

/// Attention of `heads` heads of dim/heads features each between sequences [B, L, dim]; projections of queries, keys and
/// values, attention, projection of the result. PyTorch's torch.nn.MultiheadAttention (batch_first), with its names
/// in_proj_weight [3·dim, dim], in_proj_bias, out_proj.weight, out_proj.bias and its initial values. A boolean mask is
/// true where a query may attend (AttentionMask); PyTorch's attn_mask of this layer is true where it may not.
struct MultiheadAttention {
  Path path;
  std::int64_t dim, heads;
  double dropout;
  Parameter in_proj_weight, in_proj_bias;
  Linear out_proj;
  DrawCounter draws;

  /// @throws ValueError unless dim is a positive multiple of heads, and for a dropout outside [0, 1].
  LPF_ONCE MultiheadAttention(const Path& p, std::int64_t dim, std::int64_t heads,
                              const MultiheadAttentionOptions& options = {});

  /// Self-attention: x [B, L, dim].
  Tensor operator()(const Tensor& x, const AttentionMask& mask = {}) const {
    return merge(attend_self(x, mask));
  }
  /// Queries [B, L, dim] from one sequence, keys and values [B, K, dim] from others.
  LPF_ONCE Tensor operator()(const Tensor& query, const Tensor& key, const Tensor& value,
                             const AttentionMask& mask = {}) const;
  /// Attention to another sequence, which gives keys and values: (query, memory, memory) with one product less.
  LPF_ONCE Tensor cross(const Tensor& query, const Tensor& memory, const AttentionMask& mask = {}) const;

  /// Self-attention of further positions x [B, n, dim] to themselves and those of the cache, to which they are added;
  /// `causal` is from the cache's length on. Nothing is recorded.
  LPF_ONCE Tensor step(const Tensor& x, KeyValueCache& cache, AttentionMask mask = {}) const;
  /// The keys and values of a sequence, for attend(). Nothing is recorded.
  LPF_ONCE KeyValueCache keys_values(const Tensor& memory) const;
  /// Attention to the positions of a cache. Nothing is recorded.
  LPF_ONCE Tensor attend(const Tensor& query, const KeyValueCache& cache,
                         const AttentionMask& mask = {}) const;

  /// The attention weights [B, heads, L, K] of queries to keys, for pictures; without dropout. Nothing is recorded.
  LPF_ONCE Tensor weights(const Tensor& query, const Tensor& key, const AttentionMask& mask = {}) const;

 private:
  LPF_ONCE static const Path& checked(const Path& p, std::int64_t features, std::int64_t number,
                                      const MultiheadAttentionOptions& options) {
    check(features > 0 && number > 0 && features % number == 0, "MultiheadAttention", "'", p.name(),
          "': ", features, " features cannot be divided among ", number, " heads");
    check(options.dropout >= 0 && options.dropout <= 1, "MultiheadAttention", "'", p.name(),
          "': dropout must be in [0, 1], got ", options.dropout);
    return p;
  }
  LPF_ONCE Tensor project(const Tensor& x, int first, int count) const;
  LPF_ONCE Tensor attend(const std::vector<Tensor>& operands, std::int64_t keys,
                         const AttentionMask& mask) const;
  LPF_ONCE Tensor attend_self(const Tensor& x, const AttentionMask& mask) const;
  Tensor merge(const Tensor& values) const { return out_proj(values); }
};

LPF_ONCE MultiheadAttention::MultiheadAttention(const Path& p, std::int64_t features, std::int64_t number,
                                                const MultiheadAttentionOptions& options)
    : path(checked(p, features, number, options)),
      dim(features),
      heads(number),
      dropout(options.dropout),
      in_proj_weight(p.parameter("in_proj_weight", {3 * features, features},
                                 options.weight_init ? options.weight_init : init::xavier_uniform())),
      in_proj_bias(options.bias ? p.parameter("in_proj_bias", {3 * features}, init::zeros()) : Parameter()),
      out_proj(p / "out_proj", features, features,
               {.bias = options.bias, .weight_init = options.weight_init, .bias_init = init::zeros()}),
      draws(p.draw_counter()) {}

/// `count` of the projections (queries, keys, values) from `first` on, side by side: [B, L, count·dim].
LPF_ONCE Tensor MultiheadAttention::project(const Tensor& x, int first, int count) const {
  check<ShapeError>(x.rank() == 3 && x.size(2) == dim, "MultiheadAttention", "'", path.name(),
                    "' needs sequences [B, L, ", dim, "], got ", x.shape());
  return detail::in_layer(in_proj_weight, [&] {
    if (count == 3) return linear(x, in_proj_weight, in_proj_bias);
    return lpf::detail::linear_rows(x, in_proj_weight, in_proj_bias, first * dim, count * dim);
  });
}

LPF_ONCE Tensor MultiheadAttention::attend(const std::vector<Tensor>& operands, std::int64_t keys,
                                           const AttentionMask& mask) const {
  const std::int64_t width = dim / heads, batch = operands[0].size(0), queries = operands[0].size(1);
  AttentionOptions options;
  if (path.training() && dropout > 0) {
    options.dropout = dropout;
    options.first_element = MicroBatch::first_row("MultiheadAttention", batch) * heads * queries * keys;
    options.key = draws.next_of_batch("MultiheadAttention", path.name());
  }
  return detail::in_layer(in_proj_weight, [&] {
    return lpf::detail::attention({true, heads, heads, width, width, keys}, operands, mask, options);
  });
}

LPF_ONCE Tensor MultiheadAttention::attend_self(const Tensor& x, const AttentionMask& mask) const {
  return attend({project(x, 0, 3)}, x.size(1), mask);
}

LPF_ONCE Tensor MultiheadAttention::operator()(const Tensor& query, const Tensor& key, const Tensor& value,
                                               const AttentionMask& mask) const {
  check<ShapeError>(key.shape() == value.shape(), "MultiheadAttention", "'", path.name(), "': keys ",
                    key.shape(), " and values ", value.shape(), " need one shape");
  return merge(attend({project(query, 0, 1), project(key, 1, 1), project(value, 2, 1)}, key.size(1), mask));
}

LPF_ONCE Tensor MultiheadAttention::cross(const Tensor& query, const Tensor& memory,
                                          const AttentionMask& mask) const {
  return merge(attend({project(query, 0, 1), project(memory, 1, 2)}, memory.size(1), mask));
}

LPF_ONCE Tensor MultiheadAttention::step(const Tensor& x, KeyValueCache& cache, AttentionMask mask) const {
  const auto off = no_grad();
  const Tensor all = project(x, 0, 3);
  mask.first_query += cache.length();
  cache.append(narrow(all, 2, dim, 2 * dim));
  return merge(attend({narrow(all, 2, 0, dim), cache.memory()}, cache.length(), mask));
}

LPF_ONCE KeyValueCache MultiheadAttention::keys_values(const Tensor& memory) const {
  const auto off = no_grad();
  return KeyValueCache(project(memory, 1, 2));
}

LPF_ONCE Tensor MultiheadAttention::attend(const Tensor& query, const KeyValueCache& cache,
                                           const AttentionMask& mask) const {
  const auto off = no_grad();
  check<StateError>(cache.memory().defined(), "MultiheadAttention", "'", path.name(),
                    "': the cache is empty");
  return merge(attend({project(query, 0, 1), cache.memory()}, cache.length(), mask));
}

LPF_ONCE Tensor MultiheadAttention::weights(const Tensor& query, const Tensor& key,
                                            const AttentionMask& mask) const {
  const auto off = no_grad();
  const auto split = [&](const Tensor& t) {
    return permute(reshape(t, {t.size(0), t.size(1), heads, dim / heads}), {0, 2, 1, 3});
  };
  return attention_weights(split(project(query, 0, 1)), split(project(key, 1, 1)), mask);
}

}  // namespace lpf::nn
