// A Transformer that translates sequences of tokens (Vaswani et al. 2017), in the paper's size.
#pragma once

#include <cmath>

#include "lpf/nn/positions.hpp"
#include "lpf/nn/transformer.hpp"

namespace lpf::models {

struct Seq2SeqOptions {
  std::int64_t vocabulary = 32000;  ///< of source and target together
  std::int64_t dim = 512;
  std::int64_t heads = 8;
  std::int64_t feedforward = 512;
  int encoder_layers = 3, decoder_layers = 3;
  double dropout = 0.1;
  nn::TransformerActivation activation = nn::TransformerActivation::relu;
  bool norm_first = false;      ///< pre-norm; the paper's is post-norm
  bool tied_generator = false;  ///< the generator's weight is the embedding's
};

/// The sequence-to-sequence Transformer of the LPF-SGD paper's translation experiment: one embedding of both languages,
/// times √dim, sinusoidal positions, dropout, encoder and decoder with a last layer norm each, and a linear generator.
/// Matrices are initialised with Xavier's uniform numbers. 45,424,896 parameters with the defaults. Tokens are int64
/// [B, L]; padding is bool [B, L], true where a token is padding, or undefined. Names: embedding.weight,
/// transformer.encoder.layers.0 …, transformer.decoder.layers.0 …, generator.weight, generator.bias, where PyTorch's
/// torch.nn.Transformer is `transformer`.
struct Seq2SeqTransformer {
  nn::Embedding embedding;
  nn::Dropout source_dropout, target_dropout;
  nn::TransformerEncoder encoder;
  nn::TransformerDecoder decoder;
  nn::Parameter generator_weight, generator_bias;
  double embedding_scale;

  /// @throws ValueError for sizes below one, or a dim that heads do not divide.
  LPF_ONCE explicit Seq2SeqTransformer(const nn::Path& p, const Seq2SeqOptions& options = {});

  /// Logits [B, T, vocabulary] of the token after each of `target` [B, T], given `source` [B, S].
  Tensor operator()(const Tensor& source, const Tensor& target, const Tensor& source_padding = {},
                    const Tensor& target_padding = {}) const {
    return generator(decode(target, encode(source, source_padding), target_padding, source_padding));
  }

  /// The memory [B, S, dim] of a source.
  Tensor encode(const Tensor& source, const Tensor& padding = {}) const {
    return encoder(source_dropout(embed(source)), {.key_padding = padding});
  }
  /// Features [B, T, dim] of the positions of `target`, each of which sees those before it, and the memory.
  Tensor decode(const Tensor& target, const Tensor& memory, const Tensor& padding = {},
                const Tensor& memory_padding = {}) const {
    return decoder(target_dropout(embed(target)), memory, {.key_padding = padding, .causal = true},
                   {.key_padding = memory_padding});
  }
  /// Logits [B, …, vocabulary] of features [B, …, dim].
  Tensor generator(const Tensor& features) const {
    return linear(features, generator_weight, generator_bias);
  }

  /// The beginning of step by step decoding.
  nn::DecoderCache start(const Tensor& memory, const Tensor& memory_padding = {}) const {
    return decoder.start(memory, memory_padding);
  }
  /// Logits [B, vocabulary] of the token after `tokens` (int64 [B]), the next of each sequence in the cache, which they
  /// extend. Nothing is recorded.
  LPF_ONCE Tensor step(const Tensor& tokens, nn::DecoderCache& cache) const;

  /// The weights [B, heads, T, S] of each decoder layer's attention to the source, for pictures. Nothing is recorded.
  LPF_ONCE std::vector<Tensor> attention(const Tensor& source, const Tensor& target,
                                         const Tensor& source_padding = {},
                                         const Tensor& target_padding = {}) const;

 private:
  /// √dim·row + position of tokens [B, L], of which the first is at `first`.
  LPF_ONCE Tensor embed(const Tensor& tokens, std::int64_t first = 0) const;
};

namespace detail {
inline nn::TransformerLayerOptions layer_options(const Seq2SeqOptions& o) {
  return {.feedforward = o.feedforward,
          .dropout = o.dropout,
          .activation = o.activation,
          .norm_first = o.norm_first,
          .weight_init = init::xavier_uniform()};
}
}  // namespace detail

LPF_ONCE Seq2SeqTransformer::Seq2SeqTransformer(const nn::Path& p, const Seq2SeqOptions& o)
    : embedding(p / "embedding", o.vocabulary, o.dim, {.weight_init = init::xavier_uniform()}),
      source_dropout(p / "source_dropout", o.dropout),
      target_dropout(p / "target_dropout", o.dropout),
      encoder(p / "transformer" / "encoder", o.dim, o.heads, o.encoder_layers, detail::layer_options(o),
              true),
      decoder(p / "transformer" / "decoder", o.dim, o.heads, o.decoder_layers, detail::layer_options(o),
              true),
      generator_weight(o.tied_generator
                           ? embedding.weight
                           : p.parameter("generator.weight", {o.vocabulary, o.dim}, init::xavier_uniform())),
      generator_bias(
          p.parameter("generator.bias", {o.vocabulary}, init::fan_in_uniform(static_cast<double>(o.dim)))),
      embedding_scale(std::sqrt(static_cast<double>(o.dim))) {}

LPF_ONCE Tensor Seq2SeqTransformer::embed(const Tensor& tokens, std::int64_t first) const {
  check<ShapeError>(tokens.rank() == 2, "Seq2SeqTransformer", "needs tokens [B, L], got ", tokens.shape());
  return nn::SinusoidalPositions()(affine(embedding(tokens), embedding_scale, -0.0), first);
}

LPF_ONCE Tensor Seq2SeqTransformer::step(const Tensor& tokens, nn::DecoderCache& cache) const {
  const auto off = no_grad();
  check<ShapeError>(tokens.rank() == 1, "Seq2SeqTransformer", "a step needs one token a sequence, [B], got ",
                    tokens.shape());
  const Tensor x = target_dropout(embed(unsqueeze(tokens, 1), cache.length));
  return squeeze(generator(decoder.step(x, cache)), 1);
}

LPF_ONCE std::vector<Tensor> Seq2SeqTransformer::attention(const Tensor& source, const Tensor& target,
                                                           const Tensor& source_padding,
                                                           const Tensor& target_padding) const {
  const auto off = no_grad();
  const Tensor memory = encode(source, source_padding);
  return decoder.memory_weights(target_dropout(embed(target)), memory,
                                {.key_padding = target_padding, .causal = true},
                                {.key_padding = source_padding});
}

}  // namespace lpf::models
