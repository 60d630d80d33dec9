// The layers of the Transformer (Vaswani et al. 2017) and their stacks, with PyTorch's names.
#pragma once

#include <optional>
#include <vector>

#include "lpf/nn/attention.hpp"
#include "lpf/nn/dropout.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/activation.hpp"

namespace lpf::nn {

enum class TransformerActivation { relu, gelu };

struct TransformerLayerOptions {
  std::int64_t feedforward = 2048;  ///< units of the layer between; PyTorch's dim_feedforward
  double dropout = 0.1;  ///< of attention weights, of the units between, and of what is added to the residual
  TransformerActivation activation = TransformerActivation::relu;
  bool norm_first = false;             ///< x + f(norm(x)) instead of norm(x + f(x))
  double eps = 1e-5;                   ///< of the layer norms
  bool bias = true;                    ///< of linear layers and layer norms
  init::Initializer weight_init = {};  ///< of all matrices; default: PyTorch's
};

namespace detail {

/// linear2(dropout(activation(linear1(x)))), and what both kinds of layers do with residuals.
struct FeedForward {
  Linear linear1;
  Dropout dropout;
  Linear linear2;
  TransformerActivation activation;

  FeedForward(const Path& p, std::int64_t dim, const TransformerLayerOptions& o)
      : linear1(p / "linear1", dim, o.feedforward, {.bias = o.bias, .weight_init = o.weight_init}),
        dropout(p / "dropout", o.dropout),
        linear2(p / "linear2", o.feedforward, dim, {.bias = o.bias, .weight_init = o.weight_init}),
        activation(o.activation) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor h = linear1(x);
    return linear2(dropout(activation == TransformerActivation::relu ? relu(h) : gelu(h)));
  }
};

/// One of a layer's parts with its norm and its dropout: norm(x + dropout(f(x))), or x + dropout(f(norm(x))).
struct Residual {
  LayerNorm norm;
  Dropout dropout;
  bool norm_first;

  Residual(const Path& p, int number, std::int64_t dim, const TransformerLayerOptions& o)
      : norm(p / concat("norm", number), dim, {.eps = o.eps, .bias = o.bias}),
        dropout(p / concat("dropout", number), o.dropout),
        norm_first(o.norm_first) {}
  template <class F>
  Tensor operator()(const Tensor& x, F f) const {
    return norm_first ? x + dropout(f(norm(x))) : norm(x + dropout(f(x)));
  }
};

}  // namespace detail

/// Self-attention and a layer of `feedforward` units, each with a residual connection and layer norm: x [B, L, dim].
/// PyTorch's torch.nn.TransformerEncoderLayer (batch_first), with its names self_attn, linear1, linear2, norm1, norm2.
struct TransformerEncoderLayer {
  MultiheadAttention self_attn;
  detail::FeedForward feedforward;
  detail::Residual first, second;

  TransformerEncoderLayer(const Path& p, std::int64_t dim, std::int64_t heads,
                          const TransformerLayerOptions& o = {})
      : self_attn(p / "self_attn", dim, heads,
                  {.dropout = o.dropout, .bias = o.bias, .weight_init = o.weight_init}),
        feedforward(p, dim, o),
        first(p, 1, dim, o),
        second(p, 2, dim, o) {}

  Tensor operator()(const Tensor& x, const AttentionMask& mask = {}) const {
    const Tensor h = first(x, [&](const Tensor& t) { return self_attn(t, mask); });
    return second(h, feedforward);
  }
};

/// Keys and values of a decoder layer: of the positions so far, and of the memory.
struct DecoderLayerCache {
  KeyValueCache self, memory;
};

/// Self-attention, attention to `memory` [B, K, dim], and a layer of `feedforward` units: x [B, L, dim]. PyTorch's
/// torch.nn.TransformerDecoderLayer (batch_first), with its names self_attn, multihead_attn, linear1, linear2, norm1,
/// norm2, norm3. Positions see later ones unless the mask says otherwise: {.causal = true}.
struct TransformerDecoderLayer {
  MultiheadAttention self_attn, multihead_attn;
  detail::FeedForward feedforward;
  detail::Residual first, second, third;

  TransformerDecoderLayer(const Path& p, std::int64_t dim, std::int64_t heads,
                          const TransformerLayerOptions& o = {})
      : self_attn(p / "self_attn", dim, heads,
                  {.dropout = o.dropout, .bias = o.bias, .weight_init = o.weight_init}),
        multihead_attn(p / "multihead_attn", dim, heads,
                       {.dropout = o.dropout, .bias = o.bias, .weight_init = o.weight_init}),
        feedforward(p, dim, o),
        first(p, 1, dim, o),
        second(p, 2, dim, o),
        third(p, 3, dim, o) {}

  Tensor operator()(const Tensor& x, const Tensor& memory, const AttentionMask& mask = {},
                    const AttentionMask& memory_mask = {}) const {
    return apply(
        x, [&](const Tensor& t) { return self_attn(t, mask); },
        [&](const Tensor& t) { return multihead_attn.cross(t, memory, memory_mask); });
  }
  /// Further positions x [B, n, dim], each after those before it; the cache is extended by them. Nothing is recorded.
  Tensor step(const Tensor& x, DecoderLayerCache& cache, const AttentionMask& memory_mask = {}) const {
    const auto off = no_grad();
    return apply(
        x, [&](const Tensor& t) { return self_attn.step(t, cache.self, {.causal = true}); },
        [&](const Tensor& t) { return multihead_attn.attend(t, cache.memory, memory_mask); });
  }
  /// The result, and the weights [B, heads, L, K] of the attention to the memory. Nothing is recorded.
  Tensor with_weights(const Tensor& x, const Tensor& memory, const AttentionMask& mask,
                      const AttentionMask& memory_mask, Tensor& weights) const {
    const auto off = no_grad();
    return apply(
        x, [&](const Tensor& t) { return self_attn(t, mask); },
        [&](const Tensor& t) {
          weights = multihead_attn.weights(t, memory, memory_mask);
          return multihead_attn.cross(t, memory, memory_mask);
        });
  }

