// The network of a run and what it needs to translate: pieces and weights.
#pragma once

#include <algorithm>
#include <limits>
#include <lpf/distributed/communicator.hpp>
#include <lpf/models/translation.hpp>
#include <lpf/ops/loss.hpp>
#include <lpf/text/bleu.hpp>
#include <lpf/text/pieces.hpp>
#include <lpf/train/weights.hpp>
#include <numeric>
#include <span>

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

/// The mean cross-entropy of a label, in evaluation mode, without smoothing. Ranks share the batches; all get it.
inline double mean_loss(distributed::Communicator& world, const ParameterStore& params,
                        const models::Seq2SeqTransformer& network, const text::TokenPairs& pairs) {
  const EvalMode eval(params);
  const auto off = no_grad();
  const text::TokenLoader loader(pairs, {.sentences = 64});
  const auto ranks = static_cast<std::size_t>(world.size());
  std::vector<double> own;
  std::int64_t labels = 0;
  for (std::int64_t i = 0; i < loader.batches(); ++i) {
    const text::TokenBatch batch = loader.batch(0, i);
    labels += batch.label_count();
    if (i % world.size() != world.rank()) continue;
    const Tensor logits = network(batch.source, batch.input(), batch.source_padding());
    own.push_back(cross_entropy(logits, batch.labels(),
                                {.reduction = Reduction::sum, .ignore_index = text::SpecialTokens::pad})
                      .item());
  }
  const auto all = distributed::all_gather(world, own);
  double total = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(loader.batches()); ++i)
    total += all[i % ranks][i / ranks];
  return total / static_cast<double>(labels);
}

/// Translations as text. A sentence without pieces, an empty line, stays empty. Ranks share the batches that one process
/// would decode; all get the translations.
inline std::vector<std::string> translations(distributed::Communicator& world, const ParameterStore& params,
                                             const models::Seq2SeqTransformer& network,
                                             const text::Pieces& pieces,
                                             const std::vector<text::Tokens>& sources,
                                             const models::TranslateOptions& options = {}) {
  std::vector<std::size_t> order(sources.size());  // models::translate() sorts so
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return sources[a].size() < sources[b].size(); });
  const auto ranks = static_cast<std::size_t>(world.size()), rank = static_cast<std::size_t>(world.rank());
  const auto batch = static_cast<std::size_t>(options.batch);
  const auto owner = [&](std::size_t i) { return i / batch % ranks; };
  std::vector<text::Tokens> mine;
  for (std::size_t i = 0; i < order.size(); ++i)
    if (owner(i) == rank) mine.push_back(sources[order[i]]);
  std::vector<std::int32_t> sent;  // of each translation its length and its tokens
  for (const text::Tokens& t : models::translate(params, network, mine, options)) {
    sent.push_back(static_cast<std::int32_t>(t.size()));
    sent.insert(sent.end(), t.begin(), t.end());
  }
  const auto all = distributed::all_gather(world, sent);
  std::vector<std::size_t> at(ranks, 0);
  std::vector<std::string> out(sources.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::size_t p = owner(i), length = static_cast<std::size_t>(all[p][at[p]]);
    const std::span<const std::int32_t> tokens(&all[p][at[p]] + 1, length);
    if (!sources[order[i]].empty()) out[order[i]] = pieces.decode(tokens);
    at[p] += length + 1;
  }
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
    distributed::OneProcess alone;
    return translations(alone, params_, network_, pieces_, sources, options);
  }

 private:
  Settings settings_;
  text::Pieces pieces_;
  ParameterStore params_;
  models::Seq2SeqTransformer network_;
};

}  // namespace translate
