// The network of a run and what it needs to translate: pieces and weights.
#pragma once

#include <limits>
#include <lpf/models/translation.hpp>
#include <lpf/ops/loss.hpp>
#include <lpf/text/bleu.hpp>
#include <lpf/text/pieces.hpp>
#include <lpf/train/weights.hpp>

#include "settings.hpp"

namespace translate {

inline models::Seq2SeqOptions network_options(const Settings& s, std::int64_t vocabulary) {
  return {.vocabulary = vocabulary,
          .dim = s.dim,
          .heads = s.heads,
          .feedforward = s.feedforward,
          .encoder_layers = static_cast<int>(s.encoder_layers),
          .decoder_layers = static_cast<int>(s.decoder_layers),
          .dropout = s.dropout,
          .norm_first = s.norm_first,
          .tied_generator = s.tied};
}

/// Pairs in pieces, all of them.
inline text::TokenPairs all_of(const text::Pieces& pieces, const text::Pairs& pairs) {
  return text::encode(pieces, pairs, {.shortest = 0, .longest = std::numeric_limits<std::int64_t>::max()});
}

/// The mean cross-entropy of a label, in evaluation mode, without smoothing.
inline double mean_loss(const ParameterStore& params, const models::Seq2SeqTransformer& network,
                        const text::TokenPairs& pairs) {
  const EvalMode eval(params);
  const auto off = no_grad();
  const text::TokenLoader loader(pairs, {.sentences = 64});
  double total = 0;
  std::int64_t labels = 0;
  for (std::int64_t i = 0; i < loader.batches(); ++i) {
    const text::TokenBatch batch = loader.batch(0, i);
    const Tensor logits = network(batch.source, batch.input(), batch.source_padding());
    total += cross_entropy(logits, batch.labels(),
                           {.reduction = Reduction::sum, .ignore_index = text::SpecialTokens::pad})
                 .item();
    labels += batch.label_count();
  }
  return total / static_cast<double>(labels);
}

/// Translations as text. A sentence without pieces, an empty line, stays empty.
inline std::vector<std::string> translations(const ParameterStore& params,
                                             const models::Seq2SeqTransformer& network,
                                             const text::Pieces& pieces,
                                             const std::vector<text::Tokens>& sources,
                                             const models::TranslateOptions& options = {}) {
  const auto found = models::translate(params, network, sources, options);
  std::vector<std::string> out;
  for (std::size_t i = 0; i < found.size(); ++i)
    out.push_back(sources[i].empty() ? "" : pieces.decode(found[i]));
  return out;
}

/// A trained model: the folder of a run has its settings, pieces and weights.
class Model {
 public:
  /// Loads the best weights of a run. IOError if they are not there yet; FormatError, ValueError if they do not fit.
  explicit Model(const std::string& folder)
      : settings_(read_config(folder + "/config.json")),
        pieces_(text::Pieces::load(folder + "/pieces.model")),
        params_({.seed = settings_.seed}),
        network_(nn::Path(params_), network_options(settings_, pieces_.size())) {
    load_weights(folder + "/best.safetensors", params_, {});
  }

  const Settings& settings() const { return settings_; }
  /// Translations of sentences, which are taken in lower case if the model is.
  std::vector<std::string> operator()(const std::vector<std::string>& sentences,
                                      const models::TranslateOptions& options) const {
    std::vector<text::Tokens> sources;
    for (const std::string& s : sentences) sources.push_back(pieces_.encode(s));
    return translations(params_, network_, pieces_, sources, options);
  }
  /// BLEU and loss on pairs of sentences that are already in the model's case, decoded greedily.
  std::pair<text::BLEU, double> test(const text::Pairs& pairs) const {
    const text::TokenPairs tokens = all_of(pieces_, pairs);
    return {text::corpus_bleu(translations(params_, network_, pieces_, tokens.source), pairs.target),
            mean_loss(params_, network_, tokens)};
  }

 private:
  Settings settings_;
  text::Pieces pieces_;
  ParameterStore params_;
  models::Seq2SeqTransformer network_;
};

}  // namespace translate