 private:
  template <class Self, class Cross>
  Tensor apply(const Tensor& x, Self self, Cross cross) const {
    return third(second(first(x, self), cross), feedforward);
  }
};

/// Layers one after another, and a last layer norm if `final_norm` (PyTorch's argument norm): x [B, L, dim]. PyTorch's
/// torch.nn.TransformerEncoder, with its names layers.0 …, norm.
struct TransformerEncoder {
  std::vector<TransformerEncoderLayer> layers;
  std::optional<LayerNorm> norm;

  /// @throws ValueError for a negative number of layers.
  TransformerEncoder(const Path& p, std::int64_t dim, std::int64_t heads, int number,
                     const TransformerLayerOptions& o = {}, bool final_norm = false) {
    check(number >= 0, "TransformerEncoder", "'", p.name(), "': the number of layers is ", number);
    for (int i = 0; i < number; ++i) layers.emplace_back(p / "layers" / i, dim, heads, o);
    if (final_norm) norm.emplace(p / "norm", dim, LayerNormOptions{.eps = o.eps, .bias = o.bias});
  }

  Tensor operator()(const Tensor& x, const AttentionMask& mask = {}) const {
    Tensor y = x;
    for (const auto& layer : layers) y = layer(y, mask);
    return norm ? (*norm)(y) : y;
  }
};

/// What a decoder keeps between steps.
struct DecoderCache {
  std::vector<DecoderLayerCache> layers;
  AttentionMask memory_mask;
  std::int64_t length = 0;  ///< positions so far

  /// The cache of the samples `index` (int64 [n]), in that order and as often: for beams.
  LPF_ONCE DecoderCache select(const Tensor& index) const {
    DecoderCache out{{}, memory_mask, length};
    for (const auto& c : layers) out.layers.push_back({c.self.select(index), c.memory.select(index)});
    if (memory_mask.key_padding.defined())
      out.memory_mask.key_padding = index_select(memory_mask.key_padding, 0, index);
    return out;
  }
};

/// Layers one after another, and a last layer norm if `final_norm`: x [B, L, dim], memory [B, K, dim]. PyTorch's
/// torch.nn.TransformerDecoder, with its names layers.0 …, norm.
struct TransformerDecoder {
  std::vector<TransformerDecoderLayer> layers;
  std::optional<LayerNorm> norm;

  /// @throws ValueError for a negative number of layers.
  TransformerDecoder(const Path& p, std::int64_t dim, std::int64_t heads, int number,
                     const TransformerLayerOptions& o = {}, bool final_norm = false) {
    check(number >= 0, "TransformerDecoder", "'", p.name(), "': the number of layers is ", number);
    for (int i = 0; i < number; ++i) layers.emplace_back(p / "layers" / i, dim, heads, o);
    if (final_norm) norm.emplace(p / "norm", dim, LayerNormOptions{.eps = o.eps, .bias = o.bias});
  }

  Tensor operator()(const Tensor& x, const Tensor& memory, const AttentionMask& mask = {},
                    const AttentionMask& memory_mask = {}) const {
    Tensor y = x;
    for (const auto& layer : layers) y = layer(y, memory, mask, memory_mask);
    return norm ? (*norm)(y) : y;
  }

  /// A cache of no positions that attends to `memory`, with `padding` (bool [B, K], true where padding, or undefined).
  LPF_ONCE DecoderCache start(const Tensor& memory, const Tensor& padding = {}) const {
    DecoderCache cache{{}, {.key_padding = padding}};
    for (const auto& layer : layers) cache.layers.push_back({{}, layer.multihead_attn.keys_values(memory)});
    return cache;
  }
  /// The results for further positions x [B, n, dim], as those of the whole sequence so far with a causal mask. Nothing is
  /// recorded.
  LPF_ONCE Tensor step(const Tensor& x, DecoderCache& cache) const {
    check(cache.layers.size() == layers.size(), "TransformerDecoder", "a cache of ", cache.layers.size(),
          " layers meets a decoder of ", layers.size());
    Tensor y = x;
    for (std::size_t i = 0; i < layers.size(); ++i) y = layers[i].step(y, cache.layers[i], cache.memory_mask);
    cache.length += x.size(1);
    const auto off = no_grad();
    return norm ? (*norm)(y) : y;
  }
  /// The weights [B, heads, L, K] of each layer's attention to the memory, for pictures. Nothing is recorded.
  LPF_ONCE std::vector<Tensor> memory_weights(const Tensor& x, const Tensor& memory,
                                              const AttentionMask& mask = {},
                                              const AttentionMask& memory_mask = {}) const {
    std::vector<Tensor> weights(layers.size());
    Tensor y = x;
    for (std::size_t i = 0; i < layers.size(); ++i)
      y = layers[i].with_weights(y, memory, mask, memory_mask, weights[i]);
    return weights;
  }
};

}  // namespace lpf::nn
